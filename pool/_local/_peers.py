"""A worker as its parent sees it: a mailbox, a page of the journal, and what is out."""

from __future__ import annotations

import _pickle
import _socket
import io

from pool._pickling import loads
from pool._transport._channel import Channel, DescriptorsLost
from pool._transport._journal import (
    ALL_CHUNKS,
    EXIT_AT_ONCE,
    FINISHED,
    FLUSHED,
    HALT,
    LAYOUT,
    MESSAGE,
    STRUCK,
    TARGET,
    TARGET_CHUNK,
    USED,
    chunk_word,
)
from pool._transport._messages import FORGET, INITIALIZE, INTS, RUN, STREAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pool._local._events import Run
    from pool._transport._journal import Slot

_DONTWAIT = _socket.MSG_DONTWAIT


class Sent:
    """A message that is out: its runs, and how many chunks have been answered."""

    __slots__ = ("answered", "defines", "harvested", "parts", "runs")

    def __init__(self, runs: list[Run], defines: list[int]) -> None:
        self.runs = runs
        #: Functions that it brings along.
        self.defines = defines
        self.answered = 0
        #: Of these, how many were read from the journal: its next answer begins with them.
        self.harvested = 0
        #: Values of its only chunk that have come before its outcome.
        self.parts: list[Any] = []

    def locate(self, chunk: int) -> tuple[int | None, int]:
        """Return the job, and the index in it, of chunk number `chunk` of the message."""
        for job_id, start, stop in self.runs:
            if chunk < stop - start:
                return job_id, start + chunk
            chunk -= stop - start
        return None, 0


class Peer:
    """The parent's side of one worker.

    Parameters
    ----------
    worker_id : int
    ours, theirs : _socket.socket
        Both ends of the worker's socket. The parent keeps a descriptor of the worker's
        end, so that it can take back what the worker has not read.
    slot_id : int
        Page in the journal.
    slot : Slot
    buffer : bytearray
        To receive into; shared by all peers of one driver.
    """

    __slots__ = (
        "_theirs", "channel", "forgets", "initialized", "known", "launcher", "pid", "sent", "slot",
        "slot_id", "status", "worker_id",
    )  # fmt: skip

    def __init__(
        self,
        worker_id: int,
        ours: _socket.socket,
        theirs: _socket.socket,
        slot_id: int,
        slot: Slot,
        buffer: bytearray,
    ) -> None:
        self.worker_id = worker_id
        self.channel = Channel(ours, buffer, linked=True)
        self._theirs = Channel(theirs)
        self.slot_id = slot_id
        self.slot = slot
        #: Who was asked for it.
        self.launcher: Any = None
        self.pid: int | None = None
        #: With which it has ended, as from `os.waitpid`.
        self.status: int | None = None
        #: Whether it has, or has been sent, what it awaits before it starts.
        self.initialized = True
        #: Functions that it has for certain, because it answered a message with them.
        #: A message that was merely sent can be taken back before the worker reads it,
        #: and the worker then reads the next one first.
        self.known: set[int] = set()
        #: Functions that it shall forget and was not told of.
        self.forgets: list[int] = []
        self.sent: dict[int, Sent] = {}

    def close(self) -> None:
        """Close the sockets and let the journal go."""
        self._theirs.close()  # first: the channel looks whether anybody has it
        self.channel.close()
        self.slot.release()

    def post(self, head: Any, blobs: Any = ()) -> None:
        """Send, unless the worker has died: its exit is on the way, with all it had."""
        try:
            self.channel.send(head, blobs)
        except ConnectionError:
            return

    def tell(self) -> None:
        """Tell the worker now what it shall forget, if it has room for a message."""
        try:
            self.channel.send((FORGET, self.forgets), flags=_DONTWAIT)
        except OSError:
            return  # told with the next message, or not needed
        self.forgets = []

    def reclaim(self) -> list[int]:
        """Take back every message that the worker has not read.

        The kernel gives each message to exactly one reader, so there is no race: what
        comes back here was not and will not be seen by the worker.
        """
        reclaimed: list[int] = []
        while True:
            try:
                head, note = self._theirs.take_back(_DONTWAIT)
            except DescriptorsLost as lost:
                # It is to be sent again anyway.
                if lost.head is None:
                    raise
                head, note = lost.head, lost.note
            except (BlockingIOError, EOFError, OSError):
                return reclaimed
            if note is not None and self.channel.link is not None:
                self.channel.link.take_back(note)
            if head[0] == RUN:
                reclaimed.append(head[1])
                self.sent.pop(head[1], None)
                self.forgets.extend(head[3])
            elif head[0] == FORGET:
                self.forgets.extend(head[1])
            elif head[0] == INITIALIZE:
                self.initialized = False

    def salvage(self) -> tuple[int | None, list[bytes]]:
        """Read what a dead worker left in its journal.

        Returns
        -------
        running : int or None
            The message it had begun.
        pickles : list of bytes
            Outcomes of the chunks of that message which had finished and were not
            answered.
        """
        words = self.slot.words
        message_id = words[MESSAGE]
        sent = self.sent.get(message_id)
        if sent is None:
            return None, []
        sent.harvested = 0  # no answer of its own follows that would begin with them
        finished, flushed = words[FINISHED], words[FLUSHED]
        missing = finished - sent.answered
        if missing < 0:
            # Killed between sending an outcome and noting that: nothing was running.
            return None, []
        if not missing:
            return message_id, []
        # Outcomes FLUSHED..FINISHED are there; the parent may have got more than the
        # worker came to note.
        if words[LAYOUT] == STREAM:
            from pool._local._pickle_streams import split_stream

            stream = bytes(self.slot.data[: words[USED]])
            pickles = split_stream(stream, finished - flushed)
        else:
            kept = self.slot.data[: (finished - flushed) * 8]
            values = decode_many(kept, finished - flushed, words[LAYOUT])
            pickles = [_pickle.dumps(value) for value in values]
        return message_id, pickles[len(pickles) - missing :]

    def _running(self, message_id: int) -> tuple[int | None, int, int]:
        """Return job, index in the job, and index in the message of the running chunk.

        If the worker has read the message and not marked it as begun, its first one.
        """
        words = self.slot.words
        sent = self.sent.get(message_id)
        if sent is None:
            return None, 0, 0
        chunk = words[FINISHED] if words[MESSAGE] == message_id else 0
        return (*sent.locate(chunk), chunk)

    def doing(self) -> tuple[int, int] | None:
        """Return job and index of the chunk that the worker runs, as far as can be known."""
        job, index, _ = self._running(self.slot.words[MESSAGE])
        return None if job is None else (job, index)

    def runs(self, message_id: int, job_id: int, index: int | None) -> bool:
        """Return whether the worker runs a chunk of that job (that chunk) now."""
        job, running, _ = self._running(message_id)
        return job == job_id and index in (None, running)

    def target(self, message_id: int, job_id: int, index: int | None) -> int | None:
        """Return which chunk of a message an interrupt has to hit; None if it is over."""
        sent = self.sent.get(message_id)
        if sent is None:
            return None
        if index is None and all(run[0] == job_id for run in sent.runs):
            return ALL_CHUNKS
        job, running, chunk = self._running(message_id)
        return chunk if job == job_id and index in (None, running) else None

    def halt(self, message_id: int) -> None:
        """Tell the worker to begin no chunk of a message behind the one that it runs."""
        words = self.slot.words
        if words[MESSAGE] == message_id and message_id in self.sent:
            words[HALT] = chunk_word(message_id, words[FINISHED] + 1)

    def begun_at_halt(self, message_id: int) -> int | None:
        """Return how many chunks of a message the worker has begun.

        None if that is not certain, because it has not halted where it was told to.
        """
        words = self.slot.words
        begun: int = words[FINISHED] + 1
        if message_id not in self.sent or words[MESSAGE] != message_id:
            return None
        return begun if words[HALT] == chunk_word(message_id, begun) else None

    def harvest(self, message_id: int) -> tuple[int, int, bytes] | None:
        """Read the outcomes that a living worker has finished and not sent.

        Returns
        -------
        (count, layout, bytes) or None
            The worker will send them once more, and does not know. None if there are none, or
            if it is just about to send them.
        """
        words = self.slot.words
        finished, flushed, layout = words[FINISHED], words[FLUSHED], words[LAYOUT]
        count = finished - flushed
        if not count or flushed != self.sent[message_id].answered:
            return None
        nbytes = words[USED] if layout == STREAM else count * 8
        outcomes = bytes(self.slot.data[:nbytes])
        # It writes over them only after it has noted that it has sent them.
        unchanged = (words[MESSAGE], words[FINISHED], words[FLUSHED]) == (
            message_id, finished, flushed,
        )  # fmt: skip
        return (count, layout, outcomes) if unchanged else None

    def was_struck(self, message_id: int) -> bool:
        """Return whether an interrupt has been raised in the running chunk of a message."""
        words = self.slot.words
        return words[STRUCK] == chunk_word(message_id, words[FINISHED])

    def was_aimed_at(self, message_id: int, chunk: int) -> bool:
        """Return whether a SIGINT was meant for that chunk of a message."""
        words = self.slot.words
        return words[TARGET] == message_id and words[TARGET_CHUNK] & ~EXIT_AT_ONCE in (
            ALL_CHUNKS,
            chunk,
        )

    def aim(self, message_id: int, chunk: int) -> None:
        """Tell the worker which chunk a SIGINT is meant for."""
        self.slot.words[TARGET_CHUNK] = chunk
        self.slot.words[TARGET] = message_id


def without_first(stored: Any, count: int, skipped: int, layout: int) -> Any:
    """Return what is left of `count` stored outcomes without the first ones."""
    if layout != STREAM:
        return memoryview(stored).cast("B")[skipped * 8 :]
    from pool._local._pickle_streams import split_stream

    return b"".join(split_stream(bytes(stored), count)[skipped:])


def decode_many(stored: Any, count: int, layout: int) -> list[Any]:
    """Rebuild `count` outcomes that were stored together, each one independent."""
    if layout == STREAM:
        load = _pickle.Unpickler(io.BytesIO(stored)).load
        return [load() for _ in range(count)]
    return memoryview(stored).cast("B").cast("q" if layout == INTS else "d").tolist()


def decode(blobs: list[Any]) -> Any:
    """Unpickle one payload."""
    return loads(blobs[0], blobs[1:])
