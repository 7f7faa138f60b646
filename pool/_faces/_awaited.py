"""Calls of a Pool with references of the runtime among their arguments.

A reference that is itself an argument arrives as the value that it refers to. If that value
does not exist yet, this item waits for it and the others do not. A reference deeper inside an
argument stays a reference. If the task calls `get` on it, the Pool's worker becomes a guest of
the runtime.
"""

from __future__ import annotations

import os
import sys

from pool._in_worker._guest import WithValues
from pool._local._awaited import Awaited, ReorderingSink
from pool._local._engine import LocalEngine
from pool._local._jobs import unsendable
from pool._objects import _home
from pool._objects._outcomes import mark_handled, raisable
from pool._objects._parcels import pack
from pool._objects._refs import FAILED, Collecting, ObjectRef, Ref
from pool._pickling import dumps_function, dumps_to_worker
from pool._transport._messages import CALL, CAUGHT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from pool._local._jobs import Sink
    from pool._objects._parcels import Parcel
    from pool._transport._channel import Channel


def submit(
    engine: LocalEngine,
    func: Callable[..., Any],
    parcels: Sequence[Parcel],
    chunksize: int,
    mode: int,
    sink: Sink,
    label: Callable[[int, int], str],
    timeout: float | None,
    retries: int,
) -> int:
    """Start a job of which each chunk is sent when its arguments exist; return its number.

    Parameters
    ----------
    engine : LocalEngine
    func : callable
    parcels : sequence of Parcel
        The arguments of each call.
    chunksize : int
        Calls of one chunk.
    mode : int
        CALL (with one parcel) or MAP; CAUGHT may be added to either.
    sink : Sink
        Takes the outcomes, in terms of the input's order.
    label : callable
        Called with the first and the last index of some items; returns how errors name them.
    timeout : float or None
        Seconds for each item.
    retries : int
        Times that an item is run again.

    Returns
    -------
    int

    Raises
    ------
    TypeError
        If a task makes this call and there is a reference deeper inside an argument: the workers
        of a Pool that a task has made cannot ask the task's runtime for its value.
    """
    home: Any = _home.current()
    if not home.number:
        _refuse_inner_refs(parcels, label, "workers of a Pool that a task has made")
    elif not engine.near:
        _refuse_inner_refs(parcels, label, "workers on other machines")
    if isinstance(engine, LocalEngine) and engine.driver.aside is None:
        engine.driver.aside = Guests()
    function = engine.function(dumps_function(WithValues(func, home.number)))
    chunks = [parcels[at : at + chunksize] for at in range(0, len(parcels), chunksize)]

    def payload(place: int) -> list[Any]:
        chunk = chunks[place]
        for parcel in chunk:
            for need in parcel.needs:
                if need._state == FAILED:
                    mark_handled(need._value)
                    first = place * chunksize
                    return unsendable(raisable(need._value), label(first, first + len(chunk) - 1))
        for parcel in chunk:
            parcel.fill()
        encoded = dumps_to_worker(((chunk[0],), {}) if mode & ~CAUGHT == CALL else list(chunk))
        return encoded.packet

    def placed(first: int, last: int) -> str:
        at = source.order[first // chunksize] * chunksize
        return label(at + first % chunksize, at + last % chunksize)

    source = Awaited(len(chunks), chunksize, payload)
    held = [ref for parcel in parcels for ref in (*parcel.refs, *parcel.needs)]
    reordering = ReorderingSink(sink, source, lambda: home.let_go(held))
    source.engine = engine
    source.job_id = job_id = engine.submit(
        function, mode, source, reordering, placed, timeout, retries
    )

    def ready(places: list[int]) -> None:
        if places:
            source.ready(places)
            engine.driver.wake()

    home.when_there([[n for p in chunk for n in p.needs] for chunk in chunks], ready)
    return job_id


def _refuse_inner_refs(
    parcels: Sequence[Parcel], label: Callable[[int, int], str], who: str
) -> None:
    for index, parcel in enumerate(parcels):
        if parcel.refs:
            raise TypeError(
                f"{label(index, index)} contains {parcel.refs[0]!r}, which {who} cannot use; give "
                "references as arguments of their own, or get() their values before"
            )


def parcels_of(items: Sequence[Any], starred: bool) -> list[Parcel]:
    """Pickle the arguments of each call of a map at once; raise what `pack` raises."""
    return [pack(tuple(item) if starred else (item,), {}) for item in items]


def contain_refs(values: Iterable[Any]) -> bool:
    """Return whether `values`, or a list, tuple, set or dict among them, has a reference."""
    handles = _handles()
    pending = [values]
    # A list may contain itself.
    seen: set[int] = set()
    while pending:
        for value in pending.pop():
            if isinstance(value, (Ref, *handles)):
                return True
            if isinstance(value, (*_CONTAINERS, dict)) and id(value) not in seen:
                seen.add(id(value))
                pending.append(value.values() if isinstance(value, dict) else value)
    return False


def _handles() -> tuple[type[Any], ...]:
    """Return the classes whose objects hold a reference to an actor; none before their import."""
    classes = sys.modules.get("pool._ray._classes")
    return () if classes is None else (classes.ActorHandle, classes.ActorMethod)


#: Classes that `contain_refs` looks into. A reference in any other object is found by pickling it.
_CONTAINERS = (list, tuple, set, frozenset)


def held_back_by_refs(value: object) -> bool:
    """Return whether `value` contains references, and only they keep it from being pickled."""
    try:
        with Collecting() as refs:
            dumps_to_worker(value)
    except Exception:
        return False
    return bool(refs)


def resolved_one_by_one(items: Iterable[Any], starred: bool) -> Iterator[Any]:
    """Yield items with values in place of references, waiting for each value."""
    from pool._ray._api import get

    def value(item: Any) -> Any:
        return get(item) if isinstance(item, ObjectRef) else item

    for item in items:
        yield tuple(map(value, item)) if starred else value(item)


class Guests:
    """The `Aside` of a Pool's driver: passes connections of its workers on to the runtime."""

    outstanding = False

    def admit(self, worker: int, kind: str, fds: list[int], beside: Channel) -> None:
        """Take a connection that a worker has sent; under the lock of the Pool's driver."""
        # If there is no runtime, none is started: the task's references are of one that has ended.
        home: Any = _home.found()
        if home is None or not home.usable:
            os.close(fds[0])
        else:
            home.admit_guest(fds[0], beside)

    def bury(self, peer: Any) -> None:
        """Do nothing: the Pool answers for the tasks of a worker that died."""

    def quit(self) -> None:
        """Do nothing: the runtime has its own driver."""

    def abort(self, error: BaseException) -> None:
        """Do nothing: the runtime goes on."""
