"""Ctrl-C while the books are being written: noted, and raised when they are in order."""

from __future__ import annotations

import _signal
import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from store import _interrupts
from store._interrupts import Shield, ShieldedLock, shield

#: Seconds until a test gives up.
PATIENCE = 60.0


@pytest.fixture(autouse=True)
def pythons_own_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def handler() -> object:
    return signal.getsignal(signal.SIGINT)


def test_nothing_happens_without_a_signal() -> None:
    shield = Shield()
    assert shield.raised()
    assert handler() is not signal.default_int_handler
    shield.lower()
    assert handler() is signal.default_int_handler


def test_interrupt_is_raised_when_the_shield_is_lowered() -> None:
    shield = Shield()
    assert shield.raised()
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        shield.lower()
    assert handler() is signal.default_int_handler


def test_interrupt_is_raised_once() -> None:
    shield = Shield()
    assert shield.raised()
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        shield.lower()
    assert shield.raised()
    shield.lower()


def test_interrupt_after_the_shield_is_raised_at_once() -> None:
    shield = Shield()
    assert shield.raised()
    shield.lower()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_inner_shield_leaves_it_to_the_outer_one() -> None:
    shield = Shield()
    assert shield.raised()
    assert shield.raised() is False
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        shield.lower()


class Late(Exception):
    """What a program's own handler raises."""


@pytest.fixture
def seen() -> Iterator[list[int]]:
    """Install handlers of the program, one of which raises, and tell what they have seen."""
    seen: list[int] = []

    def raising(signum: int, frame: FrameType | None) -> None:
        seen.append(signum)
        raise Late

    def returning(signum: int, frame: FrameType | None) -> None:
        seen.append(signum)

    before = [(number, signal.getsignal(number)) for number in (signal.SIGALRM, signal.SIGTERM)]
    signal.signal(signal.SIGALRM, raising)
    signal.signal(signal.SIGTERM, returning)
    yield seen
    for number, handler in before:
        signal.signal(number, handler)


def test_handlers_of_the_program_are_called_when_the_shield_is_lowered(seen: list[int]) -> None:
    shield = Shield()
    handlers = [signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGTERM)]
    assert shield.raised()
    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGALRM):
        signal.raise_signal(number)
    assert seen == []
    with pytest.raises(Late):
        shield.lower()
    # The other one, too: the program may never come to a shield again.
    assert seen == [signal.SIGALRM, signal.SIGTERM]
    assert handlers == [signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGTERM)]


def test_handlers_of_the_program_are_called_at_once_where_it_is_open(seen: list[int]) -> None:
    shield = Shield()
    assert shield.raised()
    shield.opened(signal.raise_signal, signal.SIGTERM)
    assert seen == [signal.SIGTERM]
    signal.raise_signal(signal.SIGTERM)
    assert seen == [signal.SIGTERM]
    shield.opened(lambda: None)
    assert seen == [signal.SIGTERM] * 2
    with pytest.raises(Late):
        shield.opened(signal.raise_signal, signal.SIGALRM)
    shield.lower()


def test_what_strikes_a_finalizer_is_raised_behind_it() -> None:
    shield = Shield()
    done: list[str] = []

    class Finalized:
        def __del__(self) -> None:
            shielded = shield.enter()
            signal.raise_signal(signal.SIGINT)
            done.append("finalized")
            shield.leave_finalizer(shielded)

    finalized = Finalized()
    with pytest.raises(KeyboardInterrupt):
        del finalized
        time.sleep(5)
    assert done == ["finalized"]
    assert shield.raised()
    shield.lower()


def test_a_finalizer_is_not_interrupted_where_it_waits() -> None:
    shield = Shield()
    done: list[str] = []

    class Part:
        def __del__(self) -> None:
            shield.finalize(lambda: done.append("part"))

    class Finalized:
        def __init__(self) -> None:
            self.parts = [Part()]

        def __del__(self) -> None:
            shield.finalize(self.end)

        def end(self) -> None:
            self.parts.clear()
            signal.raise_signal(signal.SIGINT)
            shield.opened(done.append, "waited")
            shield.opened(signal.raise_signal, signal.SIGINT)
            done.append("finalized")

    finalized = Finalized()
    with pytest.raises(KeyboardInterrupt):
        del finalized
        time.sleep(5)
    assert done == ["part", "waited", "finalized"]
    # Elsewhere signals are let through as before.
    assert shield.raised()
    with pytest.raises(KeyboardInterrupt):
        shield.opened(signal.raise_signal, signal.SIGINT)
    shield.lower()


def test_a_finalizer_of_another_thread_leaves_the_main_one_open() -> None:
    shield = Shield()
    assert shield.raised()

    def interrupt() -> None:
        thread = threading.Thread(target=shield.finalize, args=(lambda: shield.opened(struck.set),))
        struck = threading.Event()
        thread.start()
        thread.join()
        assert struck.is_set()
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        shield.opened(interrupt)
    shield.lower()


def test_what_came_late_does_not_end_a_program_that_has_no_handler_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send_again = _interrupts._send_again
    restored, done = threading.Event(), threading.Event()

    def send_late(numbers: list[int]) -> None:
        assert restored.wait(PATIENCE)
        send_again(numbers)
        done.set()

    monkeypatch.setattr(_interrupts, "_send_again", send_late)
    shield = Shield()
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    shielded = shield.enter()
    signal.raise_signal(signal.SIGALRM)
    shield.leave_finalizer(shielded)
    signal.signal(signal.SIGALRM, before)
    restored.set()
    assert done.wait(PATIENCE)


def test_a_loop_of_asyncio_is_told_once_of_a_signal() -> None:
    told: list[str] = []

    async def struck() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, told.append, "told")
        for leave in (shield.leave, shield.leave_finalizer):
            token = shield.enter()
            signal.raise_signal(signal.SIGTERM)
            leave(token)
        await asyncio.sleep(0.01)

    asyncio.run(struck())
    assert told == ["told"] * 2


def test_handler_set_meanwhile_stays(seen: list[int]) -> None:
    shield = Shield()
    assert shield.raised()
    shield.opened(signal.signal, signal.SIGTERM, signal.SIG_IGN)
    shield.lower()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN


def test_handler_that_was_looked_up_meanwhile_can_be_restored() -> None:
    shield = Shield()
    assert shield.raised()
    found = signal.getsignal(signal.SIGINT)
    shield.lower()
    signal.signal(signal.SIGINT, found)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert shield.raised()
    signal.raise_signal(signal.SIGINT)  # deferred, as always
    with pytest.raises(KeyboardInterrupt):
        shield.lower()


def test_handler_that_was_looked_up_meanwhile_can_be_called_by_another_one() -> None:
    shield = Shield()
    assert shield.raised()
    found: Any = signal.getsignal(signal.SIGINT)
    shield.lower()
    called: list[int] = []

    def chained(signum: int, frame: FrameType | None) -> None:
        called.append(signum)
        found(signum, frame)

    signal.signal(signal.SIGINT, chained)
    assert shield.raised()
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        shield.lower()
    assert shield.raised()
    with pytest.raises(KeyboardInterrupt):
        shield.opened(signal.raise_signal, signal.SIGINT)
    shield.lower()
    assert called == [signal.SIGINT] * 2


def test_handler_that_raises_while_the_shield_moves_leaves_it_down(seen: list[int]) -> None:
    # Of two signals that come with the restoring of their handlers, one raises at once.
    shield = Shield()
    assert shield.raised()
    hook = handler()
    restore = _signal.signal
    restored: list[int] = []

    def restore_and_strike(number: int, handler: Any) -> Any:
        restored.append(number)
        result = restore(number, handler)
        if len(restored) == 1:
            raise Late
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_signal, "signal", restore_and_strike)
        with pytest.raises(Late):
            shield.lower()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        assert type(signal.getsignal(number)) is not type(hook)
    assert shield.raised()
    shield.lower()


@pytest.mark.parametrize("choice", [signal.SIG_IGN, signal.SIG_DFL])
def test_choice_of_the_program_is_left_alone(choice: signal.Handlers) -> None:
    signal.signal(signal.SIGINT, choice)
    shield = Shield()
    if shield.raised():  # for another signal's sake
        shield.lower()
    assert handler() == choice


def test_other_threads_need_no_shield() -> None:
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(Shield().raised()))
    thread.start()
    thread.join()
    assert answers == [False]
    assert handler() is signal.default_int_handler


def test_thread_that_forks_is_the_main_one_of_its_child() -> None:
    results: list[int] = []

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                shield = Shield()
                if shield.raised():
                    signal.raise_signal(signal.SIGINT)
                    try:
                        shield.lower()
                    except KeyboardInterrupt:
                        status = 42
            finally:
                os._exit(status)
        results.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    thread = threading.Thread(target=fork)
    thread.start()
    thread.join()
    assert results == [42]


def test_books_are_not_left_half_written() -> None:
    lock, books = ShieldedLock(), []
    with pytest.raises(KeyboardInterrupt), lock:
        books.append("debit")
        with lock:
            signal.raise_signal(signal.SIGINT)
        books.append("credit")
    assert books == ["debit", "credit"]
    assert not lock.held_here
    assert handler() is signal.default_int_handler


def test_books_are_whole_where_a_wait_lets_interrupts_through() -> None:
    lock, books = ShieldedLock(), []

    def callback() -> None:
        with lock:
            books.append("debit")
            signal.raise_signal(signal.SIGINT)
            books.append("credit")
        books.append("never")

    assert shield.raised()
    try:
        with pytest.raises(KeyboardInterrupt):
            shield.opened(callback)
    finally:
        shield.lower()
    assert books == ["debit", "credit"]


def test_lock_keeps_other_threads_out_and_shields_only_the_main_one() -> None:
    lock = ShieldedLock()
    seen: list[object] = []

    def other() -> None:
        with lock:
            seen.append(handler())

    with lock:
        thread = threading.Thread(target=other)
        thread.start()
        assert not seen
    thread.join()
    assert seen == [signal.default_int_handler]
