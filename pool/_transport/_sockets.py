"""Pairs of sockets that keep message boundaries.

Apart from `pool._transport._channel`, so that a forkserver can be started before that is imported.
"""

from __future__ import annotations

import _socket

from pool._transport._descriptors import above_streams

_KIND = _socket.SOCK_SEQPACKET


def socket_pair() -> tuple[_socket.socket, _socket.socket]:
    """Return two connected sockets that keep message boundaries (close-on-exec)."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _KIND, 0)
    return socket_from(above_streams(ours.detach())), socket_from(above_streams(theirs.detach()))


def socket_from(fd: int) -> _socket.socket:
    """Return the socket object of a descriptor that was made by `socket_pair`."""
    return _blocking(_Socket(_socket.AF_UNIX, _KIND, 0, fd))


class _Socket(_socket.socket):
    """A socket that may be dropped without a ResourceWarning.

    A pool that is terminated and never joined, as ``with Pool()`` leaves it, still has one. If such
    a pool is in a cycle of garbage, the collector may finalize the socket before its owner.
    """

    __slots__ = ()

    # A function of C: in one of Python, Ctrl-C could strike, and would be lost in a finalizer.
    __del__ = _socket.socket.close


def _blocking(socket: _socket.socket) -> _socket.socket:
    """Return a socket after undoing what the program has set by `socket.setdefaulttimeout`."""
    if socket.gettimeout() is not None:
        socket.settimeout(None)
    return socket
