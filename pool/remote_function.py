"""The class of remote functions, under the name that Ray gives this module."""

from __future__ import annotations

from pool._ray._functions import RemoteFunction

__all__ = ["RemoteFunction"]
