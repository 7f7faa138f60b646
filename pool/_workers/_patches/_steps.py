"""What code does, step by step, in the words of all versions of Python.

Since Python 3.13 two steps that are often done one after the other are one instruction, such as
``LOAD_FAST_LOAD_FAST``. Since 3.14 variables are borrowed, and small numbers, since 3.15 also
``None``, are no constants of the code.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType
    from typing import Any

#: How the names of instructions of two steps begin: with the first one's; the other's follows.
_PAIRS = ("LOAD_FAST", "STORE_FAST")

_OTHER_NAMES = {
    "LOAD_FAST_BORROW": "LOAD_FAST",
    "LOAD_SMALL_INT": "LOAD_CONST",
    "LOAD_COMMON_CONSTANT": "LOAD_CONST",
}


def steps_of(code: CodeType) -> Iterator[tuple[str, Any]]:
    """Yield the name of each step, and what it is done with: a name, a constant, None.

    It takes `dis`, a slow import, and some 2 ms for a module of some hundred lines.
    """
    from dis import get_instructions

    for instruction in get_instructions(code):
        kind, value = instruction.opname, instruction.argval
        if type(value) is tuple and kind.startswith(_PAIRS):
            first = next(name for name in _PAIRS if kind.startswith(name))
            second = kind.removeprefix(first).removeprefix("_BORROW").removeprefix("_")
            yield first, value[0]
            kind, value = second, value[1]
        yield _OTHER_NAMES.get(kind, kind), value
