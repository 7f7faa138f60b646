"""What is done along with an engine: under its driver's lock, or right after it without one."""

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
    """Take actions from any thread, and what workers print.

    Parameters
    ----------
    driver : Driver
    """

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.logs = Logs()
        self.outputs = Outputs(driver, self.logs)
        self._output_is_due = False
        self._actions: deque[Callable[[], None]] = deque()
        self._afterwards = _Afterwards()

    def locked(self, action: Callable[[], Any]) -> Any:
        """Run `action` under the driver's lock, which this thread may have."""
        driver = self.driver
        if driver.held_here and not driver.ended:
            return action()
        return driver.locked(action)

    def later(self, action: Callable[[], None]) -> None:
        """Run `action` under the lock as soon as possible; from anywhere, never waits."""
        if self.driver.closed:
            action()  # nothing is read any more, and nobody else looks at the books
            return
        self._actions.append(action)
        self.driver.dirty.append(self)
        self.driver.pump()

    def flush(self) -> None:
        """Do what is due; called by the driver, between two events."""
        # Not those that these hand in: what they wait for may have to be flushed first.
        for _ in range(len(self._actions)):
            self._actions.popleft()()
        self.read_what_is_due()
        if self._output_is_due:
            self._output_is_due = False
            self.outputs.catch_up()

    def read_what_is_due(self) -> None:
        """Read what has to be read between the actions and the output."""

    def abort(self, error: BaseException) -> list[Any]:
        """Give up: the engine has crashed. Nobody has to be called back."""
        # Among what is due are the errors of the tasks that were just given up.
        while self._actions:
            try:
                action = self._actions.popleft()
            except IndexError:
                break  # another thread took the last one
            try:
                action()
            except Exception as error:
                # The others, and the rest of the end, are not to be left out for that.
                report(error, "raised while a runtime was given up")
        return []

    def catch_up(self) -> None:
        """Read what the author of an outcome wrote before it: that is shown first."""
        if not self._output_is_due and self.outputs.open:
            self._output_is_due = True
            self.driver.dirty.append(self)

    def afterwards(self, action: Callable[[], None]) -> None:
        """Run `action` soon, by the thread that drives, without the lock."""
        self._afterwards.actions.append(action)
        self.driver.calling.append(self._afterwards)
        self.driver.wake()

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
        """Run what is due."""
        while self.actions:
            try:
                action = self.actions.popleft()
            except IndexError:
                return  # another thread took the last one
            action()
