"""The module in which Ray has its strategies: of these the choice of a machine is here."""

from __future__ import annotations

from pool._ray._strategies import NodeAffinitySchedulingStrategy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["NodeAffinitySchedulingStrategy"]


def __getattr__(name: str) -> Any:
    from pool._ray import _absent

    if name in _absent.OF_MODULE:
        _absent.refuse(f"{__name__}.{name}")  # an ImportError, so that `from` shows its text
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
