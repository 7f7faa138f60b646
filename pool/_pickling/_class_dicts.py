"""The namespace of a class, where functions that are made in the class have captured it.

Names in annotations are looked up in the class first. So the function that evaluates them (since
Python 3.14; since 3.12 those of type parameters) captures the namespace of the class, under a name
of the compiler's: not a copy, but the very dict that Python shows only a view of. In a worker it is
to be the dict of the class there, not a copy of all that the class holds.
"""

from __future__ import annotations

from types import FunctionType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CellType
    from typing import Any

#: The name of the variable in which it is captured.
NAME = "__classdict__"


def dict_of(kind: type) -> dict[str, Any]:
    """Return the namespace of a class itself."""
    from gc import get_referents

    found: dict[str, Any] = get_referents(vars(kind))[0]
    return found


class ClassDict:
    """Is pickled as the namespace of a class."""

    __slots__ = ("_kind",)

    def __init__(self, kind: type) -> None:
        self._kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        return dict_of, (self._kind,)


def cells_of(func: FunctionType) -> tuple[CellType, ...]:
    """Return the cells of a function, but for one with a class's namespace.

    What that holds is known of the class.
    """
    cells = func.__closure__ or ()
    names = func.__code__.co_freevars
    if NAME not in names:
        return cells
    return tuple(cell for name, cell in zip(names, cells, strict=True) if name != NAME)
