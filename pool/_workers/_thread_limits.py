"""How many threads the libraries in each worker may start: not one for each CPU in all of them."""

from __future__ import annotations

import os

#: Variables by which BLAS, OpenMP and libraries with threads of their own learn how many to start.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
    "POLARS_MAX_THREADS",
)


def thread_limits(threads: int) -> dict[str, str]:
    """Return the variables that limit each worker's libraries to `threads` threads.

    Variables that the user's environment has are left alone. If OMP_NUM_THREADS is among them, the
    others get its value: libraries look at it where their own variable is missing.
    """
    common = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    value = common if common.isdigit() else str(threads)
    return {name: value for name in THREAD_VARIABLES if name not in os.environ}
