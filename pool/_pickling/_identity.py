"""Functions and classes that several processes know by a token.

An object that travels by value would get a copy with each message. So each one that a
program can name or meet twice has a token, given by the process where it was made. A receiver
that knows the token takes the object that it has: `isinstance` holds, ``except`` catches, an
Enum member stays one object, and tasks find again what earlier ones have left in a function's
attributes or `lru_cache`.

Objects are held weakly here. In a worker their namespace and the last preludes hold them.
"""

from __future__ import annotations

import os
import sys
from _thread import RLock
from _weakref import ref

from store._children import in_child

from ._versions import Versions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType
    from typing import Any


#: Calls a function when a module is imported; set where pools are made and where workers start. For
#: `_numbers`, which is not imported before the first class.
when_imported: Callable[[str, Callable[[ModuleType], object]], object] | None = None


class _Ref(ref):  # type: ignore[type-arg]  # of anything
    """A weak reference that knows its entry."""

    __slots__ = ("identity", "token")
    identity: int
    token: str


class Entry:
    """What is known of one object with a token.

    Attributes
    ----------
    token : str
    versions : Versions
        Of the object's attributes, as this process counts them for its workers.
    applied : dict of str to int
        The version of each attribute that this process has got from its parent.
    made_here : bool
        Whether this process, or one that it was forked from, has made the object, so that no
        definition need arrive.
    above : bool
        Whether this process's parent knows the object by this token.
    missing : set of str or None
        The attributes of a class that are still to come with the message that brought it.
    number : str or None
        Of a class that came with a number by which cloudpickle knows it, see `_numbers`.
    """

    __slots__ = ("_ref", "above", "applied", "made_here", "missing", "number", "token", "versions")

    def __init__(self, token: str, obj: Any, above: bool, made_here: bool) -> None:
        self.token = token
        self.versions = Versions()
        self.applied: dict[str, int] = {}
        self.made_here = made_here
        self.above = above
        self.missing: set[str] | None = None
        self.number: str | None = None
        self._ref = _Ref(obj, _forget)
        self._ref.identity = id(obj)
        self._ref.token = token

    @property
    def knows_state(self) -> bool:
        """Whether the object is complete: made here, or received with its state."""
        return self.made_here or bool(self.applied)

    @property
    def obj(self) -> Any:
        """The object, or None when it is gone."""
        return self._ref()


_by_identity: dict[int, Entry] = {}
_by_token: dict[str, Entry] = {}
# Reentrant: a signal handler or a finalizer may pickle while its own thread holds it.
_lock = RLock()
_prefix = ""
_count = 0


def _forget(dead: Any) -> None:
    entry = _by_token.get(dead.token)
    if entry is not None and entry._ref is dead:
        del _by_token[dead.token]
    entry = _by_identity.get(dead.identity)
    if entry is not None and entry._ref is dead:
        del _by_identity[dead.identity]


def entry_of(obj: Any) -> Entry | None:
    """Return the entry of an object that has a token."""
    entry = _by_identity.get(id(obj))
    return entry if entry is not None and entry.obj is obj else None


def entry_for(token: str) -> Entry | None:
    """Return the entry of a token whose object is alive."""
    entry = _by_token.get(token)
    return entry if entry is not None and entry.obj is not None else None


def introduce(obj: Any) -> Entry:
    """Return the entry of `obj`, which gets a token if it has none."""
    entry = entry_of(obj)
    if entry is None:
        with _lock:
            entry = entry_of(obj)
            if entry is None:
                entry = _add(Entry(_new_token(), obj, above=False, made_here=True), obj)
    return entry


def adopt(token: str, obj: Any, above: bool) -> Entry:
    """Register an object that has just been made from its definition."""
    with _lock:
        return _add(Entry(token, obj, above, made_here=False), obj)


def _add(entry: Entry, obj: Any) -> Entry:
    _by_token[entry.token] = _by_identity[id(obj)] = entry
    return entry


def _new_token() -> str:
    global _prefix, _count
    if not _prefix:
        _prefix = os.urandom(8).hex()
    _count += 1
    return f"{_prefix}-{_count:x}"


def outdated(entry: Entry, versions: dict[str, int]) -> list[str]:
    """Return the attributes of which the sender has a newer version; note these versions."""
    applied = entry.applied
    # Attributes that this process has sent itself come back as version 1 if they are unchanged.
    known = (
        {**dict.fromkeys(entry.versions.numbers(), 1), **applied} if entry.made_here else applied
    )
    names = [name for name, version in versions.items() if version > known.get(name, 0)]
    applied.update({name: versions[name] for name in names})
    return names


def forgotten(entry: Entry, names: Iterable[str]) -> list[str]:
    """Return those attributes that came from the sender, who has deleted them since.

    They are new again should they come once more.
    """
    return [name for name in names if entry.applied.pop(name, None) is not None]


def clear() -> None:
    """Forget all tokens: the program ends, and its objects with it.

    The versions of attributes hold lists and dicts, which may hold anything.
    """
    _by_token.clear()
    _by_identity.clear()


# ---------------------------------------------------------------- fork


def attributes(obj: Any) -> dict[str, Any]:
    """Return those attributes of a function or class that are sent with it."""
    if isinstance(obj, type):
        return dict(obj.__dict__)
    found = dict(getattr(obj, "__dict__", ()))
    code = getattr(obj, "__code__", None)
    if code is not None:
        found["__code__"] = code
        found["__defaults__"] = obj.__defaults__
        found["__kwdefaults__"] = obj.__kwdefaults__
    return found


def _introduce_main() -> None:
    """Give tokens to what the main module defines, just before a fork.

    The child may become a worker that inherits these objects. Then both have the same tokens for
    them, and the parent can tell later which attributes have changed since.
    """
    introduce_all("__main__", "__mp_main__")


def introduce_all(name: str, *other_names: str) -> None:
    """Give tokens to the functions and classes of a module, and to classes within these."""
    pending = list(vars(sys.modules[name]).values())
    seen = set()
    while pending:
        obj = pending.pop()
        if id(obj) in seen or not _is_from((name, *other_names), obj):
            continue
        seen.add(id(obj))
        found = attributes(obj)
        versions = introduce(obj).versions
        for attribute in found:
            versions.observe(found, attribute)
        if issubclass(type(obj), type):
            pending += [value for value in found.values() if issubclass(type(value), type)]


def _is_from(modules: tuple[str, ...], obj: Any) -> bool:
    kind = type(obj)
    if not issubclass(kind, type) and kind.__name__ not in ("function", "_lru_cache_wrapper"):
        return False
    return getattr(obj, "__module__", None) in modules


def _after_fork_in_child() -> None:
    global _lock, _prefix
    _lock = RLock()
    _prefix = ""  # tokens made from now on must differ from the parent's
    for entry in list(_by_token.values()):
        entry.versions.reset_lock()
        entry.applied = entry.versions.numbers()
        entry.made_here = True
        entry.above = True


def _quietly(function: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        try:
            function()
        except Exception:
            # An odd object in the main module has raised it. At worst a worker gets a second copy
            # of some object. An error here would be printed at every fork of the program.
            return

    return run


os.register_at_fork(before=_quietly(_introduce_main))
in_child(_quietly(_after_fork_in_child))
