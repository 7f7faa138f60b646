"""Values that go along with references into another program.

Between programs a reference cannot be lent: the program that owns its object may end. So the
object's value travels with the reference, and becomes an object of the other program under the
same name.
"""

from __future__ import annotations

from pool._objects._home import current
from pool._objects._parcels import Sealed
from pool._objects._refs import FAILED, ActorRef, ObjectRef
from pool._pickling import dumps_exception, loads
from store._codec import opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pool._objects._refs import Ref


class Attachments:
    """The values of objects, all of which exist already.

    The receiver unpickles it as the list of its own program's references to them.

    Parameters
    ----------
    refs : iterable of ObjectRef
        As `reached` returns them.
    """

    def __init__(self, refs: Iterable[ObjectRef]) -> None:
        self._items = [(ref.binary(), ref._state, _portable(ref)) for ref in refs]

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpack, (self._items,)


class WithAttachments:
    """A stored value and the values of its references; unpickled as the former."""

    def __init__(self, stored: Sealed, attachments: Attachments) -> None:
        self._stored = stored
        self._attachments = attachments

    def __reduce__(self) -> tuple[Any, ...]:
        return _second, (self._attachments, self._stored)


def reached(refs: Iterable[Ref]) -> list[ObjectRef]:
    """Return the objects of references, and of those in their values and so on, each once.

    References in the value of a pending object are not known yet, and not returned.

    Raises
    ------
    TypeError
        If a handle of an actor is among them.
    """
    found: dict[ObjectRef, None] = {}
    left = list(refs)
    while left:
        ref = left.pop()
        if isinstance(ref, ActorRef):
            raise TypeError(
                f"the handle of an actor ({ref.facts.title}) cannot be sent into or out of a "
                "detached actor, which outlives its program; name the actor, make it "
                "detached, and use get_actor there"
            )
        if isinstance(ref, ObjectRef) and ref not in found:
            found[ref] = None
            if ref._value.__class__ is Sealed:
                left.extend(ref._value.refs)
    return list(found)


def _portable(ref: ObjectRef) -> Any:
    """Return the stored value; for an error its pickle, as its class may be the user's."""
    if ref._state != FAILED:
        return ref._value
    encoded = dumps_exception(ref._value)
    return bytes(encoded.data), [bytes(opened(buffer)) for buffer in encoded.buffers]


def _error_of(pickled: Any) -> BaseException:
    """Return an error that was the value of an object, or the one that its unpickling raises."""
    try:
        error: BaseException = loads(*pickled)
    except Exception as failure:
        return failure
    return error


def _unpack(items: list[tuple[bytes, int, Any]]) -> list[ObjectRef]:
    if not items:
        return []  # `current` might start a home for nothing
    home: Any = current()
    # Not under the lock: that is code of the user's.
    values = [_error_of(stored) if state == FAILED else stored for _, state, stored in items]

    def enter() -> list[ObjectRef]:
        refs = []
        for (name, state, _), value in zip(items, values, strict=True):
            ref = home.lent("o", name)
            ref._seal(state, value)
            refs.append(ref)
        return refs

    found: list[ObjectRef] = home.locked(enter)
    return found


def _second(attachments: object, stored: Sealed) -> Sealed:
    return stored
