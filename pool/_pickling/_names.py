"""Which globals a function's code reads or writes.

The byte code is searched for the few instructions that matter; disassembling it would
import `dis` (8 ms) and take a hundred times as long.
"""

from __future__ import annotations

import sys
from _weakref import ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import CodeType, FunctionType
    from typing import Any

# LOAD_GLOBAL, STORE_GLOBAL, DELETE_GLOBAL, LOAD_NAME, EXTENDED_ARG, and since 3.12
# LOAD_FROM_DICT_OR_GLOBALS. Importing `opcode` for six numbers costs half a millisecond
# at start-up; a test compares these with it.
_NUMBERS: dict[tuple[int, int], tuple[int, ...]] = {
    (3, 11): (116, 97, 98, 101, 144),
    (3, 12): (116, 97, 98, 101, 144, 175),
    (3, 13): (91, 113, 66, 92, 71, 90),
    (3, 14): (92, 115, 64, 93, 69, 91),
    (3, 15): (91, 114, 62, 92, 67, 90),
}


def _numbers() -> tuple[int, ...]:
    known = _NUMBERS.get(sys.version_info[:2])
    return known if known is not None else look_up_numbers()


def look_up_numbers() -> tuple[int, ...]:
    """Return the numbers that `opcode` gives for this interpreter."""
    from opcode import opmap

    required = ("LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME", "EXTENDED_ARG")
    optional = ("LOAD_FROM_DICT_OR_GLOBALS",)
    return tuple(opmap[name] for name in (*required, *(name for name in optional if name in opmap)))


_LOAD_GLOBAL, *_OTHERS = _numbers()
_EXTENDED = _OTHERS.pop(3)

_known: dict[int, tuple[ref[CodeType], tuple[str, ...]]] = {}


def global_names(code: CodeType) -> tuple[str, ...]:
    """Return the names of globals that `code` and the code nested in it use.

    Builtins are among them: only the function's globals can tell them apart.
    """
    key = id(code)
    known = _known.get(key)
    if known is not None and known[0]() is code:
        return known[1]
    found = tuple(dict.fromkeys(name for part in nested(code) for name in _own_names(part)))
    _known[key] = (ref(code, lambda _: _known.pop(key, None)), found)
    return found


# Words in code that may use globals without naming them; see `_implicit`.

#: As global names, these look into globals as a whole.
LOOKING = frozenset({"eval", "exec", "globals"})
#: These look into the globals of a module (``vars(m)``, ``m.__dict__``), if the code has one, ...
LOOKING_INTO = frozenset({"vars", "__dict__"})
#: ... which code may have that mentions one of these.
MODULES = frozenset({"__import__", "__main__", "import_module", "modules"})
#: These look into globals as a whole as global names and as attributes.
LOOKING_ANYHOW = frozenset({"__globals__", "f_globals", "get_type_hints"})
#: Methods and functions of these names evaluate strings.
EVALUATING = frozenset({"eval", "evaluate", "execute", "query", "sql"})

#: By this, code finds classes that derive from one that it has.
DERIVED = "__subclasses__"

#: Globals of these types, with so many items at most, are searched for strings.
_COLLECTIONS = (dict, frozenset, list, set, tuple)
_SHORT = 64

_OPEN = LOOKING | LOOKING_ANYHOW | EVALUATING | {DERIVED}


def is_open(code: CodeType) -> bool:
    """Return whether `code`, or code nested in it, may use globals that it does not name."""
    mentioned = {name for part in nested(code) for name in part.co_names}
    return not _OPEN.isdisjoint(mentioned) or looks_into_modules(mentioned)


def texts_in(constants: Iterable[Any]) -> Iterator[str]:
    """Yield the strings among constants of code."""
    for constant in constants:
        if type(constant) is str:
            yield constant
        elif type(constant) is tuple or type(constant) is frozenset:
            yield from texts_in(constant)


def global_texts(func: FunctionType) -> Iterator[str]:
    """Yield the strings that globals of a function are, or are short collections of."""
    for name in global_names(func.__code__):
        value = func.__globals__.get(name)
        kind = type(value)
        if kind is str:
            yield value  # type: ignore[misc]  # its type was looked at
        elif kind in _COLLECTIONS and len(value) <= _SHORT:  # type: ignore[arg-type]  # as above
            values = list(value.values() if kind is dict else value)  # type: ignore[union-attr,arg-type]  # as above
            yield from (text for text in values if type(text) is str)


def quotes_calls(func: FunctionType) -> bool:
    """Return whether a string of the function, or one that is a global of its, may have a call."""
    for part in nested(func.__code__):
        for text in texts_in(part.co_consts):
            if "(" in text:
                return True
    return any("(" in text for text in global_texts(func))


def looks_into_modules(mentioned: set[str]) -> bool:
    """Return whether code that mentions these names may look into a module as a whole."""
    return not (LOOKING_INTO.isdisjoint(mentioned) or MODULES.isdisjoint(mentioned))


def nested(code: CodeType) -> Iterator[CodeType]:
    """Yield `code` and the code of functions and classes defined within it."""
    yield code
    for constant in code.co_consts:
        if type(constant) is type(code):
            yield from nested(constant)


def _own_names(code: CodeType) -> Iterator[str]:
    raw = code.co_code
    operations = raw[::2]
    for index in _positions(operations, _LOAD_GLOBAL):
        # The lowest bit says whether a NULL is pushed as well.
        yield code.co_names[_argument(raw, index) >> 1]
    for operation in _OTHERS:
        for index in _positions(operations, operation):
            yield code.co_names[_argument(raw, index)]


def _positions(operations: bytes, operation: int) -> Iterator[int]:
    # Inline caches are zero in `co_code`, so they are never taken for an instruction.
    index = operations.find(operation)
    while index >= 0:
        yield index
        index = operations.find(operation, index + 1)


def _argument(raw: bytes, index: int) -> int:
    argument = raw[2 * index + 1]
    shift = 8
    while index and raw[2 * (index - 1)] == _EXTENDED:
        index -= 1
        argument |= raw[2 * index + 1] << shift
        shift += 8
    return argument


def submodules(code: CodeType, modules: Iterable[str]) -> tuple[str, ...]:
    """Return the submodules that `code` reaches as attributes of `modules`.

    ``import a.b`` binds only ``a``; the worker has to import ``a.b`` too, though no name
    of the function says so.
    """
    attributes = {name for part in nested(code) for name in part.co_names}
    found: dict[str, None] = {}
    packages = [name for name in modules if hasattr(sys.modules.get(name), "__path__")]
    while packages:
        package = packages.pop()
        for attribute in attributes:
            name = f"{package}.{attribute}"
            if name not in found and sys.modules.get(name) is not None:
                found[name] = None
                packages.append(name)
    return tuple(found)
