"""Calls of a Pool with references of the runtime among their arguments.

A reference that is an argument of its own arrives as its value. What it stands for may not
be there yet: the item waits for it, the others do not. A reference deeper inside stays
one, which the task may `get`: then the Pool's worker becomes a guest of the runtime.
"""

from __future__ import annotations

import os
import sys

from pool._in_worker._guest import WithValues
from pool._local._awaited import Awaited, ReorderingSink
from pool._local._engine import LocalEngine
from pool._local._jobs import unsendable
from pool._objects import _home
from pool._objects._outcomes import told
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
    """Start a job; each chunk when its arguments are there. Return its number.

    Parameters
    ----------
    parcels : sequence of Parcel
        The arguments of each call.
    mode : int
        CALL (with one parcel) or MAP, and CAUGHT.

    Raises
    ------
    TypeError
        In a task: workers of a Pool that it has made cannot ask its runtime for what a reference
        deeper inside stands for.
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
                    told(need._value)
                    first = place * chunksize
                    return unsendable(need._value, label(first, first + len(chunk) - 1))
        for parcel in chunk:
            parcel.fill()
        encoded = dumps_to_worker(((chunk[0],), {}) if mode & ~CAUGHT == CALL else list(chunk))
        return [encoded.data, *encoded.buffers]

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
    """Pickle the arguments of each call of a map, now; raises as `pack`."""
    return [pack(tuple(item) if starred else (item,), {}) for item in items]


def contain_refs(values: Iterable[Any]) -> bool:
    """Return whether there is a reference among values, or in lists and dicts among them."""
    handles = _handles()
    pending = [values]
    # A list may contain itself.
    seen: set[int] = set()
    while pending:
        for value in pending.pop():
            if isinstance(value, (Ref, *handles)):
                return True
            if isinstance(value, (*_CONTAINERS, dict)):
                if id(value) not in seen:
                    seen.add(id(value))
                    pending.append(value.values() if isinstance(value, dict) else value)
    return False


def _handles() -> tuple[type[Any], ...]:
    """Return the classes of what holds the reference of an actor, if there can be any."""
    classes = sys.modules.get("pool._ray._classes")
    return () if classes is None else (classes.ActorHandle, classes.ActorMethod)


#: What is looked into; a reference that an object of the user's holds is found by pickle.
_CONTAINERS = (list, tuple, set, frozenset)


def held_back_by_refs(value: object) -> bool:
    """Return whether references are what keeps `value` from being sent as it is."""
    try:
        with Collecting() as refs:
            dumps_to_worker(value)
    except Exception:
        return False
    return bool(refs)


def resolved_one_by_one(items: Iterable[Any], starred: bool) -> Iterator[Any]:
    """Yield items with values in place of references; waits for each."""
    from pool._ray._api import get

    def value(item: Any) -> Any:
        return get(item) if isinstance(item, ObjectRef) else item

    for item in items:
        yield tuple(map(value, item)) if starred else value(item)


class Guests:
    """The aside of a Pool's driver: hands its workers' connections on to the runtime."""

    outstanding = False

    def admit(self, worker: int, kind: str, fds: list[int]) -> None:
        """Take a connection; under the lock of the Pool's driver."""
        # No runtime is started for this: the references that the task has are of one that ended.
        home: Any = _home.found()
        if home is None or not home.usable:
            os.close(fds[0])
        else:
            home.admit_guest(fds[0])

    def bury(self, peer: Any) -> None:
        """Do nothing: the tasks of such a worker are the Pool's."""

    def quit(self) -> None:
        """Do nothing: the runtime has its own driver."""

    def abort(self, error: BaseException) -> None:
        """Do nothing: the runtime goes on."""
