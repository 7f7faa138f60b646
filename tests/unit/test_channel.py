"""Messages between two ends: whole, in order, of any size, and no descriptor left open."""

from __future__ import annotations

import _socket
import errno
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pool._transport import _channel
from pool._transport._channel import BUFFER_NBYTES, FDS_MAX, INLINE_MAX, Channel, DescriptorsLost
from pool._transport._sockets import socket_from, socket_pair
from store import _anonymous, _links
from store._depot import Depot, depot

DONTWAIT = _socket.MSG_DONTWAIT
Ends = tuple[Channel, Channel]


@pytest.fixture
def ends() -> Iterator[Ends]:
    first, second = (Channel(socket) for socket in socket_pair())
    yield first, second
    first.close()
    second.close()


def exchanged(ends: Ends, head: Any, blobs: Any = ()) -> tuple[Any, list[Any]]:
    ends[0].send(head, blobs)
    received, sent_along = ends[1].receive(DONTWAIT)
    return received, list(sent_along)


@pytest.mark.parametrize(
    "head", [(), (1,), (None, True, 2.5, "ü", b"\0"), ((1, (2, ())), [3, [4]]), (1 << 80,)]
)
def test_head_arrives_as_it_was(ends: Ends, head: Any) -> None:
    assert exchanged(ends, head) == (head, [])


def test_blobs_arrive_in_order_and_apart(ends: Ends) -> None:
    blobs = [b"", b"a", bytearray(b"bc"), memoryview(b"xdefx")[1:-1], b""]
    head, received = exchanged(ends, (7,), blobs)
    assert head == (7,)
    assert [bytes(blob) for blob in received] == [b"", b"a", b"bc", b"def", b""]


def test_messages_keep_their_boundaries(ends: Ends) -> None:
    for number in range(20):
        ends[0].send((number,), [bytes(number)])
    for number in range(20):
        head, (blob,) = ends[1].receive(DONTWAIT)
        assert (head, len(blob)) == ((number,), number)


@pytest.mark.parametrize("distance", [-200, -40, -20, -12, -8, -4, -1, 0, 1, 2, 8, 40, 200])
def test_sizes_around_the_limit_of_the_socket(ends: Ends, distance: int) -> None:
    data = os.urandom(INLINE_MAX + distance)
    assert exchanged(ends, (distance,), [data]) == ((distance,), [data])
    halves = [data[: len(data) // 2], data[len(data) // 2 :]]
    assert exchanged(ends, (distance,), halves) == ((distance,), halves)


def test_large_head_without_blobs(ends: Ends) -> None:
    head = (tuple(range(50_000)), "x" * INLINE_MAX)
    assert exchanged(ends, head) == (head, [])


def test_many_empty_blobs_are_not_too_large_for_the_socket(ends: Ends) -> None:
    # Their bytes are nothing, their envelope is everything.
    _, blobs = exchanged(ends, (1,), [b""] * (2 * INLINE_MAX))
    assert blobs == [b""] * (2 * INLINE_MAX)


def test_large_blobs_arrive_writable_and_private(ends: Ends) -> None:
    data = bytearray(os.urandom(1 << 20))
    _, (received,) = exchanged(ends, (1,), [data])
    assert received == data
    received[0] ^= 0xFF
    assert received != data
    assert memoryview(received).readonly is False


def test_small_and_large_messages_keep_their_order(ends: Ends) -> None:
    sizes = [10, 1 << 20, 0, INLINE_MAX + 1, 5]
    for size in sizes:
        ends[0].send((size,), [bytes(size)])
    assert [len(ends[1].receive(DONTWAIT)[1][0]) for _ in sizes] == sizes


def test_two_sides_send_each_other_large_messages_without_waiting(ends: Ends) -> None:
    data = bytes(8 << 20)
    ends[0].send((0,), [data], flags=DONTWAIT)
    ends[1].send((1,), [data], flags=DONTWAIT)
    assert ends[0].receive(DONTWAIT)[0] == (1,)
    assert ends[1].receive(DONTWAIT)[0] == (0,)


def test_old_contents_of_the_buffer_do_not_show_through(ends: Ends) -> None:
    exchanged(ends, (1,), [b"\xff" * 40_000])
    assert exchanged(ends, (2,), [b"abc"]) == ((2,), [b"abc"])


def test_channels_may_share_a_buffer() -> None:
    buffer = bytearray(BUFFER_NBYTES)
    pairs = [socket_pair() for _ in range(2)]
    senders = [Channel(pair[0]) for pair in pairs]
    receivers = [Channel(pair[1], buffer) for pair in pairs]
    for number, sender in enumerate(senders):
        sender.send((number,), [bytes([number]) * 100])
    received = [receiver.receive(DONTWAIT) for receiver in receivers]
    assert received == [((0,), [bytes(100)]), ((1,), [b"\1" * 100])]
    for channel in senders + receivers:
        channel.close()


# --- nothing there, nobody there --------------------------------------------------------


def test_nothing_to_receive(ends: Ends) -> None:
    with pytest.raises(BlockingIOError):
        ends[1].receive(DONTWAIT)


def test_full_mailbox_raises_instead_of_waiting(ends: Ends) -> None:
    count = 0
    with pytest.raises(BlockingIOError):
        while count < 100_000:
            ends[0].send((count,), [bytes(1000)], flags=DONTWAIT)
            count += 1
    assert [ends[1].receive(DONTWAIT)[0] for _ in range(count)] == [(n,) for n in range(count)]


def test_full_mailbox_does_not_leak_the_file_of_a_large_message(ends: Ends) -> None:
    with pytest.raises(BlockingIOError):
        for count in range(100_000):
            ends[0].send((count,), [bytes(1000)], flags=DONTWAIT)
    with pytest.raises(BlockingIOError):
        ends[0].send((0,), [bytes(1 << 20)], flags=DONTWAIT)


def test_end_of_messages_after_the_other_end_was_closed(ends: Ends) -> None:
    ends[0].send((1,), [b"last words"])
    ends[0].close()
    assert ends[1].receive() == ((1,), [b"last words"])
    with pytest.raises(EOFError, match="closed"):
        ends[1].receive()


@pytest.mark.parametrize("nbytes", [0, 1 << 20])
def test_send_to_an_end_that_is_closed(ends: Ends, nbytes: int) -> None:
    ends[1].close()
    with pytest.raises(ConnectionError):
        ends[0].send((1,), [bytes(nbytes)])


def test_closed_channel_has_no_descriptor(ends: Ends) -> None:
    assert ends[0].fileno() >= 0
    ends[0].close()
    assert ends[0].fileno() == -1


def test_receiver_wakes_when_a_message_comes(ends: Ends) -> None:
    received: list[Any] = []
    thread = threading.Thread(target=lambda: received.append(ends[1].receive()))
    thread.start()
    ends[0].send((5,), [b"x"])
    thread.join()
    assert received == [((5,), [b"x"])]


def test_receiver_wakes_when_the_peer_is_gone(ends: Ends) -> None:
    caught: list[BaseException] = []

    def receive() -> None:
        try:
            ends[1].receive()
        except EOFError as error:
            caught.append(error)

    thread = threading.Thread(target=receive)
    thread.start()
    ends[0].close()
    thread.join()
    assert len(caught) == 1


def test_peer_that_is_killed_leaves_whole_messages_and_then_the_end() -> None:
    ours, theirs = socket_pair()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            channel = Channel(theirs)
            channel.send((1,), [bytes(1 << 20)])
            channel.send((2,), [b"x"])
        finally:
            os.kill(os.getpid(), 9)
    theirs.close()
    channel = Channel(ours)
    os.waitpid(pid, 0)
    assert channel.receive()[0] == (1,)
    assert channel.receive() == ((2,), [b"x"])
    with pytest.raises(EOFError):
        channel.receive()
    channel.close()


def test_second_reader_takes_what_the_first_has_not_read(ends: Ends) -> None:
    other = Channel(socket_from(os.dup(ends[1].fileno())))
    for number in range(3):
        ends[0].send((number,))
    assert ends[1].receive(DONTWAIT)[0] == (0,)
    assert other.receive(DONTWAIT)[0] == (1,)
    assert ends[1].receive(DONTWAIT)[0] == (2,)
    with pytest.raises(BlockingIOError):
        other.receive(DONTWAIT)
    other.close()


# --- descriptors ------------------------------------------------------------------------


def same_file(one: int, other: int) -> bool:
    return os.path.samestat(os.fstat(one), os.fstat(other))


@pytest.mark.parametrize("nbytes", [0, 1 << 20])
def test_descriptors_are_handed_over(ends: Ends, nbytes: int) -> None:
    given = [os.open(os.devnull, os.O_RDONLY), os.open("/", os.O_RDONLY)]
    ends[0].send((3,), [bytes(nbytes)], given)
    head, blobs, received = ends[1].receive_fds(DONTWAIT)
    assert head == (3,)
    assert [len(blob) for blob in blobs] == [nbytes]
    assert len(received) == 2
    assert all(map(same_file, given, received))
    assert not set(given) & set(received)
    # They stay open here, and are not inherited by programs that either side starts.
    assert not any(os.get_inheritable(fd) for fd in received)
    for fd in given + received:
        os.close(fd)


def test_as_many_descriptors_as_one_message_may_hold(ends: Ends) -> None:
    fd = os.open(os.devnull, os.O_RDONLY)
    ends[0].send((1,), fds=[fd] * FDS_MAX)
    _, _, received = ends[1].receive_fds(DONTWAIT)
    assert len(received) == FDS_MAX
    for number in [fd, *received]:
        os.close(number)


def test_descriptor_that_nobody_asked_for_is_closed(ends: Ends) -> None:
    fd = os.open(os.devnull, os.O_RDONLY)
    ends[0].send((1,), [b"x"], [fd])
    os.close(fd)
    assert ends[1].receive(DONTWAIT) == ((1,), [b"x"])
    # That nothing is left open is what the fixture of every test checks.


def test_unread_large_message_vanishes_with_its_socket(ends: Ends) -> None:
    ends[0].send((1,), [bytes(1 << 20)])
    ends[0].close()
    ends[1].close()


def test_file_that_cannot_be_written_is_closed(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, parts: Any) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(_anonymous, "write_all", full)
    with pytest.raises(OSError, match="full"):
        ends[0].send((1,), [bytes(1 << 20)])
    with pytest.raises(BlockingIOError):
        ends[1].receive(DONTWAIT)


def test_where_the_temporary_folder_is_full_the_error_says_where_it_is(
    ends: Ends, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(fd: int, data: Any, offset: int) -> int:
        if offset:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data[: 1 << 16], offset)

    write = os.pwrite
    monkeypatch.setattr(_anonymous, "MODE", "tmpfile")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match=f"1048576 bytes in {tmp_path} .see TMPDIR") as caught:
        ends[0].send((1,), [bytes(1 << 20)])
    assert caught.value.errno == errno.ENOSPC


@pytest.fixture
def no_descriptor_free() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.open(os.devnull, os.O_RDONLY)
    # Nothing can be opened at or above the limit; below it, everything is taken here.
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare + 1, hard))
    taken = [spare]
    try:
        while True:
            try:
                taken.append(os.dup(spare))
            except OSError:
                break
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)


# The latter need more room to be listed than the rest of the message gets in the socket.
@pytest.fixture(params=[1, 5000], ids=["one blob", "many blobs"])
def large_message(request: pytest.FixtureRequest, ends: Ends) -> None:
    ends[0].send((1, "about"), [bytes((1 << 20) // request.param)] * request.param)


def test_receiver_without_a_free_descriptor_is_told_so(
    ends: Ends, large_message: None, no_descriptor_free: None
) -> None:
    with pytest.raises(DescriptorsLost, match="ulimit") as caught:
        ends[1].receive(DONTWAIT)
    assert caught.value.errno == errno.EMFILE
    assert caught.value.head == (1, "about")


@pytest.mark.parametrize(
    ("error", "code", "why"),
    [
        (MemoryError(), errno.ENOMEM, "no memory for it"),
        (OSError(errno.EIO, "bad sector"), errno.EIO, "not been able to read it: bad sector"),
    ],
)
def test_receiver_that_cannot_read_a_message_is_told_so(
    ends: Ends, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, why: str
) -> None:
    def refuse(*args: Any) -> Any:
        raise error

    # Large, so it comes in a file, and its head beside that.
    ends[0].send(("head", 1), [bytes(4 * INLINE_MAX)])
    ends[0].send(("next",))
    with monkeypatch.context() as patched:
        patched.setattr(_anonymous, "read_into", refuse)
        with pytest.raises(OSError, match=why) as caught:
            ends[1].receive()
    lost: Any = caught.value
    assert (lost.errno, lost.head) == (code, ("head", 1))
    assert type(lost.plain()) is OSError
    assert ends[1].receive()[0] == ("next",)


def test_sender_without_a_free_descriptor_is_told_so(ends: Ends, no_descriptor_free: None) -> None:
    with pytest.raises(OSError) as caught:
        ends[0].send((1,), [bytes(1 << 20)])
    assert caught.value.errno == errno.EMFILE
    assert exchanged(ends, (2,), [b"small ones still pass"])[0] == (2,)


# --- by reference -----------------------------------------------------------------------


@pytest.fixture
def linked_to_the_dead(linked: Ends) -> Ends:
    linked[0].send((1,), [bytearray(1 << 20)])
    linked[1].socket.close()
    return linked


def test_dead_leave_nothing_behind_where_no_descriptor_is_free(
    linked_to_the_dead: Ends, no_descriptor_free: None
) -> None:
    first, _ = linked_to_the_dead
    assert counts(first) == 1
    first.close()
    assert counts(first) == 0


@pytest.fixture
def linked() -> Iterator[Ends]:
    first, second = (Channel(socket, linked=True) for socket in socket_pair())
    yield first, second
    first.close()
    second.close()


class Striking:
    """A socket that a signal strikes when a message has just left by it."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def sendmsg(self, *args: Any) -> None:
        self._socket.sendmsg(*args)
        signal.raise_signal(signal.SIGINT)


def counts(channel: Channel) -> int:
    """Return how many references the other end has by the books of this process."""
    return len(depot().ledger.held_by(channel.link))


def test_finalizer_does_not_wait_for_another_thread_to_return_something(linked: Ends) -> None:
    first, second = linked
    first.send((1,), [bytearray(1 << 20)])
    second.receive()  # let go at once, and to be returned
    assert second.link is not None
    with ThreadPoolExecutor(1) as executor, depot()._lock:
        executor.submit(second.link.returned._urge).result(timeout=30)
        assert second.link.due
    second.return_now()
    for _ in range(2):
        first.receive(DONTWAIT)
    assert counts(first) == 0


def test_threads_that_send_by_reference_at_once_have_one_link(
    linked: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2)

    def made(urge: Any, _kind: Any = _links.Link) -> Any:
        both.wait(10)
        return _kind(urge)

    monkeypatch.setattr(_links, "Link", made)
    with ThreadPoolExecutor(2) as threads:
        links = set(threads.map(lambda _: linked[0]._linking(), range(2)))
    assert links == {linked[0].link}


def test_interrupt_does_not_undo_what_was_sent(linked: Ends) -> None:
    first, second = linked
    first.socket = Striking(first.socket)  # type: ignore[assignment]  # it passes all on
    with pytest.raises(KeyboardInterrupt):
        first.send((1,), [bytearray(1 << 20)])
    assert counts(first) == 1
    head, (block,) = second.receive()
    assert (head, len(block)) == ((1,), 1 << 20)
    del block
    second.return_now()
    with pytest.raises(BlockingIOError):
        first.receive(DONTWAIT) and first.receive(DONTWAIT)
    assert counts(first) == 0


def test_interrupt_ends_the_wait_for_room_and_undoes_what_was_not_sent(linked: Ends) -> None:
    first, _ = linked
    with pytest.raises(BlockingIOError):
        while True:
            first.send((0,), [bytes(INLINE_MAX // 2)], flags=DONTWAIT)
    waiting = _channel._wait_for_room

    def strike(fd: int) -> None:
        signal.raise_signal(signal.SIGINT)
        waiting(fd)

    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(_channel, "_wait_for_room", strike)
        first.send((1,), [bytearray(1 << 20)])
    assert counts(first) == 0


def test_what_waits_for_room_is_sent(linked: Ends) -> None:
    first, second = linked
    sent = 0
    with pytest.raises(BlockingIOError):
        while True:
            first.send((sent,), [bytes(INLINE_MAX // 2)], flags=DONTWAIT)
            sent += 1
    with ThreadPoolExecutor(1) as executor:
        received = executor.submit(lambda: [second.receive()[0][0] for _ in range(sent + 1)])
        first.send((sent,), [bytearray(1 << 20)])
        assert received.result() == list(range(sent + 1))


def test_what_cannot_be_packed_is_undone(linked: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = linked
    second.send((0,), [bytearray(1 << 20)])
    first.receive()  # let go at once, and to be returned
    place = Depot.place

    def fail(self: Depot, blob: Any, link: Any) -> Any:
        if len(blob) > 1 << 20:
            raise MemoryError
        return place(self, blob, link)

    with monkeypatch.context() as patched, pytest.raises(MemoryError):
        patched.setattr(Depot, "place", fail)
        first.send((1,), [bytearray(1 << 20), bytearray(2 << 20)])
    assert counts(first) == 0 and counts(second) == 1
    assert first.link is not None and first.link.due
    first.return_now()
    with pytest.raises(BlockingIOError):
        second.receive(DONTWAIT) and second.receive(DONTWAIT)
    assert counts(second) == 0


# --- the portable way -------------------------------------------------------------------

PORTABLE = """
import os
from pool._transport._channel import Channel
from pool._transport._sockets import socket_pair
import store._anonymous as anonymous

assert anonymous.MODE == {mode!r}
before = len(os.listdir("/proc/self/fd"))
first, second = map(Channel, socket_pair())
data = [os.urandom(1 << 20), b"", os.urandom(100)]
first.send((1, "x"), data)
with_file = len(os.listdir("/proc/self/fd"))
assert with_file == before + 2, "the sender keeps the file open"
head, blobs = second.receive()
assert head == (1, "x") and blobs == data
file = anonymous.create()
anonymous.write_all(file, [b"abc"])
print(os.readlink(f"/proc/self/fd/{{file}}"))
os.close(file)
first.close(), second.close()
assert len(os.listdir("/proc/self/fd")) == before
"""


@pytest.mark.parametrize(("mode", "kind"), [("tmpfile", "deleted"), ("auto", "memfd:")])
def test_large_messages_by_both_kinds_of_anonymous_file(mode: str, kind: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PORTABLE.format(mode=mode)],
        env={**os.environ, "POOL_STORE": mode},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert kind in done.stdout
    assert ("memfd" in done.stdout) == (mode == "auto")
