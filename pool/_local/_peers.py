"""A worker as its parent sees it: a mailbox, a page of the journal, and messages under way."""

from __future__ import annotations

import _pickle
import _socket
import io
from _socket import MSG_DONTWAIT

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


class Sent:
    """A message that a worker has not fully answered: its runs, and how much is answered."""

    __slots__ = ("answered", "defines", "harvested", "parts", "runs")

    def __init__(self, runs: list[Run], defines: list[int]) -> None:
        self.runs = runs
        #: The ids of functions that it brings along.
        self.defines = defines
        #: How many of its chunks have outcomes.
        self.answered = 0
        #: Of these, how many were read from the journal: the worker's next answer begins with
        #: their outcomes once more.
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
        The number of its page in the journal.
    slot : Slot
        That page.
    buffer : bytearray
        To receive into, at both ends; shared by all peers of one driver.
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
        self._theirs = Channel(theirs, buffer)
        self.slot_id = slot_id
        self.slot = slot
        #: The launcher that was asked for the worker, by which it can be signalled.
        self.launcher: Any = None
        #: None until the worker, or the forkserver, has told.
        self.pid: int | None = None
        #: How it has ended, as `os.waitpid` tells; None before.
        self.status: int | None = None
        #: Whether it has, or was sent, all that it waits for before it starts.
        self.initialized = True
        #: The ids of functions that the worker has for certain, because it has answered a message
        #: that brought them. A message that was merely sent may be taken back before the worker
        #: reads it, and the worker then reads the next one first.
        self.known: set[int] = set()
        #: The ids of functions that the worker is to forget, and was not told of.
        self.forgets: list[int] = []
        self.sent: dict[int, Sent] = {}

    def close(self) -> None:
        """Close the sockets and release the page of the journal."""
        # Before the channel, which looks whether the other end is still open anywhere.
        self._theirs.close()
        self.channel.close()
        self.slot.release()

    def post(self, head: Any, blobs: Any = ()) -> None:
        """Send a message; do nothing if the worker has died, since its exit settles everything."""
        try:
            self.channel.send(head, blobs)
        except ConnectionError:
            return

    def tell(self) -> None:
        """Tell the worker now which functions to forget, if it has room for a message."""
        try:
            self.channel.send((FORGET, self.forgets), flags=MSG_DONTWAIT)
        except OSError:
            return  # told with the next message; or the worker has died
        self.forgets = []

    def reclaim(self) -> list[int]:
        """Take back every message that the worker has not read.

        The kernel gives each message to exactly one reader, so there is no race: the worker has
        not seen, and will not see, what comes back here.

        Returns
        -------
        list of int
            The message_ids of those with chunks.
        """
        reclaimed: list[int] = []
        while True:
            try:
                head, note = self._theirs.take_back(MSG_DONTWAIT)
            except DescriptorsLost as lost:
                # Its descriptors are not needed: the message is encoded anew to be sent again.
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
            The message of which a chunk was under way; None if none was.
        pickles : list of bytes
            The outcomes of chunks of that message that had finished and were not answered.
        """
        words = self.slot.words
        message_id = words[MESSAGE]
        sent = self.sent.get(message_id)
        if sent is None:
            return None, []
        sent.harvested = 0  # the worker sends no answer any more that would begin with these
        finished, flushed = words[FINISHED], words[FLUSHED]
        missing = finished - sent.answered
        if missing < 0:
            # Killed between sending an outcome and noting that: no chunk was running.
            return None, []
        if not missing:
            return message_id, []
        # The page has outcomes FLUSHED..FINISHED. The parent may have got some of them: the
        # worker notes that it has sent outcomes only afterwards.
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
        """Return job, index in the job, and place in the message of the running chunk.

        Of a message that the worker has not noted as begun, that is the first chunk.
        """
        words = self.slot.words
        sent = self.sent.get(message_id)
        if sent is None:
            return None, 0, 0
        chunk = words[FINISHED] if words[MESSAGE] == message_id else 0
        return (*sent.locate(chunk), chunk)

    def doing(self) -> tuple[int, int] | None:
        """Return job and index of the chunk that the worker runs, as far as the journal tells."""
        job, index, _ = self._running(self.slot.words[MESSAGE])
        return None if job is None else (job, index)

    def runs(self, message_id: int, job_id: int, index: int | None) -> bool:
        """Return whether the worker runs chunk `index` of the job (any if None) now."""
        job, running, _ = self._running(message_id)
        return job == job_id and index in (None, running)

    def target(self, message_id: int, job_id: int, index: int | None) -> int | None:
        """Return which chunk of a message an interrupt is to strike, by its place there.

        ALL_CHUNKS if all of them are meant; None if the running chunk is not one that is meant.
        """
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
        """Return how many chunks of a message the worker has begun and will begin.

        None if that is not certain, because the worker has gone past the chunk to halt at.
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
            The worker does not know of this, and will send these outcomes as well. None if there
            are none, or if it is just sending them.
        """
        words = self.slot.words
        finished, flushed, layout = words[FINISHED], words[FLUSHED], words[LAYOUT]
        count = finished - flushed
        if not count or flushed != self.sent[message_id].answered:
            return None
        nbytes = words[USED] if layout == STREAM else count * 8
        outcomes = bytes(self.slot.data[:nbytes])
        # The worker writes over outcomes only after it has noted in FLUSHED that it sent them.
        unchanged = (words[MESSAGE], words[FINISHED], words[FLUSHED]) == (
            message_id, finished, flushed,
        )  # fmt: skip
        return (count, layout, outcomes) if unchanged else None

    def was_struck(self, message_id: int) -> bool:
        """Return whether an interrupt has been raised in the running chunk of a message."""
        words = self.slot.words
        return words[STRUCK] == chunk_word(message_id, words[FINISHED])

    def was_aimed_at(self, message_id: int, chunk: int) -> bool:
        """Return whether the last SIGINT was meant for chunk number `chunk` of a message."""
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
    """Return `count` stored outcomes without the first `skipped` of them."""
    if layout != STREAM:
        return memoryview(stored).cast("B")[skipped * 8 :]
    from pool._local._pickle_streams import split_stream

    return b"".join(split_stream(bytes(stored), count)[skipped:])


def decode_many(stored: Any, count: int, layout: int) -> list[Any]:
    """Rebuild `count` outcomes that were stored together, each one independent."""
    if layout == STREAM:
        # Not one Unpickler for all: it would go on with the memo of the pickle before.
        file = io.BytesIO(stored)
        return [_pickle.load(file) for _ in range(count)]
    return memoryview(stored).cast("B").cast("q" if layout == INTS else "d").tolist()


def decode(blobs: list[Any]) -> Any:
    """Unpickle one payload."""
    return loads(blobs[0], blobs[1:])
