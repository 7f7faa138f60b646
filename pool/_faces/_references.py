"""Whether the arguments of a call contain references; costs nothing until one can exist."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def any_refs() -> bool:
    """Return whether this process can have any reference at all."""
    return "pool._objects._refs" in sys.modules


def has_refs(values: Iterable[Any]) -> bool:
    """Return whether there are references among values, or in containers among them."""
    if not any_refs():
        return False
    from pool._faces._awaited import contain_refs

    return contain_refs(values)


def held_back_by_refs(value: object) -> bool:
    """Return whether `value` contains references, and only they keep it from being pickled."""
    if not any_refs():
        return False
    from pool._faces import _awaited

    return _awaited.held_back_by_refs(value)
