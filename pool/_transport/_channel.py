"""Messages between two processes, whole or not at all.

A channel is one end of a ``SOCK_SEQPACKET`` pair: the kernel keeps message boundaries, so a
process that is killed while sending leaves no torn message behind, and an unread message can be
taken back by whoever holds a second descriptor of the receiving end.

A message is a *head*, a tuple of plain values, and *blobs*, byte strings or buffers. Small
messages travel in the socket. Large ones are written to an anonymous file whose
descriptor travels instead; the receiver reads each blob into memory of its own, which is
writable and private. So neither side ever waits for the other half-way through a message,
and two processes that send each other large messages cannot block each other.

Where both ends are *linked*, large blobs are not even copied into a file: they are put in the
sender's store, once, and only references travel; the receiver gets blocks, see `store._links`.

``marshal`` packs the envelope, which is everything but the blobs in a file: both ends are the same
interpreter, and it is twice as fast as pickle. The blobs are what users' objects were pickled into.
"""

from __future__ import annotations

import _socket
import errno
import marshal
import os
import sys
from _socket import MSG_CMSG_CLOEXEC, MSG_DONTWAIT, SHUT_WR

import store._anonymous as anonymous
from pool._transport._messages import RETURNS
from pool._transport._sentinel import Sentinel
from pool._transport._sockets import socket_from
from store._codec import opened
from store._interrupts import shield

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from store._links import Link

    Head = tuple[Any, ...]

#: Messages up to this size travel in the socket. Two of them fit into the default socket
#: buffer (208 KiB), so a send within the scheduler's depth never waits. A call with an array
#: of 64 KiB takes two thirds of the time that it takes by reference.
INLINE_MAX = 96 * 1024

#: If the blobs of a message are in a file, a larger envelope goes there as well; its head then
#: stays in the socket if it is not larger itself. A receiver that has no descriptor left for the
#: file knows at least what was in the socket.
ENVELOPE_MAX = 16 * 1024

#: Descriptors in one message; the kernel allows 253.
FDS_MAX = 128

#: A channel receives into a buffer of this size.
BUFFER_NBYTES = INLINE_MAX + 4096

_FD_SIZE = 4
#: Bytes for the descriptors of an ordinary message: one of the caller's, one of a file, and
#: `store._links.SEGMENTS_MAX` of segments.
FEW = 14 * _FD_SIZE
# Version 2 does not look for repeated objects, which costs more than it saves here.
_MARSHAL = 2


_NO_DESCRIPTOR = errno.EMFILE, "no free descriptor for it; raise `ulimit -n`"
_NO_MEMORY = errno.ENOMEM, "no memory for it"


class DescriptorsLost(OSError):
    """A message was lost because this process has no free descriptor, or no memory, for it.

    Or because the disk with its file cannot be read.

    Attributes
    ----------
    head : tuple or None
        The head of the message; None if that was in the lost file as well.
    note : tuple or None
        The note of the message, see `store._links`.
    """

    def __init__(
        self, head: Any, note: Any = None, reason: tuple[int, str] = _NO_DESCRIPTOR
    ) -> None:
        code, why = reason
        super().__init__(code, f"a message was lost because this process has {why}")
        self.head = head
        self.note = note

    def plain(self) -> OSError:
        """Return a builtin error that says the same, for the caller that waits for the message.

        To unpickle another one would import its module, for which there is no descriptor.
        """
        return OSError(*self.args)


class Channel:
    """Send and receive messages over one socket.

    Parameters
    ----------
    socket : _socket.socket
        Owned by the channel from now on.
    buffer : bytearray, optional
        To receive into; may be shared by channels that are read under one lock.
    linked : bool
        Send large blobs by reference. Both ends must be linked, and the other end must belong to
        one process only, with whose end its references end.
    beside : Channel, optional
        An older connection to the same process, over which the other end of this one came.

    Attributes
    ----------
    link : Link or None
        Keeps account of what travels by reference; None until anything has.
    """

    __slots__ = ("_buffer", "_family", "_linked", "link", "socket")

    def __init__(
        self,
        socket: _socket.socket,
        buffer: bytearray | None = None,
        linked: bool = False,
        beside: Channel | None = None,
    ) -> None:
        self.socket = socket
        self._buffer = bytearray(BUFFER_NBYTES) if buffer is None else buffer
        self._linked = linked
        self.link: Link | None = None
        #: All open connections to the same process, if there are more than one.
        self._family: list[Channel] = []
        if beside is not None:
            older = [channel for channel in beside._family or [beside] if channel.fileno() >= 0]
            # The list stays the same: those that were closed look at it.
            beside._family[:] = [*older, self]
            self._family = beside._family

    def fileno(self) -> int:
        """Return the descriptor, -1 once closed."""
        return self.socket.fileno()

    def close(self) -> None:
        """Close this end.

        Objects that the other end was sent by reference are taken back when it is gone: the
        process, and its children that inherited the socket and may look at the same memory; and
        when its other connections are closed, too.
        """
        link = self.link
        sentinel = None
        if link is not None:
            sentinel = Sentinel(self.socket.fileno(), self._family)
            if link.is_own:  # a fork has the same connection, which goes on
                self._end_sending()
        self.socket.close()
        if link is not None and sentinel is not None:
            link.close(sentinel.alive)
            return
        for channel in self._family:
            if channel.link is not None:
                channel.link.sweep()  # it may have waited for this one

    def _end_sending(self) -> None:
        """Have the other end see that this one is closed, although the sentinel has a copy of it.

        The copy is kept until the other process has ended, which ends when it sees that.
        """
        try:
            self.socket.shutdown(SHUT_WR)
        except OSError:
            pass  # it has ended already

    def leave(self) -> None:
        """Use this end no more, while both processes live on.

        Its socket closes when this process has let go of everything that came by reference: only
        then the other end takes back what it has sent, as it does where children are left.
        """
        link, self.link = self.link, None
        if link is None:
            self.close()
            return
        link.returned.kept = kept = socket_from(self.socket.detach())
        link.close(Sentinel(kept.fileno()).alive)

    def send(
        self, head: Head, blobs: Sequence[Any] = (), fds: Sequence[int] = (), flags: int = 0
    ) -> None:
        """Send one message.

        Parameters
        ----------
        head : tuple
            Of None, bool, int, float, str, bytes and tuples or lists of these.
        blobs : sequence of bytes-like
            Each one contiguous and flat (``len(blob)`` is its size in bytes), or a block.
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
        link = self.link
        if nbytes <= INLINE_MAX and (link is None or not link.due):
            try:
                data = marshal.dumps((head, blobs, None), _MARSHAL)  # type: ignore[arg-type]  # the caller vouches for it
            except ValueError:
                pass  # a block is among the blobs: it travels by reference
            else:
                if len(data) <= INLINE_MAX:
                    if fds:
                        self._send_fds(data, list(fds), flags)
                    else:
                        self.socket.send(data, flags)
                    return
        if not self._linked:
            # The bytes of blocks as well: the other end shares no memory with this one.
            self._send_large(head, [opened(blob) for blob in blobs], None, list(fds), flags)
            return
        self._send_linked(head, blobs, fds, flags)

    def _send_linked(
        self, head: Head, blobs: Sequence[Any], fds: Sequence[int], flags: int, waits: bool = True
    ) -> None:
        link = self._linking()
        # References count if the message is sent, and only then. An interrupt must not strike where
        # it would be unknown whether it was sent.
        shielded = shield.enter()
        try:
            left, note, segments = link.pack(blobs, waits)
            opened: list[int] = []
            try:
                opened = link.opened(note, segments)
                sent = [old if new < 0 else new for old, new in zip(segments, opened, strict=True)]
                self._send_large(head, left, note, [*fds, *sent], flags, bool(shielded))
            except BaseException:
                link.take_back(note)
                raise
            finally:
                for fd in opened:
                    if fd >= 0:
                        os.close(fd)
        finally:
            shield.leave(shielded)

    def _linking(self) -> Link:
        if self.link is None:
            from store._links import Link

            made = Link(self._urge)
            # Threads of an actor answer at the same time, and must use one link. Between these two
            # lines the interpreter lets no other thread and no signal handler run, since nothing
            # is called.
            if self.link is None:
                self.link = made
        return self.link

    def return_now(self, waits: bool = True) -> None:
        """Tell the other end which of its objects were let go here, if the socket has room.

        Parameters
        ----------
        waits : bool
            Wait while another thread uses the store.
        """
        if self.link is None or not self.link.due:
            return
        try:
            self._send_linked((RETURNS, 0), (), (), MSG_DONTWAIT, waits)
        except OSError:
            return  # no room: told with the next message; or the other end is gone

    def _urge(self) -> None:
        """Do as `return_now` in a finalizer, which must not wait for another thread.

        That thread may be waiting for the one that the finalizer has interrupted.
        """
        self.return_now(waits=False)

    def _send_large(
        self,
        head: Head,
        blobs: Sequence[Any],
        note: Any,
        fds: list[int],
        flags: int,
        shielded: bool = False,
    ) -> None:
        """Send a message that may be too large for the socket, or that has a note."""
        send = self._send_shielded if shielded and not flags & MSG_DONTWAIT else self._send_fds
        sizes = [len(blob) for blob in blobs]
        if sum(sizes) <= INLINE_MAX:
            data = marshal.dumps((head, blobs, note), _MARSHAL)  # type: ignore[arg-type]  # as above
            if len(data) <= INLINE_MAX:
                send(data, fds, flags)
                return
        data = envelope = marshal.dumps((head, sizes, note, True), _MARSHAL)
        parts = list(blobs)
        if len(envelope) > ENVELOPE_MAX:
            parts.insert(0, envelope)
            data = marshal.dumps((head, len(envelope), None, True), _MARSHAL)
            if len(data) > ENVELOPE_MAX:
                data = marshal.dumps((None, len(envelope), None, True), _MARSHAL)
        file = anonymous.create()
        try:
            anonymous.write_all(file, parts)
            send(data, [*fds, file], flags)
        finally:
            os.close(file)

    def _send_shielded(self, data: bytes, fds: list[int], flags: int) -> None:
        """Send; while the socket has no room, wait where interrupts are let through."""
        while True:
            try:
                self._send_fds(data, fds, flags | MSG_DONTWAIT)
            except BlockingIOError:
                shield.opened(_wait_for_room, self.socket.fileno())
            else:
                return

    def _send_fds(self, data: bytes, fds: list[int], flags: int) -> None:
        if not fds:
            self.socket.send(data, flags)
            return
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
        head, blobs, fds = self.receive_fds(flags, FEW)
        for fd in fds:
            os.close(fd)
        return head, blobs

    def look(self) -> tuple[Head, list[Any]] | None:
        """Return one message as `receive` does; None if there is none yet."""
        try:
            return self.receive(MSG_DONTWAIT)
        except BlockingIOError:
            return None

    def receive_fds(
        self, flags: int = 0, fds_nbytes: int = FDS_MAX * _FD_SIZE
    ) -> tuple[Head, list[Any], list[int]]:
        """Wait for one message and return its head, blobs and descriptors.

        Raises as `receive` does, and `DescriptorsLost`. The descriptors belong to the caller.
        """
        try:
            head, blobs, note, fds = self._receive(flags, fds_nbytes)
        except DescriptorsLost as lost:
            if lost.note is not None:
                try:
                    self._linking().lost(lost.note)
                except OSError:
                    # No descriptor is left to import the link with: the objects stay as long as
                    # their sender lives.
                    pass
            raise
        if note is not None:
            first = len(fds) - len(note[3])
            self._linking().unpack(blobs, note, fds[first:])
            del fds[first:]
        return head, blobs, fds

    def take_back(self, flags: int) -> tuple[Head, Any]:
        """Receive a message in place of its receiver: called by its sender, at the other end.

        Returns
        -------
        head : tuple
        note : tuple or None
            For `Link.take_back` of the link that sent it.
        """
        head, _, note, fds = self._receive(flags, FEW)
        for fd in fds:
            os.close(fd)
        return head, note

    def _receive(self, flags: int, fds_nbytes: int) -> tuple[Head, list[Any], Any, list[int]]:
        count, ancillary, received, _ = self.socket.recvmsg_into(
            [self._buffer], _cmsg_space(fds_nbytes), flags | MSG_CMSG_CLOEXEC
        )
        if not count:
            raise EOFError("the other end of the channel is closed")
        head, blobs, note, *filed = marshal.loads(self._buffer)
        if received & _TRUNCATED:
            for fd in _descriptors(ancillary):
                os.close(fd)
            raise DescriptorsLost(head, note)
        if not ancillary:
            return head, blobs, note, []
        fds = _descriptors(ancillary)
        if filed:
            try:
                head, blobs, note = _read_file(fds.pop(), head, blobs, note)
            except (MemoryError, OSError) as error:
                for fd in fds:
                    os.close(fd)
                raise DescriptorsLost(head, note, _why_unread(error)) from None
        return head, blobs, note, fds


def _why_unread(error: MemoryError | OSError) -> tuple[int, str]:
    if isinstance(error, MemoryError):
        return _NO_MEMORY
    return error.errno or errno.EIO, f"not been able to read it: {error.strerror}"


def _wait_for_room(fd: int) -> None:
    import select

    from pool._transport._descriptors import unpatched

    poll = unpatched("poll")()
    poll.register(fd, select.POLLOUT)
    poll.poll()


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    packed = b"".join(part for *_, part in ancillary)
    return [
        int.from_bytes(packed[at : at + _FD_SIZE], _ORDER) for at in range(0, len(packed), _FD_SIZE)
    ]


def _read_file(
    fd: int, head: Head, sizes: list[int] | int, note: Any
) -> tuple[Head, list[Any], Any]:
    """Read the blobs of a message from its file.

    Parameters
    ----------
    fd : int
        Closed afterwards.
    head, note
        As in the socket.
    sizes : list of int, or int
        The sizes of the blobs; or that of the envelope, if it is in the file too, before them.
    """
    try:
        blobs = []
        offset = 0
        if isinstance(sizes, int):
            envelope = bytearray(sizes)
            anonymous.read_into(fd, envelope, 0)
            offset = sizes
            head, sizes, note, _ = marshal.loads(envelope)
            assert not isinstance(sizes, int)
        for size in sizes:
            blob = bytearray(size)
            anonymous.read_into(fd, blob, offset)
            offset += size
            blobs.append(blob)
        return head, blobs, note
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
