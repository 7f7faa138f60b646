"""Which pickled functions the workers of an engine keep, and under which numbers."""

from __future__ import annotations

from collections import deque
from itertools import count

from pool._local._jobs import Function
from store._codec import OUT_OF_BAND_MIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pool._local._peers import Peer

#: Functions that workers keep beyond their job, for calls that repeat.
FUNCTIONS_KEPT = 256

#: Bytes of pickle from which a function is not kept: there may be data in it.
SHARED_NBYTES = 65536


class FunctionTable:
    """Number functions, and have workers forget those that are not needed any more.

    Parameters
    ----------
    peers : dict
        The workers, by worker_id.
    dirty : deque
        `Driver.dirty`, to which the table appends itself when workers are to forget functions.
    """

    __slots__ = ("_dirty", "_ended", "_live", "_peers", "_shared")

    def __init__(self, peers: dict[int, Peer], dirty: deque[Any]) -> None:
        self._peers = peers
        self._dirty = dirty
        self._shared: dict[bytes, Function] = {}
        self._live: set[int] = set()
        #: Those that are to be dropped once no job uses them.
        self._ended: deque[Function] = deque()

    def known(self, payload: Any) -> Function | None:
        """Return the function that was registered with the same pickle, if it is a kept one."""
        encoded = payload.encoded
        if encoded.buffers or len(encoded.data) >= SHARED_NBYTES:
            return None
        known = self._shared.get(encoded.data)
        if known is not None and len(self._shared) > FUNCTIONS_KEPT // 2:
            # Moved to the end, for the first ones are dropped first. If another thread moves or
            # drops it at the same time, it gets a new number, and is sent once more.
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

            # Copied now, once for all workers, which so do not see what the caller does to its
            # arrays later.
            blobs = stored(blobs)
        function = Function(next(_function_ids), blobs, payload.stateless, shared, payload.captured)
        if shared:
            self._live.add(function.function_id)
            self._shared[data] = function
            if len(self._shared) > FUNCTIONS_KEPT:
                self._let_go_of_some()
        return function

    def _let_go_of_some(self) -> None:
        """Let workers forget the functions that were not used for longest.

        Should one of them be in use after all, it is dropped when that job ends.
        """
        unused = [data for data, function in list(self._shared.items()) if function.uses <= 0]
        for old in unused[: FUNCTIONS_KEPT // 2]:
            # Another thread may do the same; workers are told under the lock.
            dropped = self._shared.pop(old, None)
            if dropped is not None:
                dropped.shared = False
                self._ended.append(dropped)
        self._dirty.append(self)

    def is_live(self, function_id: int) -> bool:
        """Return whether jobs use a function, or may use it again."""
        return function_id in self._live

    def use(self, function: Function) -> None:
        """Note that a job begins that uses a function."""
        function.uses += 1
        self._live.add(function.function_id)

    def learned(self, peer: Peer, function_ids: list[int]) -> None:
        """Note that a worker has functions; have it forget those whose jobs have ended."""
        for function_id in function_ids:
            if function_id in self._live:
                peer.known.add(function_id)
            else:
                peer.forgets.append(function_id)
                peer.tell()

    def forget(self, function: Function | None) -> None:
        """Drop the function of a job that has ended, unless it is kept; in any thread."""
        if function is None:
            return
        function.uses -= 1
        if not function.shared:
            self._ended.append(function)
            self._dirty.append(self)

    def drop(self, function: Function) -> None:
        """Have workers forget a function that was kept for other jobs; in any thread."""
        function.shared = False
        self._ended.append(function)
        self._dirty.append(self)

    def flush(self) -> None:
        """Tell workers which functions to forget; called under the driver's lock.

        They are told now, not with the next message, which may be long in coming: a function that
        is not shared may hold gigabytes.
        """
        told: set[Peer] = set()
        while self._ended:
            function = self._ended.popleft()
            if function.uses <= 0:
                told.update(self._drop(function))
        for peer in told:
            peer.tell()

    def abort(self, error: BaseException) -> tuple[()]:
        """Do nothing: the workers end."""
        return ()

    def _drop(self, function: Function) -> list[Peer]:
        function_id = function.function_id
        # Should it be used again, then as another one: machines of a cluster may be told later than
        # they are sent that.
        function.function_id = next(_function_ids)
        self._live.discard(function_id)
        told = [peer for peer in self._peers.values() if function_id in peer.known]
        for peer in told:
            peer.known.discard(function_id)
            peer.forgets.append(function_id)
        return told


_function_ids = count(1)
