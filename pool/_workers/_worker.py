"""The loop of a worker: receive chunks, run them, answer.

Runs in the worker process only, in its main thread, which sleeps in ``recv`` while there is nothing
to do (see `pool._transport._watch` for the moment before). So an idle worker costs no CPU. It ends
when the parent's end of the socket closes.
"""

from __future__ import annotations

import _signal
import _thread
import os
import sys
from functools import partial

from pool._clock import perf_counter
from pool._pickling import dumps_exception, flush_files, loads, look_up_with
from pool._transport._journal import (
    ALL_CHUNKS,
    EXIT_AT_ONCE,
    FINISHED,
    FLUSHED,
    MESSAGE,
    STRUCK,
    TARGET,
    TARGET_CHUNK,
    USED,
    chunk_word,
)
from pool._transport._messages import (
    AWAITED,
    CALL,
    DONE,
    EACH,
    EXIT,
    FORGET,
    HOST,
    IMPORTED,
    INITIALIZE,
    MAP,
    ONE,
    PART_OF,
    RANGE,
    READY,
    REFUSED,
    REST,
    RUN,
    STAR,
)
from pool._transport._watch import Watch
from pool._workers._carried import Undisturbed
from pool._workers._functions import Functions
from pool._workers._outcomes import encode, end_fork, flush_streams
from pool._workers._parts import PART, values_of
from pool._workers._payloads import blobs_of, chunks_of
from pool._workers._quick import Loop
from pool._workers._warmup import SOME, news

_get_ident = _thread.get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pool._transport._channel import Channel
    from pool._transport._journal import Slot
    from store._codec import Encoded

    Function = Callable[..., Any]

#: Seconds after which a worker hands back the chunks of a message that it has not begun. They wait
#: behind a straggler: it is five times the work that one message aims at.
PATIENCE = 5e-3


class Worker:
    """Run what the parent sends.

    Parameters
    ----------
    channel : Channel
        To the parent.
    slot : Slot
        This worker's page of the journal.
    parent_pid : int
        The process whose pool this is.
    pool : int
        Tells that pool from others of the same process; 0: the runtime of Ray's API.
    """

    #: The worker that this process is; None in processes that are no workers.
    current: Worker | None = None

    def __init__(self, channel: Channel, slot: Slot, parent_pid: int, pool: int = 0) -> None:
        self.channel = channel
        self.parent_pid = parent_pid
        self.pool = pool
        self.words = slot.words
        self.data = slot.data
        self.trace = slot.trace
        #: Whether user code runs that an interrupt may strike.
        self.interruptible = False
        self.functions = Functions()
        self._loop = Loop(slot.words, slot.data)
        self._pid = os.getpid()
        #: When the message, or the chunks after the last answer, began.
        self._begun = 0.0
        #: Whether to tell the parent what tasks import, so that later workers can be forked from a
        #: process that has imported it.
        self.tells = False
        #: Whether settings were taken over from the program, which no import may change.
        self.carries = False
        #: How many loaded modules the forkserver has, or the parent was told of.
        self._modules = len(sys.modules)
        #: Messages that came before the one with the initializer.
        self._early: list[tuple[Any, list[Any]]] = []
        self._thread = _get_ident()
        #: Pickles what a task raised.
        self.dumps_error: Callable[[BaseException], Encoded] = dumps_exception
        #: Called before each sleep, when nothing of the last tasks is held any more.
        self.at_rest: Callable[[], object] | None = None
        #: The items of the run that have not begun; None: the message has a single chunk.
        self._left: Iterator[Any] | None = None
        #: Whether the chunk that runs is the last of the message: the others were handed back.
        self._is_last = False

    # ------------------------------------------------------------------ life

    def initialize(self, payload: Any) -> bool:
        """Run the initializer and tell the parent how that went.

        Parameters
        ----------
        payload : (data, buffers), callable, None or AWAITED
            The initializer and its arguments, pickled; or inherited, as a callable without
            arguments; AWAITED if the parent sends it.

        Returns
        -------
        bool
            Whether the worker can serve.
        """
        if payload == AWAITED:
            try:
                payload = self._awaited()
            except EOFError:
                return False  # the parent is gone
        try:
            if callable(payload):
                payload()
            elif payload is not None:
                with Undisturbed(self.carries):
                    initializer, initargs = loads(*payload)
                payload = None  # so that what the initializer does not keep is freed
                initializer(*initargs)
            self._end_fork(None)
        except BaseException as error:
            self._end_fork(error)
            flush_streams()
            encoded = dumps_exception(error)
            blobs = encoded.packet
            self.channel.send((REFUSED, os.getpid(), len(encoded.buffers)), blobs)
            return False
        flush_streams()
        self.channel.send((READY, os.getpid()))
        return True

    def _awaited(self) -> tuple[Any, list[Any]]:
        """Wait for the message with the initializer; keep others that come before it."""
        while True:
            head, blobs = self.channel.receive()
            if head[0] == INITIALIZE:
                return blobs[0], blobs[1:]
            self._early.append((head, blobs))

    def serve(self) -> None:
        """Handle messages until the parent sends EXIT or is gone."""
        receive = Watch(self.channel.look, self.channel.receive).wait
        early = self._early
        while True:
            try:
                if self.at_rest is not None:
                    self.at_rest()
                head, blobs = early.pop(0) if early else receive()
            except (EOFError, ConnectionError):
                return
            if head[0] == RUN:
                self._run(head, blobs)
            elif head[0] == EXIT:
                return
            elif head[0] == FORGET:
                self.functions.forget(head[1])
                self.channel.return_now()
            elif head[0] == HOST:
                # From here on this worker is an actor, with a loop of its own.
                self.take_over(self.channel, *head[1:], blobs)
                return

    @staticmethod
    def take_over(*message: Any) -> None:
        """Hand the channel over to the loop of an actor."""
        look_up_with(None)  # the other end of the channel does not answer questions for names
        # Imported by name: the module is in a layer above, which workers of a Pool never load.
        __import__("pool._in_worker._actor")
        sys.modules["pool._in_worker._actor"].host(*message)

    def on_interrupt(self, signum: int, frame: object) -> None:
        """Raise KeyboardInterrupt in the chunk that the parent means, and only there.

        The signal may arrive when that chunk is over, and must not strike what runs then.
        """
        if os.getpid() != self._pid:
            raise KeyboardInterrupt  # this is a process that a task has forked
        if self.interruptible and self._is_target():
            self.interruptible = False
            words = self.words
            # The parent asks again until it reads this. A signal that comes just before a system
            # call does not end that call, and Python runs its handler only after the call.
            words[STRUCK] = chunk_word(words[MESSAGE], words[FINISHED])
            self._interrupt()

    def forked(self) -> None:
        """Let a fork that a task made begin no other chunk, nor write to the worker's page.

        Called in the fork.
        """
        for _ in self._left or ():
            continue
        self._is_last = True
        self.words = self._loop.detach()

    def strike_again(self) -> bool:
        """Let the running chunk be interrupted again if its interrupt was lost; return if so."""
        words = self.words
        struck = words[STRUCK] == chunk_word(words[MESSAGE], words[FINISHED])
        if struck and self._is_target() and os.getpid() == self._pid:
            self.interruptible = True
            return True
        return False

    def _is_target(self) -> bool:
        words = self.words
        return words[TARGET] == words[MESSAGE] and words[TARGET_CHUNK] & ~EXIT_AT_ONCE in (
            ALL_CHUNKS,
            words[FINISHED],
        )

    def _interrupt(self) -> None:
        if self.words[TARGET_CHUNK] & EXIT_AT_ONCE:
            # The worker kills itself: a signal from the parent might come when the next chunk runs.
            os.kill(os.getpid(), _signal.SIGKILL)
        raise KeyboardInterrupt

    def _begin_chunk(self) -> None:
        """Let interrupts through; raise one that was meant for this chunk and came before it."""
        self.interruptible = True
        if self._is_target():
            self._interrupt()

    # ------------------------------------------------------------------ messages

    def _run(self, head: Any, blobs: list[Any]) -> None:
        _, message_id, defines, forgets, runs = head
        words = self.words
        # Cleared first: the parent must not take counts of this message for those of the last one.
        words[MESSAGE] = 0
        words[FINISHED] = words[FLUSHED] = words[USED] = 0
        # Written last: from here on the parent takes chunk 0 for begun.
        words[MESSAGE] = message_id
        self._begun = perf_counter()
        # Before the definitions: a function that is forgotten may be defined anew.
        if forgets:
            self.functions.forget(forgets)
        position = 0
        if defines:
            with Undisturbed(self.carries):
                position = self.functions.define(defines, blobs)
        if len(runs) == 1 and runs[0][3] == 1:
            (chunk,) = chunks_of(runs, blobs, position)
            # The chunk's blocks are released before the answer, which tells the parent of it.
            blobs.clear()
            failed, outcome = self._outcome(chunk, message_id)
            self._send(message_id, 1, True, outcome.packet, failed)
        else:
            self._is_last = False
            try:
                self._run_many(message_id, runs, blobs, position)
            finally:
                self._left = None

    def _run_many(self, message_id: int, runs: Any, blobs: list[Any], position: int) -> None:
        loop = self._loop
        loop.begin(message_id)
        deadline = self._begun + PATIENCE
        self._left = iter(())
        for run in runs:
            if self._is_last:
                break
            function_id, mode, layout, _, size, extra = run
            if size == 1 and mode in (MAP, STAR) and layout != EACH:
                items = range(*extra) if layout == RANGE else loads(blobs[position])
                if not self._run_quick(message_id, function_id, mode, items, deadline):
                    break
            else:
                for chunk in chunks_of((run,), blobs, position):
                    failed, outcome = self._outcome(chunk)
                    if failed or outcome.buffers or not loop.keep(outcome.data):
                        self._send_one(message_id, outcome, failed)
                    if self._is_last or loop.halted or perf_counter() > deadline:
                        break
            # The final answer hands the rest back: it need not wait for a slow message to end.
            if loop.halted or perf_counter() > deadline:
                break
            position += blobs_of(run)
        count = loop.unsent
        self._send(message_id, count, True, [loop.kept()] if count else (), 0, loop.layout)

    def _run_quick(
        self, message_id: int, function_id: int, mode: int, items: Any, deadline: float
    ) -> bool:
        """Run chunks of one item each; return whether all were begun."""
        loop = self._loop
        before = loop.finished
        left = self._left = iter(items)
        function: Any = None
        while True:
            failed = 0
            try:
                self._begin_chunk()
                if function is None:
                    function = self.functions.for_items(function_id, mode)
                more, value = loop.run(function, left, deadline)
                self.interruptible = False
                if not more:
                    return not left.__length_hint__()
                failed, outcome = encode(value)
            except BaseException as error:
                self.interruptible = False
                self._end_fork(error)
                rest = left.__length_hint__()
                if len(items) - rest == loop.finished - before:
                    # The error is the next item's outcome, which the loop had not taken: either the
                    # function could not be loaded, or an interrupt came between two items.
                    if not rest:
                        return True  # meant for a chunk of the next run, which will raise it
                    next(left)
                failed, outcome = 1, self.dumps_error(error)
            self._send_one(message_id, outcome, failed)
            if loop.halted or perf_counter() > deadline:
                return not left.__length_hint__()

    def hand_back(self) -> None:
        """Hand back the chunks behind the running one, whose task is about to wait.

        Called by that task. It may wait for chunks of its own message: behind it, where no other
        worker can get at them, or before it, whose outcomes were not sent yet.
        """
        left = self._left
        if left is None or self._is_last or _get_ident() != self._thread:
            return
        message_id = self.words[MESSAGE]
        interruptible, self.interruptible = self.interruptible, False  # an answer must go out whole
        try:
            count, data, layout = self._loop.send_early()
            if count:
                self._send(message_id, count, False, [data], 0, layout)
            # Used up, so that the loop ends after the running chunk.
            for _ in left:
                continue
            self._is_last = True
            self.channel.send((REST, message_id))
        finally:
            self.interruptible = interruptible
        if interruptible and self._is_target():
            self.on_interrupt(_signal.SIGINT, None)  # one may have come meanwhile

    def _send_one(self, message_id: int, outcome: Encoded, failed: int) -> None:
        """Send the outcomes that are kept, and behind them one that could not be kept."""
        loop = self._loop
        words = self.words
        count = loop.unsent
        if count:
            self._send(message_id, count, False, [loop.kept()], 0, loop.layout)
        if loop.finished > loop.first:
            words[USED] = 0
            words[FLUSHED] = loop.finished
            loop.sent()
        if not failed and not outcome.buffers and loop.keep(outcome.data):
            return
        self._send(message_id, 1, False, outcome.packet, failed)
        loop.finished += 1
        words[FINISHED] = words[FLUSHED] = loop.finished
        loop.sent()

    def _send(
        self,
        message_id: int,
        chunks: int,
        final: bool,
        blobs: Any,
        failed: int,
        layout: int = ONE,
    ) -> None:
        self._end_fork(None)
        flush_streams()
        flush_files()
        if self.tells and len(sys.modules) >= self._modules + SOME:
            self._tell_imports()
        now = perf_counter()
        elapsed = now - self._begun
        self._begun = now
        try:
            self.channel.send((DONE, message_id, chunks, final, elapsed, failed, layout), blobs)
        except ConnectionError:
            raise  # the parent is gone
        except (OSError, MemoryError) as error:
            # A large message needs a file or a mapping, and none was to be had. Nothing of it was
            # sent: the chunk alone fails, and the message that says so is small.
            error.add_note("raised while sending the result to the parent")
            encoded = dumps_exception(error)
            head = (DONE, message_id, chunks, final, elapsed, 1, ONE)
            self.channel.send(head, encoded.packet)

    def _tell_imports(self) -> None:
        """Tell the parent what tasks have imported, so that later workers may find it loaded."""
        known, self._modules = self._modules, len(sys.modules)
        names, files = news(known)
        if len(names) < SOME:
            return
        try:
            self.channel.send((IMPORTED, names, files))
        except ConnectionError:
            raise  # the parent is gone
        except (OSError, MemoryError):
            pass  # then later workers import it themselves

    def _end_fork(self, error: BaseException | None) -> None:
        if os.getpid() != self._pid:
            end_fork(error)

    # ------------------------------------------------------------------ one chunk

    def _outcome(self, chunk: Any, alone: int = 0) -> tuple[int, Encoded]:
        """Run one chunk.

        Parameters
        ----------
        chunk : list
            ``[function_id, mode, size, items or payload]``; emptied.
        alone : int
            The message_id if this is the only chunk of the message, else 0.

        Returns
        -------
        failed : int
            0, or 1 + the position of the item in the chunk that raised.
        outcome : Encoded
            The pickled value or exception.
        """
        function_id, mode, size, items = chunk
        chunk.clear()
        left: Any = None
        try:
            self._begin_chunk()
            if mode == CALL:
                value = self.functions.call(function_id, items)
            else:
                function, items = self.functions.with_items(function_id, mode, items)
                left = iter(items)
                if alone and size > PART:
                    value = values_of(function, left, mode == STAR, partial(self._part, alone))
                elif mode == MAP:
                    value = [function(item) for item in left]
                else:
                    # Not `itertools.starmap`: a StopIteration of the function would end it early.
                    value = [function(*item) for item in left]
            self.interruptible = False
        except BaseException as error:
            self.interruptible = False
            self._end_fork(error)
            # The iterator knows how far it got. Counting items would cost the quickest tasks a
            # third of their time.
            position = 0 if left is None else len(items) - left.__length_hint__() - 1
            return max(position, 0) + 1, self.dumps_error(error)
        return encode(value[0] if size == 1 and mode != CALL else value)

    def _part(self, message_id: int, data: bytes) -> None:
        """Send the first values of the running chunk."""
        self._end_fork(None)
        self.interruptible = False  # a message must go out whole
        self.channel.send((PART_OF, message_id), [data])
        self._begin_chunk()
