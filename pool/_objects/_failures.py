"""Errors on their way between processes, with the references inside them."""

from __future__ import annotations

from pool._objects._home import current
from pool._objects._parcels import Lent
from pool._objects._refs import Collecting
from pool._pickling import dumps_exception, dumps_to_worker, loads
from store._codec import encode, opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pool._objects._refs import Ref
    from store._codec import Encoded


def dumps_failure(error: BaseException, keep: Callable[[Sequence[Ref]], None]) -> Encoded:
    """Pickle what a task or a method raised, for another process of its program.

    Parameters
    ----------
    error : BaseException
    keep : callable
        Called with the references inside the error, if there are any. It has to hold them until
        the error has arrived, so that their objects exist.

    Returns
    -------
    Encoded
    """
    with Collecting() as refs:
        # Pickled as for a worker even if it goes to the runtime: from there it may go on to another
        # worker, which must find every definition in the pickle.
        encoded = dumps_exception(error, dumps_to_worker)
    if not refs:
        return encoded
    # Each once: parts of the error were pickled several times, to find those that can be.
    found = list({ref.binary(): ref for ref in refs}.values())
    keep(found)
    return encode(_Failure(encoded, found))


class _Failure:
    """A pickled error and its references; the receiver unpickles it as the error itself."""

    def __init__(self, encoded: Encoded, refs: Sequence[Ref]) -> None:
        self._encoded = encoded
        self._refs = refs

    def __reduce__(self) -> tuple[Any, ...]:
        buffers = [bytes(opened(buffer)) for buffer in self._encoded.buffers]
        return _arrived, (self._encoded.data, buffers, [Lent(ref) for ref in self._refs])


def _arrived(data: Any, buffers: list[bytes], refs: list[Ref]) -> BaseException:
    try:
        error: BaseException = loads(data, [bytearray(buffer) for buffer in buffers])
    finally:
        current().taken_over(refs)
    return error
