"""Limit the threads of libraries that a fork of the program has loaded already.

They have read their variables, and would start a thread for each CPU in all of its workers.
"""

from __future__ import annotations

import os
import sys

from pool._workers._forking import harmless_threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: By what the name of a library's file has in it: its variable, and the names of the function that
#: sets the number. Those of OpenBLAS are renamed in wheels, so that two of it can be loaded.
_SETTERS = {
    "openblas": (
        "OPENBLAS_NUM_THREADS",
        [
            f"{prefix}openblas_set_num_threads{suffix}"
            for prefix in ("scipy_", "")
            for suffix in ("64_", "")
        ],
    ),
    "libmkl_rt": ("MKL_NUM_THREADS", ["MKL_Set_Num_Threads"]),
    "libblis": ("BLIS_NUM_THREADS", ["bli_thread_set_num_threads"]),
    "libgomp": ("OMP_NUM_THREADS", ["omp_set_num_threads"]),
    "libiomp": ("OMP_NUM_THREADS", ["omp_set_num_threads"]),
    "libomp": ("OMP_NUM_THREADS", ["omp_set_num_threads"]),
}


def limit_loaded(limits: Mapping[str, str]) -> None:
    """Tell libraries of this process how many threads they may use.

    Parameters
    ----------
    limits : mapping
        From `thread_limits`: without the variables that the user's environment has.

    Notes
    -----
    OpenBLAS starts its threads when it is told so after a fork. They end with the next fork, and
    its child starts no more than it was told. So this is for a process that forks workers.
    """
    for path, variable, names in _loaded():
        if not limits.get(variable, "").isdecimal():
            continue
        import ctypes

        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue  # it was replaced since, by an update
        for name in names:
            function = getattr(library, name, None)
            if function is not None:
                function(int(limits[variable]))
                break
    # With a higher number numexpr would start threads at once, here.
    if limits.get("NUMEXPR_NUM_THREADS") == "1" and harmless_threads():
        sys.modules["numexpr.interpreter"]._set_num_threads(1)


def _loaded() -> Iterator[tuple[str, str, list[str]]]:
    """Yield the path of each such library that is loaded, with its variable and functions."""
    try:
        with open("/proc/self/maps") as file:
            paths = {line.rstrip().partition("/")[2] for line in file if ".so" in line}
    except OSError:
        return
    for path in paths:
        name = os.path.basename(path)
        for part, (variable, names) in _SETTERS.items():
            if part in name:
                yield f"/{path}", variable, names
                break
