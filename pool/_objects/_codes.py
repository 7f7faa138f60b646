"""Functions and classes as the runtime knows them: a name, a number and a pickle."""

from __future__ import annotations

from itertools import count
from weakref import WeakSet

from pool._objects._parcels import stored, views
from pool._objects._refs import Collecting
from pool._pickling import FunctionPayload, dumps_function, kept_payload
from store._codec import Encoded, opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pool._objects._refs import ActorFacts, Ref


def title_of(definition: Callable[..., Any]) -> str:
    """Return the name of a function or a class in logs and errors.

    Without the function that it was defined in, as Ray has it: programs define theirs in `main`.
    """
    name = str(getattr(definition, "__qualname__", type(definition).__qualname__))
    return name.rpartition("<locals>.")[2]


class Code:
    """A remote function or an actor class.

    Attributes
    ----------
    number : int
        Identifies it within this process.
    title : str
        Its name in logs and errors.
    refs : list of Ref
        References that its pickle contains.
    waits : bool
        Whether one of its tasks has waited for other tasks.
    """

    waits = False

    def __init__(self, definition: Callable[..., Any]) -> None:
        self.number = next(_numbers)
        self.definition = definition
        self.title = title_of(definition)
        self.module = str(getattr(definition, "__module__", ""))
        self.refs: Sequence[Ref] = ()
        #: The pickled definition, and what is sent of it: one tuple, since several threads may
        #: replace it at the same time.
        self._kept: tuple[FunctionPayload, FunctionPayload] | None = None

    def payload(self) -> FunctionPayload:
        """Return the pickle, made anew only if something that the definition uses was redefined.

        Raises
        ------
        CannotSend
            What `pool._pickling.dumps_function` raises.
        """
        payload = kept_payload(self.definition)
        kept = self._kept
        if kept is not None and payload is kept[0]:
            return kept[1]  # as for nearly every task
        if payload is None:
            with Collecting() as refs:
                payload = dumps_function(self.definition)
            payload.companions = refs
        if kept is None or not _same(payload, kept[1]):
            encoded = payload.encoded
            sent = FunctionPayload(
                Encoded(encoded.data, stored(encoded.buffers)),
                # Each worker loads it once, however many tasks it runs: so a remote function
                # keeps its state between calls.
                True,
            )
            # Of the pickle that `dumps_function` has kept, even if it was made for another `Code`.
            self.refs = payload.companions
            if sent.encoded.buffers:
                _with_data.add(self)
        else:
            sent = kept[1]
        self._kept = payload, sent
        return sent

    def let_go(self) -> None:
        """Drop the copies of data that its pickle has in the store."""
        self._kept = None
        self.refs = ()

    def in_full(self) -> SentCode:
        """Return the whole code, as it is sent to another process."""
        encoded = self.payload().encoded
        return SentCode(
            self.number, self.title, self.module, encoded.data, encoded.buffers, self.refs
        )


class SentCode:
    """A code that came from another process."""

    waits = False

    def __init__(
        self,
        number: int,
        title: str,
        module: str,
        data: Any,
        buffers: list[Any],
        refs: Sequence[Ref],
    ) -> None:
        self.number = number
        self.title = title
        self.module = module
        self.refs = refs
        self._payload = FunctionPayload(Encoded(data, stored(buffers)), True)

    @classmethod
    def unknown(cls, facts: ActorFacts) -> SentCode:
        """Return what stands for a class of which only the facts have come here."""
        return cls(0, facts.title, facts.module, b"", [], ())

    def payload(self) -> FunctionPayload:
        """Return its pickle."""
        return self._payload

    def __reduce__(self) -> tuple[Any, ...]:
        encoded = self._payload.encoded
        buffers = views(encoded.buffers)
        return SentCode, (
            self.number, self.title, self.module, encoded.data, buffers, list(self.refs)
        )  # fmt: skip


#: Codes whose pickles have buffers in the store.
_with_data: WeakSet[Code] = WeakSet()


def let_go_of_data() -> None:
    """Drop all copies of data in the store: the runtime that needed them has ended."""
    for code in list(_with_data):
        code.let_go()
    _with_data.clear()


def _same(one: FunctionPayload, other: FunctionPayload) -> bool:
    a, b = one.encoded, other.encoded
    return (
        a.data == b.data
        and len(a.buffers) == len(b.buffers)
        and all(
            bytes(opened(x)) == bytes(opened(y)) for x, y in zip(a.buffers, b.buffers, strict=True)
        )
    )


_numbers = count(1)
