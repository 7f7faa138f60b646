"""The module in which Ray has `ActorPool`."""

from pool._ray._actor_pool import ActorPool

__all__ = ["ActorPool"]
