"""What binds the variables of a module, going by its code."""

from __future__ import annotations

import dis
from types import CodeType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

#: Operations whose results are the same in each process, and those that make empty containers.
_CONSTANT = frozenset({"LOAD_CONST", "LOAD_CONST_IMMORTAL", "LOAD_SMALL_INT"})
_EMPTY = frozenset({"BUILD_LIST", "BUILD_MAP", "BUILD_SET", "BUILD_TUPLE"})


class Assigned:
    """Names that a module binds, as its code says.

    Parameters
    ----------
    module : module
        With a loader that has its code.

    Attributes
    ----------
    by_functions : set of str
        Names that functions of the module bind (``global``).
    imported : set of str
        Names that the code at the top takes over from other modules, and binds in no other way.
    made : set of str
        Names that this code binds to something else than a constant or an empty container, and that
        no function binds: their values were made by the import, whatever it is that they are.
    own : set of str
        All that the module binds by itself.

    Raises
    ------
    Exception
        If the code cannot be had.
    """

    def __init__(self, module: Any) -> None:
        spec = module.__spec__
        code = spec.loader.get_code(spec.name)
        if not isinstance(code, CodeType):
            raise TypeError(f"{spec.name} has no code")
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
        self.by_functions = frozenset(_bound_by_functions(code))
        self.own = self.by_functions.union(made, plain)
        self.imported = frozenset(imported - self.own)
        self.made = frozenset((made | imported) - self.by_functions)


def _bound_by_functions(code: CodeType) -> Iterator[str]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            for instruction in dis.get_instructions(constant):
                if instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                    yield instruction.argval
            yield from _bound_by_functions(constant)
