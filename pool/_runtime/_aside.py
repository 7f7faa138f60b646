"""What a runtime has done along with its engine: under the driver's lock, or after it, without."""

from __future__ import annotations

from collections import deque

from pool._runtime._logs import Logs
from pool._runtime._output import Outputs
from pool._unraisable import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pool._local._driver import Driver


class Aside:
    """Run actions that any thread hands in, and show what workers print.

    Parameters
    ----------
    driver : Driver
        Its `aside` is this.
    """

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.logs = Logs()
        self.outputs = Outputs(driver, self.logs)
        self._output_is_due = False
        self._actions: deque[Callable[[], None]] = deque()
        self._afterwards = _Afterwards()

    def locked(self, action: Callable[[], Any]) -> Any:
        """Run `action` under the driver's lock, which this thread may hold already."""
        driver = self.driver
        if driver.held_here and not driver.ended:
            return action()
        return driver.locked(action)

    def later(self, action: Callable[[], None]) -> None:
        """Run `action` under the lock as soon as possible; from anywhere, never waits."""
        if self.driver.closed:
            action()  # no thread drives any more, so no other one uses the records
            return
        self._actions.append(action)
        self.driver.dirty.append(self)
        self.driver.pump()

    def flush(self) -> None:
        """Run the actions that are due; called by the driver, between two events."""
        # Not actions that these hand in: something else in `dirty` may have to be flushed before.
        for _ in range(len(self._actions)):
            self._actions.popleft()()
        self.read_what_is_due()
        if self._output_is_due:
            self._output_is_due = False
            self.outputs.catch_up()

    def read_what_is_due(self) -> None:
        """Read what has to be read after the actions and before the output."""

    def abort(self, error: BaseException) -> list[Any]:
        """Give up: the engine has crashed. Return no results with callbacks."""
        # Some of the actions give errors to the tasks that were just given up.
        while self._actions:
            try:
                action = self._actions.popleft()
            except IndexError:
                break  # another thread took the last one
            try:
                action()
            except Exception as error:
                # Not raised: the other actions, and the other steps of the end, must follow.
                report(error, "raised while a runtime was given up")
        return []

    def catch_up(self) -> None:
        """Have output read that was written before an outcome, so that it is shown first."""
        if not self._output_is_due and self.outputs.open:
            self._output_is_due = True
            self.driver.dirty.append(self)

    def afterwards(self, action: Callable[[], None]) -> None:
        """Run `action` soon, by the thread that drives, without the lock."""
        self._afterwards.actions.append(action)
        self.driver.calling.append(self._afterwards)
        self.driver.wake()

    def tell(self, text: str) -> None:
        """Print a message of the runtime itself soon, without the lock."""
        self.afterwards(lambda: self.logs.tell(text))

    def print_later(self, name: str, pid: int, stream: int, text: str) -> None:
        """Print what a worker printed, without the lock."""
        self.logs.add(name, pid, stream, text)
        self.driver.calling.append(self.logs)

    def quit(self) -> None:
        """Show what workers have written, as the interpreter goes down."""
        self.outputs.on_ready()
        self.outputs.complete()
        self.logs.call_back()


class _Afterwards:
    """Actions for the thread that drives, outside the lock."""

    def __init__(self) -> None:
        self.actions: deque[Callable[[], None]] = deque()

    def call_back(self) -> None:
        """Run the actions that are due."""
        while self.actions:
            try:
                action = self.actions.popleft()
            except IndexError:
                return  # another thread took the last one
            action()
