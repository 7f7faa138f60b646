"""Ray's `ray.util`; whatever else is asked for is `multiprocessing.util`'s.

Both modules that this package stands in for have a `util`, and no name in common.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pool._ray._actor_pool import ActorPool

__all__ = ["ActorPool"]


def __getattr__(name: str) -> Any:
    import importlib

    if name == "ActorPool":
        from pool._ray._actor_pool import ActorPool

        return ActorPool
    if name in ("actor_pool", "multiprocessing"):
        return importlib.import_module("pool.util." + name)
    return getattr(importlib.import_module("multiprocessing.util"), name)
