"""What an actor can do with itself, under the name that Ray gives this module."""

from __future__ import annotations

from pool._ray._classes import ActorClass, ActorHandle, ActorMethod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["ActorClass", "ActorHandle", "ActorMethod", "exit_actor"]


def exit_actor() -> NoReturn:
    """End the actor whose method calls this; it is not started again.

    The call, and those without an answer, raise `ActorDiedError`.

    Raises
    ------
    TypeError
        Outside an actor.
    """
    from pool._in_worker._context import context

    if context.actor is None or context.actor.is_task:
        raise TypeError("exit_actor can be called in the methods of an actor only")
    from pool._in_worker._graceful_exit import Leave

    raise Leave("exit_actor() was called")
