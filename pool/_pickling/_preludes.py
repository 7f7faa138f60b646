"""Definitions that go before a message.

A prelude holds the definitions that a message refers to by token or by name of a scope: functions
and classes that travel by value, the globals that they use, and so on. It is one pickle, so that
objects which several of them have in common stay one. It is used again as long as nothing in it
has been replaced, and a worker that has entered it once skips it.

On the wire a prelude is a few instructions at the beginning of the pickle: call `enter`
with the bytes, and leave what it returns on the stack, below the message. So a message stays a
plain pickle, and what was defined is there until the message is.
"""

from __future__ import annotations

import _pickle
import os
from _weakref import ref
from collections import deque
from io import BytesIO
from itertools import count

from store._children import in_child
from store._codec import OUT_OF_BAND_MIN, collector

from ._bindings import Outdated, arrivals, in_order
from ._entered import Entered
from ._homes import begin_message, end_message
from ._kept import LARGE, Kept, sweep
from ._named import NamedValues, Unpickler, looking_for_containers, named_with
from ._namespaces import forget_scopes, versions_of
from ._needs import explore
from ._notes import Notes
from ._origins import gone_scopes
from ._reducers import Unpicklable
from ._shared import Inheriting, Sharing
from ._versions import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._picklers import Needs

#: How many preludes are kept for further use.
_KEPT = 256

#: How often a prelude is pickled anew at most, with what pickling it has found.
_ATTEMPTS = 4


class Prelude:
    """A pickled set of definitions.

    Attributes
    ----------
    identity : bytes
        Unique among all processes.
    prefix : bytes
        The beginning of each message that has this prelude.
    buffers : list of memoryview
        Come before those of the message. A large prelude is itself the first of them: otherwise
        it would be copied into each message.
    sharing : Sharing or None
        How arrays on shared memory were sent; None: as copies, to any receiver.
    nbytes : int
        Bytes of memory that it takes while it is kept.
    """

    __slots__ = (
        "__weakref__", "_looked_up", "_notes", "_watch", "buffers", "identity", "nbytes", "prefix",
        "sharing",
    )  # fmt: skip

    def __init__(
        self,
        data: bytes,
        buffers: list[memoryview],
        notes: Notes | None,
        sharing: Sharing | None,
    ) -> None:
        self.sharing = sharing
        self.identity = _new_identity()
        self.nbytes = len(data) + sum(buffer.nbytes for buffer in buffers)
        if sharing is not None and sharing.only_forks:
            self.nbytes += LARGE  # at least, for the tables that it holds
        self.buffers = buffers
        self._notes = notes
        self._looked_up = _names_looked_up
        self._watch: Watch | None = None
        inline: bytes | None = data
        if len(data) >= OUT_OF_BAND_MIN:
            self.buffers = [memoryview(data), *buffers]
            inline = None
        lasting = notes is not None
        gone = b"".join(_gone) if lasting else b""
        self.prefix = _call(self.identity, lasting, gone, inline, len(self.buffers))

    def watch(self, over: Callable[[], None]) -> None:
        """Watch the values that it was made of; `over` is called when one of them is freed."""
        if self._notes is not None:
            self._watch = Watch(self._notes.values(), over, self._notes.functions())

    def let_go(self) -> None:
        """Drop the values that it was made of: no worker that has received it is left."""
        if self._notes is not None:
            for key, name in self._notes.names():
                versions_of(key).forget(name)

    def is_current(self) -> bool:
        """Return whether nothing in it has been replaced since it was made."""
        if self._watch is None or self._notes is None or self._looked_up != _names_looked_up:
            return False
        try:
            return self._watch.holds(self._notes.values())
        except ReferenceError:
            return False

    def suits(self, inherited: int | None) -> bool:
        """Return whether it may be sent to a receiver that has inherited numbers below this."""
        return self.sharing is None or self.sharing.suits(inherited)

    def before(
        self, body: bytes, buffers: list[memoryview], sharing: Sharing | None = None
    ) -> WithPrelude:
        """Return the message that consists of this prelude and a body."""
        return WithPrelude(self, body, buffers, sharing)


class WithPrelude(Inheriting):
    """A message that begins with definitions."""

    __slots__ = ("prelude",)

    def __init__(
        self,
        prelude: Prelude,
        body: bytes,
        buffers: list[memoryview],
        sharing: Sharing | None,
    ) -> None:
        both = [part for part in (prelude.sharing, sharing) if part is not None]
        super().__init__(
            prelude.prefix + body,
            [*prelude.buffers, *buffers],
            max((part.inherits for part in both), default=0),
            [array for part in both for array in part.held],
        )
        self.prelude = prelude


_prefix = b""
_numbers = count()


def _new_identity() -> bytes:
    global _prefix
    if not _prefix:
        _prefix = os.urandom(8)
    return _prefix + next(_numbers).to_bytes(6, "little")


def _call(identity: bytes, lasting: bool, gone: bytes, data: bytes | None, buffers: int) -> bytes:
    """Return pickle instructions that call `enter`.

    If `data` is None, `enter` gets the first of the buffers instead. Nothing is memoized, so the
    memo of the body that follows begins at zero.
    """
    parts = [
        b"\x80\x05cpool._pickling._preludes\nenter\n(",
        b"C" + bytes([len(identity)]) + identity,
        b"\x88" if lasting else b"\x89",
        b"C" + bytes([len(gone)]) + gone,
    ]
    if data is not None:
        parts += [b"\x8e" + len(data).to_bytes(8, "little"), data]
    return b"".join([*parts, b"\x97" * buffers, b"tR"])


# ---------------------------------------------------------------- making


_known = Kept(_KEPT)

#: The identities of large preludes that are not used any more, the latest ones: each new prelude
#: tells them to workers, so that these drop what came with them.
_gone: deque[bytes] = deque(maxlen=16)


def prelude_for(needs: Needs, up: bool, inherited: int | None = None) -> Prelude:
    """Return a prelude that defines what is needed: a kept one, or a new one.

    Parameters
    ----------
    needs : dict
    up : bool
        Whether it goes to the parent; then it is always new.
    inherited : int, optional
        As for `_encoding.dumps_to_worker`.
    """
    if up:
        return _make(needs, True, None)
    # With the ids of the objects: another module may have the same name by now.
    key = frozenset(zip(needs, map(id, needs.values()), strict=True))
    prelude: Prelude | None = _known.get(key)
    if prelude is None or not prelude.is_current() or not prelude.suits(inherited):
        sweep()  # first drop the old one: there may not be memory for both
        prelude = _make(needs, False, inherited)
        _watch(key, prelude)
        _known.put(key, prelude)
    return prelude


def _watch(key: frozenset[Any], prelude: Prelude) -> None:
    """Have a prelude dropped as soon as a value that it was made of is freed."""
    is_large = prelude.nbytes >= LARGE
    reference = ref(prelude, _note_gone(prelude.identity) if is_large else None)

    def over() -> None:
        _known.drop(key, reference())

    prelude.watch(over)
    if is_large:
        _references[prelude.identity] = reference


#: Weak references to large preludes, by identity.
_references: dict[bytes, Any] = {}


def _note_gone(identity: bytes) -> Callable[[object], None]:
    def note(_: object) -> None:
        _references.pop(identity, None)
        _gone.append(identity)

    return note


#: Names of each scope that workers have looked up, and whether they are large.
_looked_up: dict[str, dict[str, bool]] = {}
_names_looked_up = 0


def prelude_for_name(scope_key: str, names: dict[str, Any], name: str) -> Prelude:
    """Return a prelude that defines a name which a worker has looked up."""
    global _names_looked_up
    prelude = prelude_for({(scope_key, name): names}, False, 0)  # 0: shares only named memory
    known = _looked_up.setdefault(scope_key, {})
    large = prelude.nbytes >= LARGE
    if known.get(name) is not large:
        known[name] = large
        _names_looked_up += 1  # preludes made before lack it, and are not current any more
    return prelude


def _add_looked_up(needs: Needs) -> list[Any]:
    """Add names that workers have looked up, for scopes of which other names are needed.

    Returns
    -------
    list
        An `Outdated` for each name with a large value, which a function must not bring.
    """
    outdated: list[Any] = []
    scopes = {key[0]: names for key, names in needs.items() if isinstance(key, tuple)}
    for scope_key, names in scopes.items():
        for name, large in list(_looked_up.get(scope_key, {}).items()):
            if (scope_key, name) in needs:
                continue
            if large:
                outdated.append(Outdated(scope_key, names, name))
            else:
                needs[scope_key, name] = names
    return outdated


def _make(needs: Needs, up: bool, inherited: int | None) -> Prelude:
    from ._encoding import attempt

    refused: type | None = None

    def look() -> None:
        nonlocal refused
        from ._unpicklable import any_unpicklable

        pending = explore(needs, False)
        values = (
            what.get(key[1]) if isinstance(key, tuple) else what for key, what in pending.items()
        )
        refused = any_unpicklable(values, up)
        if refused is not None:
            raise Unpicklable(refused)

    def make(implicit: bool) -> Prelude:
        return attempt(lambda kind: _pickle_needs(needs, kind, up, inherited, implicit), look)

    if up:
        return make(False)
    try:
        return make(True)
    except MemoryError:
        raise
    except Exception:
        if refused is not None:
            raise  # the functions name what has it
    # Perhaps because of a global that the functions do not name and may not use.
    try:
        return make(False)
    except (_pickle.PicklingError, MemoryError):
        raise
    except Exception as error:
        # A fork would not have asked a global, so whatever it raises says that it cannot be sent:
        # Boost's objects raise a RuntimeError, others an error of a class of their own.
        raise _pickle.PicklingError(str(error)) from error


def _pickle_needs(
    needs: Needs,
    pickler_class: Callable[..., Any],
    up: bool,
    inherited: int | None,
    implicit: bool,
) -> Prelude:
    pending = explore(needs, implicit)
    outdated: list[Any] = []
    if implicit and _looked_up:
        outdated = _add_looked_up(pending)
        pending = explore(pending, implicit)
    for _ in range(_ATTEMPTS):
        made = _pickle_explored(pending, outdated, pickler_class, up, inherited, implicit, False)
        if isinstance(made, Prelude):
            return made
        # Once more, with what only the pickling of data has found: the class of an object that
        # another object has. Its definition alone would have come with the object, but what it
        # uses only behind that, and to unpickle the object may take both: a lock is made anew.
        pending = {**pending, **made}
    made = _pickle_explored(pending, outdated, pickler_class, up, inherited, implicit, True)
    assert isinstance(made, Prelude)
    return made


def _pickle_explored(
    pending: Needs,
    outdated: list[Any],
    pickler_class: Callable[..., Any],
    up: bool,
    inherited: int | None,
    implicit: bool,
    is_last: bool,
) -> Prelude | Needs:
    """Return a prelude, or needs that came to light too late for it, unless it is the last try."""
    notes = Notes()
    file = BytesIO()
    buffers: list[memoryview] = []
    done: set[Any] = set()
    named = NamedValues() if up else named_with(pending)
    if named.containers:
        pickler_class = looking_for_containers(pickler_class)
    pickler = pickler_class(file, 5, buffer_callback=collector(buffers))
    pickler.up = up
    pickler.inline = True
    pickler.implicit = implicit
    pickler.notes = notes
    pickler.named = named.instances
    pickler.containers = named.containers
    # Also if nothing is shared: it notes whether something could have been.
    sharing = None if up else Sharing(inherited)
    pickler.sharing = sharing
    pickler.throughout = True
    has_data = False
    if gone_scopes and not up:
        pickler.dump(GoneScopes(tuple(gone_scopes)))
    while pending:
        done.update(pending)
        has_data = _dump(pickler, pending) or has_data
        found = explore(pickler.needs or {}, implicit)
        pending = {key: what for key, what in found.items() if key not in done}
        if pending and has_data and not is_last:
            return pending
    for item in outdated:
        notes.add_name(item.key, item.names, item.name)
    if outdated:
        pickler.dump(outdated)
    if sharing is not None and sharing.names:
        notes.add(sharing.standing)
    return Prelude(file.getvalue(), buffers, None if up else notes, sharing)


def _dump(pickler: Any, needs: Needs) -> bool:
    """Pickle definitions, then data; return whether there was any but modules, numbers, texts.

    What these need in turn is in `pickler.needs` afterwards.
    """
    definitions, simple, plain, others = in_order(needs, pickler.up, pickler.notes, pickler.sharing)
    pickler.needs = None
    deferred: list[Any] = []
    later: list[Any] = []
    pickler.deferred, pickler.later = deferred, later
    for items in (arrivals(simple, plain, others), definitions):
        if items:
            pickler.dump(items)
    pickler.deferred = pickler.later = None
    for items in (simple, deferred, plain, later, others):
        if items:
            pickler.dump(items)
    return bool(deferred or plain or later or others)


class GoneScopes:
    """Tells the receiver which scopes were freed."""

    __slots__ = ("_keys",)

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._keys = keys

    def __reduce__(self) -> tuple[Any, ...]:
        return forget_gone, (self._keys,)


# ---------------------------------------------------------------- entering


#: The preludes that this process has entered.
_entered = Entered()


def forget_gone(keys: tuple[str, ...]) -> None:
    """Drop scopes that the sender has freed, and what came for them."""
    for names in forget_scopes(keys):
        _entered.drop_of(names)


def enter(identity: bytes, lasting: bool, gone: bytes, data: Any, *buffers: Any) -> list[Any]:
    """Unpickle the definitions of a prelude, unless that has been done; return its objects.

    Parameters
    ----------
    identity : bytes
    lasting : bool
        Whether the prelude may come again, which one from a worker never does.
    gone : bytes
        Identities of preludes that will not come again.
    data : bytes-like
        The definitions.
    *buffers : bytes-like
    """
    for start in range(0, len(gone), len(identity)):
        _entered.drop(gone[start : start + len(identity)])
    known = _entered.get(identity)
    if known is not None:
        return known
    file = BytesIO(data)
    nbytes = memoryview(data).nbytes
    unpickler = Unpickler(file, buffers=buffers)
    held = []
    is_whole = begin_message()
    try:
        while file.tell() < nbytes:
            held.append(unpickler.load())
    finally:
        if is_whole:
            end_message()
    if lasting:
        nbytes += sum(memoryview(buffer).nbytes for buffer in buffers)
        _entered.put(identity, nbytes, held)
    return held


def _after_fork_in_child() -> None:
    global _prefix
    _prefix = b""


in_child(_after_fork_in_child)
