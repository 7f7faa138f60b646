"""What a task or an actor knows of itself, under the name that Ray gives this module."""

from __future__ import annotations

from pool._ray._facts import RuntimeContext, get_runtime_context

__all__ = ["RuntimeContext", "get_runtime_context"]
