"""Which functions the workers of an engine keep, and under which numbers."""

from __future__ import annotations

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
    """Number functions, and note which ones workers may forget.

    Parameters
    ----------
    peers : dict
        The workers, by worker_id.

    Attributes
    ----------
    forgets : dict
        By worker_id: functions for that worker to forget, to be sent with its next mail.
    """

    __slots__ = ("_peers", "_shared", "forgets")

    def __init__(self, peers: dict[int, Peer]) -> None:
        self._peers = peers
        self._shared: dict[bytes, Function] = {}
        self.forgets: dict[int, list[int]] = {}

    def register(self, payload: Any, idle: bool) -> Function:
        """Return the number under which workers keep a pickled function.

        Parameters
        ----------
        payload : FunctionPayload
        idle : bool
            No job is outstanding, so no function of another one is in use.
        """
        data, buffers = payload.encoded.data, payload.encoded.buffers
        shared = not buffers and len(data) < SHARED_NBYTES
        if shared:
            known = self._shared.get(data)
            if known is not None:
                return known
        blobs = [data, *buffers]
        if buffers or len(data) >= OUT_OF_BAND_MIN:
            from store._depot import stored

            # Now, and once for all workers; what the caller does to its arrays later is
            # not seen.
            blobs = stored(blobs)
        function = Function(next(_function_ids), blobs, payload.stateless, shared)
        if shared:
            self._shared[data] = function
            if len(self._shared) > FUNCTIONS_KEPT and idle:
                for old in list(self._shared)[: FUNCTIONS_KEPT // 2]:
                    self._drop(self._shared.pop(old).function_id)
        return function

    def forget(self, function: Function | None) -> None:
        """Let go of the function of a job that has finished, unless others may share it."""
        if function is not None and not function.shared:
            self._drop(function.function_id)

    def _drop(self, function_id: int) -> None:
        for peer in self._peers.values():
            if function_id in peer.known:
                peer.known.discard(function_id)
                self.forgets.setdefault(peer.worker_id, []).append(function_id)


_function_ids = count(1)
