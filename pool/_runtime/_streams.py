"""The values of a task that yields: references that become known one by one."""

from __future__ import annotations

from pool._objects._refs import FAILED, READY, ObjectRef, new_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pool._runtime._runtime import Runtime


class Stream:
    """The values that a generator has yielded so far, each an object of its own.

    The values and the end come over different sockets, in any order: the end says how
    many values there are, and the stream is over when that many have come.
    """

    __slots__ = (
        "__weakref__", "_abandoned", "_call", "_items", "_received", "_runtime", "_watchers",
        "count", "name",
    )  # fmt: skip

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.name = new_name()
        #: Whether its reader is gone, though the task goes on to yield, and holds the stream.
        self._abandoned = False
        #: The call that yields, as long as it can be cancelled.
        self._call: Any = None
        #: By index, the values that have come and were not let go of.
        self._items: dict[int, ObjectRef] = {}
        #: How many values have come; they come in order.
        self._received = 0
        #: How many values there are, an error counted as one; None: not known yet.
        self.count: int | None = None
        #: Called, once, at the next change.
        self._watchers: list[Callable[[], None]] = []
        runtime.streams[self.name] = self

    # ------------------------------------------------------------------ under the lock

    def add(self, index: int, stored: Any) -> None:
        """Take a value."""
        if index < self._received or (self.count is not None and index >= self.count):
            return  # a second attempt, after the worker of the first one died
        self._received = index + 1
        if not self._abandoned:
            ref = self._items[index] = ObjectRef(self._runtime)
            ref._seal(READY, stored)
        self._tell()

    def end(self, count: int | None = None, error: BaseException | None = None) -> None:
        """Note how many values there are; an error takes the place of one more.

        Only the first end counts: a stream that has ended with the loss of a value is over, though
        its generator goes on and may raise an error of its own.
        """
        self._call = None
        if self.is_over(self._received):
            return
        if error is not None:
            ref = self._items[self._received] = ObjectRef(self._runtime)
            ref._seal(FAILED, error)
            self._received += 1
            self.count = self._received  # also if more were promised, which do not come any more
        elif self.count is None:
            self.count = count
        self._tell()

    def _tell(self) -> None:
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            watcher()

    def watch(self, watcher: Callable[[], None]) -> None:
        """Have `watcher` called at the next change."""
        self._watchers.append(watcher)

    # ------------------------------------------------------------------ any thread

    def knows(self, index: int) -> bool:
        """Return whether value number `index`, or that there is none, is known."""
        # Also of a value that was let go of: another reader of the same number may still wait.
        return (
            index in self._items
            or index < self._received
            or (self.count is not None and index >= self.count)
        )

    def take(self, index: int) -> ObjectRef | None:
        """Wait for the reference number `index`.

        Returns
        -------
        ObjectRef or None
            None if there are fewer values, or if another reader has taken this one.
        """
        self._runtime.engine.wait(lambda: self.knows(index), None, True)
        return self._items.get(index)

    def when_known(self, index: int | None) -> ObjectRef:
        """Return an object that is there when value number `index`, or the end, is known."""
        ref: ObjectRef = self._runtime.locked(lambda: self.when_known_here(index))
        self._runtime.engine.attend()
        return ref

    def when_known_here(self, index: int | None) -> ObjectRef:
        """Do as `when_known`, under the lock."""
        ref = ObjectRef(self._runtime)

        def look() -> None:
            if self.count is not None if index is None else self.knows(index):
                ref._seal(READY, None)
            else:
                self.watch(look)

        look()
        return ref

    def is_over(self, index: int) -> bool:
        """Return whether it is known that there is no value number `index`."""
        return self.count is not None and index >= self.count

    def cancel(self, force: bool, recursive: bool) -> None:
        """Cancel the call that yields."""
        self._runtime.cancel(self, force, recursive)

    def let_go(self, index: int) -> None:
        """Let go of a value that its reader has."""
        self._items.pop(index, None)

    def abandon(self) -> None:
        """Keep no values any more: its reader is gone."""
        self._abandoned = True
        self._items.clear()
