"""Find out whether the program holds large tables, which workers are to share.

Each worker of each pool would make its own when it imports the module, however long that takes, or
be sent a copy of one of the main module's. All of them together may not fit into memory. Forked
workers have the program's.
"""

from __future__ import annotations

import sys
from math import prod
from types import CodeType

from pool._pickling._names import global_names
from pool._pickling._needs import names_in_use
from pool._pickling._tables import KINDS, is_table

from ._data import ATOMS, DEFINITIONS
from ._snapshot import snapshots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType
    from typing import Any

#: Elements of an array or a frame, characters of a text.
_ELEMENTS = 1_000_000
_CHARACTERS = 50_000_000

_TEXTS = frozenset({str, bytes, bytearray})


def to_be_inherited() -> str:
    """Return the name of a large table of a module; empty if there is none."""
    for names in snapshots.namespaces():
        for name, value in names.items():
            kind = type(value)
            if kind in KINDS:
                if is_table(value):
                    return name
            elif kind in _TEXTS:
                if len(value) >= _CHARACTERS:
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


def used_in_main(tables: Iterable[str]) -> str:
    """Return the name of a table of the main module that its functions use, or "".

    Others, such as a list of what is to be worked on, tasks do not need as a whole. Arrays and
    frames are no tables here: by the store they are shared anyway.
    """
    names = vars(sys.modules["__main__"])
    used = {*names_in_use(names), *_names_in_code(names)}
    return next((name for name in tables if name in used), "")


def _names_in_code(names: dict[str, Any]) -> Iterator[str]:
    """Yield the names that functions use which the code of a running module has yet to define.

    So does a lambda that is written where it is handed to a pool.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals is names and frame.f_code.co_name == "<module>":
            for constant in frame.f_code.co_consts:
                if type(constant) is CodeType:
                    yield from global_names(constant)
        frame = frame.f_back
