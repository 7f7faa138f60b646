"""What `Lead` drives in a worker: the answers that come back over one socket.

A task that uses the pool it runs in, or the runtime it came from, sends its requests over a socket
of its own. Here is what both have in common: the side that receives the answers.
"""

from __future__ import annotations

import os
import select
from _socket import MSG_DONTWAIT
from collections import deque

from pool._local._waiting import DEEPEST
from pool._transport._watch import Watch
from store._interrupts import shield

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pool._local._protocols import CallsBack
    from pool._transport._channel import Channel


class Receiver:
    """Receive messages of the process that this worker belongs to, and end with it.

    Parameters
    ----------
    channel : Channel
    """

    crashed = False
    held_here = False

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.closed = False
        #: Results whose callbacks are due.
        self.calling: deque[CallsBack] = deque()
        #: How many run one within the other.
        self._depth = 0
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = self._poller()
        #: Whether a thread sleeps there: it can be used once at a time only.
        self._asleep = False
        self._watch = Watch(lambda: self._poll.poll(0), self._poll.poll)

    def _poller(self) -> select.poll:
        poll = select.poll()
        poll.register(self.channel.fileno(), select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        return poll

    @property
    def unanswered(self) -> bool:
        """Whether an answer is still to come."""
        raise NotImplementedError

    @property
    def outstanding(self) -> bool:
        """Whether an answer is still to come, or a callback is due."""
        return self.unanswered or bool(self.calling)

    def on_message(self, head: Any, blobs: list[Any]) -> None:
        """Take one message."""
        raise NotImplementedError

    def check_open(self) -> None:
        """Do nothing: only the end of its process closes a receiver."""

    def let_go(self, _close: Any = os.close) -> None:
        """Close the pipe that `wake` writes to: no thread waits here any more."""
        ends = self._wake_read, self._wake_write
        self._wake_read = self._wake_write = -1
        for fd in ends:
            if fd >= 0:
                _close(fd)

    __del__ = let_go

    def wake(self) -> None:
        """Make the thread that sleeps in `step` return from its sleep."""
        try:
            os.write(self._wake_write, b"x")
        except OSError:
            return  # the pipe is full, so the thread will wake up; or it is closed

    def step(self, patience: float | None, eager: bool = False) -> None:
        """Sleep until a message comes, and deal with it.

        Parameters
        ----------
        patience : float, optional
            Seconds to sleep at most.
        eager : bool
            Wait for a single answer, which may come at once; see `pool._transport._watch`.
        """
        calls = self._depth < DEEPEST or bool(self.calling and not self.unanswered)
        if self.calling and calls:
            patience = 0.0  # callbacks are left over from when one of them was interrupted
        sleep = None if patience is None else patience * 1000
        poll = self._watch.wait if eager else self._poll.poll
        within = self._asleep
        if within:  # a signal handler has interrupted this thread there, and waits as well
            poll = self._poller().poll
        self._asleep = True
        try:
            # A task that is cancelled while it waits is to be interrupted here.
            ready = shield.opened(poll, sleep)
        finally:
            self._asleep = within
        for fd, _ in ready:
            if fd == self._wake_read:
                os.read(fd, 4096)
            else:
                self._receive()
        if calls:
            self.call_back()

    def call_back(self) -> None:
        """Run the callbacks that are due; several threads may do so at once."""
        self._depth += 1
        try:
            while self.calling:
                try:
                    due = self.calling.popleft()
                except IndexError:
                    return  # another thread took the last one
                due.call_back()
        finally:
            self._depth -= 1

    def _receive(self) -> None:
        while not self.closed:
            try:
                head, blobs = self.channel.receive(MSG_DONTWAIT)
            except BlockingIOError:
                return
            except (EOFError, OSError):
                self.on_end()
                return
            self.on_message(head, blobs)

    def on_end(self) -> None:
        """End this worker: the process that answers is gone."""
        os._exit(1)
