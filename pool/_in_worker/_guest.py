"""Let a Pool's worker use the runtime of its program, if its tasks were given references."""

from __future__ import annotations

from pool._objects import _home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pool._objects._parcels import Parcel

#: The number of the runtime that this worker is a guest of; empty: none.
_host: list[int] = []


class WithValues:
    """Call a function with the arguments in a parcel.

    Parameters
    ----------
    function : callable
    runtime : int
        Number of the runtime that the references belong to.
    """

    def __init__(self, function: Callable[..., Any], runtime: int) -> None:
        self._function = function
        self._runtime = runtime

    def __call__(self, parcel: Parcel) -> Any:
        visit(self._runtime)
        args, kwargs = parcel.open()
        try:
            return self._function(*args, **kwargs)
        finally:
            del args, kwargs
            home: Any = _home.found()
            if home is not None and home.returned:
                home.tidy()


def visit(runtime: int) -> None:
    """Have references in this worker belong to a runtime, given by its number."""
    if not runtime or [runtime] == _host:
        return
    home: Any = _home.found()
    if home is not None and _host:
        # The worker was the guest of another runtime, which was shut down meanwhile.
        home.leave()
    # A runtime that a task has started here has the references that it has made, and no others.
    _home.set_current(None)
    _host[:] = [runtime]
    _home.borrow(_start)


def _start() -> Any:
    from pool._in_worker._answers import GuestDriver
    from pool._in_worker._borrowed import BorrowedRuntime
    from pool._workers._worker import Worker

    assert Worker.current is not None
    return BorrowedRuntime(Worker.current.channel, lends_slot=False, driver=GuestDriver)
