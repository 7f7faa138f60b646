"""The choice of a machine, where there is one: its name, and how programs ask for it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The name and the address of this machine.
NODE = "0" * 56
ADDRESS = "127.0.0.1"

#: Resources by which programs choose a machine: of each there is one.
NODE_RESOURCES = (f"node:{ADDRESS}", "node:__internal_head__")


class NodeAffinitySchedulingStrategy:
    """Ask for a machine by its name.

    Parameters
    ----------
    node_id : str or NodeID
        From `get_runtime_context` or `nodes`.
    soft : bool
        Whether another machine will do if that one is not there.
    **others
        Ray's private options; no effect.
    """

    def __init__(self, node_id: Any, soft: bool, **others: Any) -> None:
        self.node_id: str = node_id if isinstance(node_id, str) else node_id.hex()
        self.soft = soft


def chooses_here(strategy: Any) -> bool:
    """Return whether a strategy of scheduling lets a task run on this machine.

    Raises
    ------
    ValueError
        If it asks for another one.
    """
    if isinstance(strategy, NodeAffinitySchedulingStrategy):
        if not strategy.soft and strategy.node_id != NODE:
            raise ValueError(
                f"scheduling_strategy: there is no machine {strategy.node_id!r}; this one is "
                f"{NODE!r}, as get_runtime_context().get_node_id() says"
            )
        return True
    return strategy in ("DEFAULT", "SPREAD")


NodeAffinitySchedulingStrategy.__module__ = "pool.util.scheduling_strategies"
