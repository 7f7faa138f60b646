"""Ray's `ray.util`; whatever else is asked for is `multiprocessing.util`'s.

Both modules that this package stands in for have a `util`, and no name in common.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pool._ray._actor_pool import ActorPool
    from pool._ray._as_completed import as_completed, map_unordered
    from pool._ray._inspection import (
        get_current_placement_group,
        get_node_ip_address,
        inspect_serializability,
        list_named_actors,
    )
    from pool._ray._serializers import deregister_serializer, register_serializer

__all__ = [
    "ActorPool",
    "as_completed",
    "deregister_serializer",
    "get_current_placement_group",
    "get_node_ip_address",
    "inspect_serializability",
    "list_named_actors",
    "map_unordered",
    "register_serializer",
]

_HOMES = {
    "ActorPool": "pool._ray._actor_pool",
    "as_completed": "pool._ray._as_completed",
    "deregister_serializer": "pool._ray._serializers",
    "get_current_placement_group": "pool._ray._inspection",
    "get_node_ip_address": "pool._ray._inspection",
    "inspect_serializability": "pool._ray._inspection",
    "list_named_actors": "pool._ray._inspection",
    "map_unordered": "pool._ray._as_completed",
    "register_serializer": "pool._ray._serializers",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in ("actor_pool", "joblib", "multiprocessing", "queue", "scheduling_strategies"):
        return importlib.import_module("pool.util." + name)
    from pool._ray import _absent

    if name in _absent.ADVICE or name in _absent.OF_MODULE:
        raise AttributeError(_absent.reason(f"pool.util.{name}"), name=name)
    return getattr(importlib.import_module("multiprocessing.util"), name)
