"""What binds the variables of a module and its classes, going by its code."""

from __future__ import annotations

import dis
from types import CodeType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

#: Operations whose results are the same in each process, and those that make empty containers.
_CONSTANT = frozenset({"LOAD_CONST", "LOAD_CONST_IMMORTAL", "LOAD_SMALL_INT"})
_EMPTY = frozenset({"BUILD_LIST", "BUILD_MAP", "BUILD_SET", "BUILD_TUPLE"})


def assigned_in(module: Any) -> dict[str, Assigned]:
    """Return what binds the names of a module, under "", and those of its classes, by their name.

    Parameters
    ----------
    module : module
        With a loader that has its code.

    Raises
    ------
    Exception
        If the code cannot be had.
    """
    spec = module.__spec__
    code = spec.loader.get_code(spec.name)
    if not isinstance(code, CodeType):
        raise TypeError(f"{spec.name} has no code")
    functions = list(_inner(code))
    found = {"": Assigned(code, _bound(functions, "STORE_GLOBAL", "DELETE_GLOBAL"))}
    attributes = _bound(functions, "STORE_ATTR", "DELETE_ATTR")
    for constant in code.co_consts:
        if isinstance(constant, CodeType):  # of a class, or of a function, which nobody asks for
            found[constant.co_name] = Assigned(constant, attributes)
    return found


class Assigned:
    """Names of a module or of a class, by what binds them.

    Parameters
    ----------
    code : code
        Of the module or the class.
    by_functions : frozenset of str
        Names that functions may bind there.

    Attributes
    ----------
    made : frozenset of str
        Names that `code` binds to something else than a constant or an empty container, and that no
        function binds: their values were made by the import, whatever it is that they are.
    own : frozenset of str
        All names that are not taken over from another module.
    """

    __slots__ = ("made", "own")

    def __init__(self, code: CodeType, by_functions: frozenset[str]) -> None:
        imported: set[str] = set()
        made: set[str] = set()
        plain: set[str] = set()
        before: Any = None
        for instruction in dis.get_instructions(code):
            if instruction.opname in ("STORE_NAME", "STORE_GLOBAL"):
                names = made
                if before is None or before.opname in _CONSTANT:
                    names = plain
                elif before.opname in _EMPTY and not before.arg:
                    names = plain
                elif before.opname == "IMPORT_FROM":
                    names = imported
                names.add(instruction.argval)
            before = instruction
        self.own = by_functions.union(made, plain)
        self.made = frozenset((made | imported) - by_functions)


def _inner(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _inner(constant)


def _bound(codes: Iterable[CodeType], *operations: str) -> frozenset[str]:
    return frozenset(
        instruction.argval
        for code in codes
        for instruction in dis.get_instructions(code)
        if instruction.opname in operations
    )
