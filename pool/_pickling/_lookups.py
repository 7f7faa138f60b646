"""Globals that a worker looks up in its main module and lacks: it asks its parent for them.

Functions bring the globals that they use. But ``import __main__`` in a module of the
program's, ``getattr(sys.modules[name], ...)``, and every plain pickle that mentions a class
of the main module (a file, a value of a manager) look there without a function whose code names
the global. The main module of a worker therefore has a ``__getattr__`` (PEP 562): it asks for a
name that is missing, and binds the answer like a global that comes with a function.

A global that was asked for once is likely to be used again. If it is small, it goes with
functions from then on, so that a worker has it as it is when the function is called. If it is
large, the worker is told when it has changed, and asks again.
"""

from __future__ import annotations

import _pickle
import sys

from . import _namespaces
from ._encoding import dumps_to_worker, loads
from ._exceptions import dumps_exception
from ._origins import scope_of
from ._preludes import prelude_for_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from store._codec import Encoded

#: Kinds of answers: there is no such name; loading the payload binds it; the payload is its value;
#: it cannot be sent, and the payload is the error.
NONE = 0
BOUND = 1
VALUE = 2
REFUSED = 3

#: In place of a name: asks for a list of all names.
_ALL = "*"

#: Names that this library has put into the main module of a worker.
_OURS = frozenset({"__getattr__", "__dir__"})


def look_up(name: str) -> Any:
    """Return a global of the parent's main module; the ``__getattr__`` of the main module here.

    Raises
    ------
    AttributeError
        If the parent has none of this name, or cannot send it.
    """
    complaint = f"module '__main__' has no attribute {name!r}"
    ask = _namespaces.ask
    if ask is None or (name.startswith("__") and name.endswith("__")):
        raise AttributeError(complaint)
    answer, blobs = ask(name)
    if answer == NONE:
        raise AttributeError(complaint)
    value = loads(blobs[0], blobs[1:])
    if answer == REFUSED:
        raise AttributeError(f"{complaint} in a worker, since it cannot be sent") from value
    names = vars(sys.modules["__main__"])
    if answer == VALUE or name not in names:
        return value
    _namespaces.note_looked_up("__main__", name)
    return names[name]


def list_names() -> list[str]:
    """Return the names that the main module has here or in the parent; its ``__dir__`` here.

    A worker may have set names of its own.
    """
    names = {*vars(sys.modules["__main__"])}.difference(_OURS)
    answer, blobs = (NONE, []) if _namespaces.ask is None else _namespaces.ask(_ALL)
    if answer == VALUE:
        names.update(loads(blobs[0], blobs[1:]))
    return sorted(names)


def dumps_name(name: str) -> tuple[int, Encoded | None]:
    """Return the answer to a worker that has looked up a name; never raises.

    Returns
    -------
    (int, Encoded or None)
        The kind of the answer, and its payload.
    """
    try:
        main = sys.modules["__main__"]
        if name == _ALL:
            return VALUE, dumps_to_worker(dir(main))
        names = vars(main)
        if name not in names:
            try:
                # This process is a worker itself and asks its parent, or the main module has a
                # `__getattr__` of the program's.
                value = getattr(main, name)
            except AttributeError:
                return NONE, None
            if name not in names:
                return VALUE, dumps_to_worker(value)
        scope = scope_of(names)
        if scope is None or scope.importable:
            return VALUE, dumps_to_worker(names[name])
        return BOUND, prelude_for_name(scope.key, names, name).before(_NOTHING, [])
    except BaseException as error:
        return REFUSED, dumps_exception(error)


_NOTHING = _pickle.dumps(None, 5)
