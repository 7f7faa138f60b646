"""Which functions the workers of an engine keep, and under which numbers."""

from __future__ import annotations

from collections import deque
from itertools import count

from pool._local._jobs import Function
from store._codec import OUT_OF_BAND_MIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pool._local._peers import Peer

#: Functions kept in the workers beyond their job, for calls that repeat.
FUNCTIONS_KEPT = 256

#: Larger ones are not kept: there may be data in them.
SHARED_NBYTES = 65536


class FunctionTable:
    """Number functions, and see to it that workers forget them in time.

    Parameters
    ----------
    peers : dict
        The workers, by worker_id.
    dirty : deque
        Where to enter this table when it has something to flush; the driver does.
    """

    __slots__ = ("_dirty", "_ended", "_live", "_peers", "_shared")

    def __init__(self, peers: dict[int, Peer], dirty: deque[Any]) -> None:
        self._peers = peers
        self._dirty = dirty
        self._shared: dict[bytes, Function] = {}
        self._live: set[int] = set()
        self._ended: deque[int] = deque()

    def known(self, payload: Any) -> Function | None:
        """Return the number of a function that workers may have by now, if it is one of these."""
        encoded = payload.encoded
        if encoded.buffers or len(encoded.data) >= SHARED_NBYTES:
            return None
        known = self._shared.get(encoded.data)
        if known is not None and len(self._shared) > FUNCTIONS_KEPT // 2:
            # To the end: the first ones go first. If another thread does so too, or lets go of
            # it, it is numbered again, which costs no more than sending it.
            self._shared.pop(encoded.data, None)
            self._shared[encoded.data] = known
        return known

    def register(self, payload: Any) -> Function:
        """Return the number under which workers keep a pickled function; in any thread.

        Parameters
        ----------
        payload : FunctionPayload
        """
        known = self.known(payload)
        if known is not None:
            return known
        data, buffers = payload.encoded.data, payload.encoded.buffers
        shared = not buffers and len(data) < SHARED_NBYTES
        blobs = [data, *buffers]
        if buffers or len(data) >= OUT_OF_BAND_MIN:
            from store._depot import stored

            # Now, and once for all workers; what the caller does to its arrays later is
            # not seen.
            blobs = stored(blobs)
        function = Function(next(_function_ids), blobs, payload.stateless, shared)
        if shared:
            self._live.add(function.function_id)
            self._shared[data] = function
            if len(self._shared) > FUNCTIONS_KEPT:
                self._let_go_of_some()
        return function

    def _let_go_of_some(self) -> None:
        """Let workers forget those that were not used for longest.

        Nothing depends on it that none of them is in use: workers do in order what they have, and
        are sent the function again with what follows.
        """
        unused = [data for data, function in list(self._shared.items()) if function.uses <= 0]
        for old in unused[: FUNCTIONS_KEPT // 2]:
            # Another thread may do the same; workers are told under the lock.
            dropped = self._shared.pop(old, None)
            if dropped is not None:
                dropped.shared = False  # whoever is about to use it lets go of it
                self._ended.append(dropped.function_id)
        self._dirty.append(self)

    def is_live(self, function_id: int) -> bool:
        """Return whether jobs use a function, or may use it again."""
        return function_id in self._live

    def use(self, function: Function) -> None:
        """Note that a job begins which uses a function."""
        function.uses += 1
        self._live.add(function.function_id)

    def learned(self, peer: Peer, function_ids: list[int]) -> None:
        """Note that a worker has functions; those whose jobs have ended it shall forget."""
        for function_id in function_ids:
            if function_id in self._live:
                peer.known.add(function_id)
            else:
                peer.forgets.append(function_id)
                peer.tell()

    def forget(self, function: Function | None) -> None:
        """Let go of the function of a job that has ended; called in any thread, never waits."""
        if function is None:
            return
        function.uses -= 1
        if not function.shared:
            self._ended.append(function.function_id)
            self._dirty.append(self)

    def drop(self, function: Function) -> None:
        """Have workers forget a function that was kept for other jobs; in any thread."""
        function.shared = False
        self._ended.append(function.function_id)
        self._dirty.append(self)

    def flush(self) -> None:
        """Tell workers what they shall forget; called under the driver's lock.

        Without waiting for the next job to tell it with: that may be long, and there may be
        gigabytes in a function that is not shared.
        """
        told: set[Peer] = set()
        while self._ended:
            told.update(self._drop(self._ended.popleft()))
        for peer in told:
            peer.tell()

    def abort(self, error: BaseException) -> tuple[()]:
        """Nothing: the workers end."""
        return ()

    def _drop(self, function_id: int) -> list[Peer]:
        self._live.discard(function_id)
        told = [peer for peer in self._peers.values() if function_id in peer.known]
        for peer in told:
            peer.known.discard(function_id)
            peer.forgets.append(function_id)
        return told


_function_ids = count(1)
