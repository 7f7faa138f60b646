"""Notice that a name has got another value, without keeping the old one alive.

"Another value" means another object: identity is what a program can rely on, costs a few
nanoseconds, and needs no help from the values. An ``id`` alone will not do, because
memory is used again (``n += 1`` twice gives a third integer where the first one was). So
each ``id`` has a keeper: the value itself if its type is in `_KEPT`, else a weak reference if its
type allows one.
"""

from __future__ import annotations

from _thread import RLock
from _weakref import ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Mark = tuple[int, Any]

#: Types whose values are kept themselves: they refer to nothing, or programs replace them whole.
_KEPT = frozenset(
    {int, float, complex, str, bytes, bool, type(None), list, dict, set, tuple, frozenset}
)

MISSING: Any = object()


def keep(value: Any, gone: Callable[[Any], None] | None = None) -> Any:
    """Return an object by which to tell whether an ``id`` is still that of `value`.

    Descriptors such as properties have no weak references, and to keep them would keep their class
    alive: for these None is returned, and the ``id`` has to suffice. Other values without weak
    references (`Decimal`, `datetime`, records) are kept themselves.

    Parameters
    ----------
    value : object
    gone : callable, optional
        Called when the value is freed, if it is referred to weakly.
    """
    kind = type(value)
    if kind in _KEPT:
        return value
    try:
        return ref(value, gone)
    except TypeError:
        return None if hasattr(kind, "__get__") else value


def mark(value: Any) -> Mark:
    """Return what `is_marked` needs to recognize `value`."""
    return id(value), keep(value)


def is_marked(marked: Mark, value: Any) -> bool:
    """Return whether `value` is the object that was marked."""
    identity, keeper = marked
    if identity != id(value):
        return False
    # The type of `value` tells nothing: a new object of any type may have the same id. Without a
    # keeper the id has to suffice.
    return keeper is value or keeper is None or keeper() is value


class Versions:
    """How often each of some names has been bound to another object.

    The owner of the names asks for versions; whoever receives them compares them with
    those received before. Version numbers start at 1.
    """

    __slots__ = ("_lock", "_table")

    def __init__(self) -> None:
        #: The mark is None if the value is not kept any more.
        self._table: dict[str, tuple[int, Mark | None]] = {}
        # Reentrant: a signal handler or a finalizer may pickle while its own thread holds it. At
        # worst a name gets one version more.
        self._lock = RLock()

    def observe(self, names: Any, name: str) -> tuple[int, Any]:
        """Return version and value of ``names[name]``, or ``(0, MISSING)``.

        Parameters
        ----------
        names : mapping
            A namespace. It is read under a lock, so that of two threads the later one
            cannot record the older value.
        """
        with self._lock:
            value = names.get(name, MISSING)
            if value is MISSING:
                return 0, MISSING
            version, marked = self._table.get(name, (0, None))
            if marked is None or not is_marked(marked, value):
                version += 1
                self._table.pop(name, None)  # the youngest from now on
                self._table[name] = (version, mark(value))
            return version, value

    def standing(self, names: Any) -> list[str]:
        """Return the names that still have the value last observed, the oldest first."""
        return [
            name
            for name, (_, marked) in list(self._table.items())
            if marked is not None and is_marked(marked, names.get(name, MISSING))
        ]

    def numbers(self) -> dict[str, int]:
        """Return the version of each name."""
        return {name: version for name, (version, _) in list(self._table.items())}

    def let_go(self, names: Any) -> None:
        """Drop values that their names no longer have; never waits for the lock."""
        if not self._lock.acquire(False):
            return  # in use; the next call will do
        try:
            for name, (version, marked) in list(self._table.items()):
                if marked is not None and not is_marked(marked, names.get(name, MISSING)):
                    self._table[name] = (version, None)
        finally:
            self._lock.release()

    def forget(self, name: str) -> None:
        """Drop the value of a name; the next one that is observed gets a new version."""
        with self._lock:
            if name in self._table:
                self._table[name] = (self._table[name][0], None)

    def reset_lock(self) -> None:
        """Make the lock usable in a process that was forked while it was held."""
        self._lock = RLock()


class Watch:
    """A list of values at one time, to be compared with the list at a later time.

    Parameters
    ----------
    values : iterable
    over : callable, optional
        Called when one of the values is freed: `holds` is false from then on.
    owners : iterable
        Objects that hold some of the values; if one is freed, that counts too.
    """

    __slots__ = ("__weakref__", "_ids", "_keepers")

    def __init__(
        self,
        values: Iterable[Any],
        over: Callable[[], None] | None = None,
        owners: Iterable[Any] = (),
    ) -> None:
        values = list(values)
        self._ids: tuple[int, ...] | None = tuple(map(id, values))
        this = ref(self)

        def gone(_: object) -> None:
            watch = this()
            if watch is not None:
                watch._ids = None  # from now on another object may get one of the ids
                if over is not None:
                    over()

        self._keepers = [keep(value, gone) for value in (*values, *owners)]

    def holds(self, values: Iterable[Any]) -> bool:
        """Return whether `values` are the same objects as before."""
        return tuple(map(id, values)) == self._ids
