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

    from pool._objects._refs import Ref


class Code:
    """A remote function or an actor class.

    Attributes
    ----------
    number : int
        Within this process.
    title : str
        Its `__qualname__`, as in error messages.
    refs : list of Ref
        References that its pickle contains.
    waits : bool
        Whether its tasks have been seen to wait for others.
    """

    waits = False

    def __init__(self, definition: Callable[..., Any]) -> None:
        self.number = next(_numbers)
        self.definition = definition
        self.title = str(getattr(definition, "__qualname__", type(definition).__qualname__))
        self.module = str(getattr(definition, "__module__", ""))
        self.refs: Sequence[Ref] = ()
        #: What the definition was pickled into, and what is sent of that; replaced as one, since
        #: several threads may do so.
        self._kept: tuple[FunctionPayload, FunctionPayload] | None = None

    def payload(self) -> FunctionPayload:
        """Return its pickle, made anew only if something that it uses was redefined.

        Raises
        ------
        CannotSend
            As `pool._pickling.dumps_function`.
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
                # Loaded once in each worker, however many tasks it runs: what a remote
                # function keeps between calls, it keeps.
                True,
            )
            # Of another code's pickle too, if that of the function was kept.
            self.refs = payload.companions
            if sent.encoded.buffers:
                _with_data.add(self)
        else:
            sent = kept[1]
        self._kept = payload, sent
        return sent

    def let_go(self) -> None:
        """Keep no copy of the data that it uses."""
        self._kept = None
        self.refs = ()

    def in_full(self) -> SentCode:
        """Return it as it is sent."""
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

    def payload(self) -> FunctionPayload:
        """Return its pickle."""
        return self._payload

    def __reduce__(self) -> tuple[Any, ...]:
        encoded = self._payload.encoded
        buffers = views(encoded.buffers)
        return SentCode, (
            self.number, self.title, self.module, encoded.data, buffers, list(self.refs)
        )  # fmt: skip


#: Those whose pickles have data beside them, in the store.
_with_data: WeakSet[Code] = WeakSet()


def let_go_of_data() -> None:
    """Keep no copies of data: the runtime that had use for them has ended."""
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
