"""Messages between two processes, whole or not at all.

A channel is one end of a ``SOCK_SEQPACKET`` pair (``SOCK_DGRAM`` where that does not
exist): the kernel keeps message boundaries, so a process that is killed while sending
leaves no torn message behind, and an unread message can be taken back by whoever holds a
second descriptor of the receiving end.

A message is a *head*, a tuple of plain values, and *blobs*, byte strings or buffers. Small
messages travel in the socket. Large ones are written to an anonymous file whose
descriptor travels instead; the receiver reads each blob into memory of its own, which is
writable and private. So neither side ever waits for the other half-way through a message,
and two processes that send each other large messages cannot block each other.

``marshal`` packs the envelope: both ends are the same interpreter, and it is twice as
fast as pickle. The blobs are what users' objects were pickled into.
"""

from __future__ import annotations

import _socket
import errno
import marshal
import os
import sys

import store._anonymous as anonymous

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Blob = bytes | bytearray | memoryview
    Head = tuple[Any, ...]

#: Messages up to this size travel in the socket. Two of them per worker stay far below
#: the default socket buffer (208 KiB), so a send within the scheduler's depth never waits.
INLINE_MAX = 48 * 1024

#: Descriptors in one message; the kernel allows 253.
FDS_MAX = 128

#: A channel receives into a buffer of this size.
BUFFER_NBYTES = INLINE_MAX + 4096

_FD_SIZE = 4
_KIND = getattr(_socket, "SOCK_SEQPACKET", _socket.SOCK_DGRAM)
# Version 2 does not look for repeated objects, which costs more than it saves here.
_MARSHAL = 2


def socket_pair() -> tuple[_socket.socket, _socket.socket]:
    """Return two connected sockets that keep message boundaries (close-on-exec)."""
    return _socket.socketpair(_socket.AF_UNIX, _KIND, 0)


def socket_from(fd: int) -> _socket.socket:
    """Return the socket object of a descriptor that was made by `socket_pair`."""
    return _socket.socket(_socket.AF_UNIX, _KIND, 0, fd)


class Channel:
    """Send and receive messages over one socket.

    Parameters
    ----------
    socket : _socket.socket
        Owned by the channel from now on.
    """

    __slots__ = ("_buffer", "socket")

    def __init__(self, socket: _socket.socket, buffer: bytearray | None = None) -> None:
        self.socket = socket
        #: May be shared by channels that are read under one lock.
        self._buffer = bytearray(BUFFER_NBYTES) if buffer is None else buffer

    def fileno(self) -> int:
        """Return the descriptor, -1 once closed."""
        return self.socket.fileno()

    def close(self) -> None:
        """Close this end."""
        self.socket.close()

    def send(
        self, head: Head, blobs: Sequence[Any] = (), fds: Sequence[int] = (), flags: int = 0
    ) -> None:
        """Send one message.

        Parameters
        ----------
        head : tuple
            Of None, bool, int, float, str, bytes and tuples or lists of these.
        blobs : sequence of bytes-like
            Each one contiguous and flat (``len(blob)`` is its size in bytes).
        fds : sequence of int
            Descriptors to hand over; they stay open here.
        flags : int
            ``MSG_DONTWAIT`` raises BlockingIOError instead of waiting.

        Raises
        ------
        OSError
            If the other end is gone, or an anonymous file cannot be written.
        """
        nbytes = 0
        for blob in blobs:
            nbytes += len(blob)
        if nbytes <= INLINE_MAX:
            data = marshal.dumps((head, blobs, False), _MARSHAL)  # type: ignore[arg-type]  # the caller vouches for it
            if len(data) <= INLINE_MAX:
                if fds:
                    self._send_fds(data, list(fds), flags)
                else:
                    self.socket.send(data, flags)
                return
        envelope = marshal.dumps((head, [len(blob) for blob in blobs]), _MARSHAL)
        file = anonymous.create()
        try:
            anonymous.write_all(file, [envelope, *blobs])
            note = marshal.dumps((len(envelope), None, True), _MARSHAL)
            self._send_fds(note, [*fds, file], flags)
        finally:
            os.close(file)

    def _send_fds(self, data: bytes, fds: list[int], flags: int) -> None:
        packed = b"".join(fd.to_bytes(_FD_SIZE, _ORDER) for fd in fds)
        self.socket.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)], flags)

    def receive(self, flags: int = 0) -> tuple[Head, list[Any]]:
        """Wait for one message and return its head and blobs.

        Raises
        ------
        EOFError
            If the other end is closed.
        BlockingIOError
            With ``MSG_DONTWAIT``, if there is none.
        """
        head, blobs, fds = self.receive_fds(flags, _FD_SIZE)
        for fd in fds:
            os.close(fd)
        return head, blobs

    def receive_fds(
        self, flags: int = 0, fds_nbytes: int = FDS_MAX * _FD_SIZE
    ) -> tuple[Head, list[Any], list[int]]:
        """Wait for one message and return its head, blobs and descriptors.

        The descriptors belong to the caller.
        """
        count, ancillary, received, _ = self.socket.recvmsg_into(
            [self._buffer], _cmsg_space(fds_nbytes), flags | _CLOEXEC
        )
        if not count:
            raise EOFError("the other end of the channel is closed")
        if received & _TRUNCATED:
            raise OSError(
                errno.EMFILE,
                "a message was lost because this process has no free descriptor for it; "
                "raise `ulimit -n`",
            )
        head, blobs, in_file = marshal.loads(self._buffer)
        if not ancillary:
            return head, blobs, []
        packed = b"".join(part for *_, part in ancillary)
        fds = [
            int.from_bytes(packed[at : at + _FD_SIZE], _ORDER)
            for at in range(0, len(packed), _FD_SIZE)
        ]
        if in_file:
            head, blobs = _read_file(fds.pop(), head)
        return head, blobs, fds


def _read_file(fd: int, envelope_nbytes: int) -> tuple[Head, list[Any]]:
    try:
        envelope = bytearray(envelope_nbytes)
        anonymous.read_into(fd, envelope, 0)
        head, sizes = marshal.loads(envelope)
        blobs = []
        offset = envelope_nbytes
        for size in sizes:
            blob = bytearray(size)
            anonymous.read_into(fd, blob, offset)
            offset += size
            blobs.append(blob)
        return head, blobs
    finally:
        os.close(fd)


def _cmsg_space(nbytes: int) -> int:
    space = _SPACES.get(nbytes)
    if space is None:
        space = _SPACES[nbytes] = _socket.CMSG_SPACE(nbytes)
    return space


_SPACES: dict[int, int] = {}
_ORDER: Any = sys.byteorder
_TRUNCATED = _socket.MSG_CTRUNC
_CLOEXEC = getattr(_socket, "MSG_CMSG_CLOEXEC", 0)
