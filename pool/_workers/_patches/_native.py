"""Find calls that set up a package where no module shows it: in its compiled code.

``RDLogger.DisableLog("rdApp.*")``, ``network.set_network_enabled(True)``: a worker that imports the
package anew knows nothing of that, and would go on in silence. What was set cannot be read, so that
workers have to inherit it.
"""

from __future__ import annotations

import sys
from types import FunctionType, ModuleType

from pool._workers._variables._data import is_of_program, module_of
from pool._workers._warmup import installed

from ._mentions import mentions_of
from ._places import CARRIED, find, looked_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._mentions import Mentions

#: How names begin of functions that programs call to set up a package, in small letters.
_BEGINNINGS = ("set", "enable", "disable", "suppress", "use", "get_config")

#: Functions of Python's own whose effect nobody can ask for, by their modules and names.
_OF_PYTHON = frozenset(
    {("posix", "register_at_fork"), ("_codecs", "register"), ("_codecs", "register_error")}
    | {("faulthandler", "register")}
)
_NAMES_OF_PYTHON = frozenset(name for _, name in _OF_PYTHON)

#: Packages that are seen to in other ways, or whose compiled code does not outlive a fork.
_LEFT_ALONE = CARRIED | {"cv2", "numpy", "pandas", "polars", "tensorflow", "torch", "xgboost"}


def sets_natively(dotted: str, names: dict[str, Any], mentions: Mentions) -> bool:
    """Return whether what a text calls for its effect sets something in compiled code.

    Parameters
    ----------
    dotted : str
        What is called, as it is written.
    names, mentions
        As for `pool._workers._patches._places.find`.
    """
    last = dotted.rpartition(".")[2].lower()
    if last in _NAMES_OF_PYTHON:
        value = _found(dotted, names, mentions)[0]
        if (getattr(value, "__module__", ""), last) in _OF_PYTHON:
            return True
    # How many threads there are in workers is seen to by `pool._workers._thread_limits`.
    if not last.startswith(_BEGINNINGS) or "thread" in last:
        return False
    value, home = _found(dotted, names, mentions)
    top = home.partition(".")[0]
    if value is None or top in _LEFT_ALONE or top in sys.stdlib_module_names:
        return False
    if is_of_program(top) or not installed(top):
        return False
    return is_native(value) or (type(value) is FunctionType and _leaves_it_to_native(value))


def _found(dotted: str, names: dict[str, Any], mentions: Mentions) -> tuple[Any, str]:
    if "." not in dotted:
        value = names.get(dotted)
        return value, "" if value is None else module_of(value)
    place = find(dotted, names, mentions)
    if place is None:
        return None, ""
    value = looked_up(place.owner, place.name)
    if type(value) in (staticmethod, classmethod):
        value = value.__func__
    return value, place.module


def is_native(value: Any) -> bool:
    """Return whether this is a function of compiled code, of whatever binding."""
    kind = type(value)
    if issubclass(kind, (FunctionType, ModuleType, type)):
        return False
    return "func" in kind.__name__.lower() or "method" in kind.__name__.lower()


def _leaves_it_to_native(function: FunctionType) -> bool:
    """Return whether a function, as SWIG writes them, hands on to one of compiled code."""
    mentions = mentions_of(function.__code__)
    for dotted in (*mentions.called, *mentions.returned):
        first, _, last = dotted.rpartition(".")
        owner = function.__globals__.get(first)
        if isinstance(owner, ModuleType) and is_native(vars(owner).get(last)):
            top = vars(owner).get("__name__", "").partition(".")[0]
            if top not in sys.stdlib_module_names:
                return True
    return False
