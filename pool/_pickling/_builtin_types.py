"""Types that say they are of `builtins`, and have no name there: those of cells, code, frames."""

from __future__ import annotations

import builtins
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: They are found in `types` only. Those of None and the like pickle knows itself.
_IN_TYPES: dict[type, str] = {
    kind: name
    for name, kind in vars(types).items()
    if type(kind) is type
    and kind.__module__ == "builtins"
    and not hasattr(builtins, kind.__name__)
    and kind not in (type(None), type(...), type(NotImplemented))
}


def reduce_type(kind: type) -> Any:
    """Reduce a type written in C; only those are special that pickle would look for in vain."""
    if type(kind) is type and kind in _IN_TYPES:
        return type_of_python, (_IN_TYPES[kind],)
    return NotImplemented


def type_of_python(name: str) -> Any:
    """Return the type that `types` has under that name."""
    return getattr(types, name)
