"""Find out whether the program's own modules hold large tables, which workers are to share.

Each worker of each pool would make its own when it imports the module, however long that takes, and
all of them together may not fit into memory. Forked ones have the program's.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from math import prod

from pool._pickling._newer import FROZEN_DICT

from ._data import ATOMS, DEFINITIONS
from ._snapshot import snapshots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Items of a container, elements of an array or a frame, characters of a text.
_ITEMS = 100_000
_ELEMENTS = 1_000_000
_CHARACTERS = 50_000_000

_CONTAINERS = frozenset(
    {list, dict, set, tuple, frozenset, OrderedDict, defaultdict, deque, FROZEN_DICT}
)
_TEXTS = frozenset({str, bytes, bytearray})


def to_be_inherited() -> str:
    """Return the name of a large table; empty if there is none."""
    for names in snapshots.namespaces():
        for name, value in names.items():
            kind = type(value)
            if kind in _CONTAINERS or kind in _TEXTS:
                if len(value) >= (_ITEMS if kind in _CONTAINERS else _CHARACTERS):
                    return name
            elif kind not in ATOMS and not issubclass(kind, DEFINITIONS) and hasattr(kind, "shape"):
                if _elements(value) >= _ELEMENTS:
                    return name
    return ""


def _elements(value: Any) -> int:
    try:
        return prod(map(int, value.shape))
    except Exception:  # a shape of another kind
        return 0
