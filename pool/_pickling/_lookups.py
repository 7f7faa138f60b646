"""Globals that a worker looks up in its main module and does not have: its parent is asked.

Functions bring the globals that they use. But ``import __main__`` in a module of the
program's, ``getattr(sys.modules[name], ...)``, and every plain pickle that mentions a class
of the main module (a file, a value of a manager) look there without any function that could
tell. The main module of a worker therefore has a ``__getattr__`` (PEP 562): what is not
there is asked for, at that moment, and bound like what comes with a function.

What was asked for once is wanted again. If it is small it goes with functions from then on,
so that a worker has it as it is when the function is called; of what is large a worker is
told that it has changed, and asks again.
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

#: What an answer says: there is no such name; it is bound when the payload is loaded; it is the
#: payload; it cannot be sent, because of the payload.
NONE = 0
BOUND = 1
VALUE = 2
REFUSED = 3

#: In the place of a name: which names there are.
_ALL = "*"

#: What the main module of a worker has of us.
_OURS = frozenset({"__getattr__", "__dir__"})


def look_up(name: str) -> Any:
    """Return a global of the parent's main module: the ``__getattr__`` of this one's.

    Raises
    ------
    AttributeError
        If there is none, or it cannot be sent.
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
    """Return the names that the main module has here or in the parent: the ``__dir__`` of this one.

    A worker may have set some of its own.
    """
    names = {*vars(sys.modules["__main__"])}.difference(_OURS)
    answer, blobs = (NONE, []) if _namespaces.ask is None else _namespaces.ask(_ALL)
    if answer == VALUE:
        names.update(loads(blobs[0], blobs[1:]))
    return sorted(names)


def dumps_name(name: str) -> tuple[int, Encoded | None]:
    """Answer a worker that has looked up a name; never raises."""
    try:
        main = sys.modules["__main__"]
        if name == _ALL:
            return VALUE, dumps_to_worker(dir(main))
        names = vars(main)
        if name not in names:
            try:
                # Asks further up, or is the program's own way to make names.
                value = getattr(main, name)
            except AttributeError:
                return NONE, None
            if name not in names:
                return VALUE, dumps_to_worker(value)
        scope = scope_of(names)
        if scope is None or scope.importable:
            return VALUE, dumps_to_worker(names[name])
        return BOUND, prelude_for_name(scope.key, names, name).before(_NOTHING, [])
    except Exception as error:
        return REFUSED, dumps_exception(error)


_NOTHING = _pickle.dumps(None, 5)
