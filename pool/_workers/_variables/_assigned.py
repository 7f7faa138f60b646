"""What binds the variables of a module and its classes, going by its code."""

from __future__ import annotations

import os
from _frozen_importlib_external import SourceFileLoader
from opcode import hasjabs, hasjrel, opmap
from types import CodeType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any


#: Bytes of a text that may be compiled for nothing but this; it takes a second for each 3 MiB.
TEXT_MAX = 1 << 20

#: Functions have this flag, classes have not; `inspect` is a slow import.
CO_OPTIMIZED = 1


def numbers_of(*names: str) -> bytes:
    # The numbers of what only the compiler knows are larger.
    return bytes(opmap[name] for name in names if opmap.get(name, 256) < 256)


#: Operations whose results are the same in each process, and those that make empty containers.
_LOAD_CONST = numbers_of("LOAD_CONST", "LOAD_CONST_IMMORTAL")
_CONSTANT = _LOAD_CONST + numbers_of("LOAD_SMALL_INT", "LOAD_COMMON_CONSTANT")
_EMPTY = numbers_of("BUILD_LIST", "BUILD_MAP", "BUILD_SET", "BUILD_TUPLE")

_IMPORT = numbers_of("IMPORT_FROM")
_DEFINE = numbers_of("MAKE_FUNCTION", "SET_FUNCTION_ATTRIBUTE")
_EXTENDED = numbers_of("EXTENDED_ARG")

_JUMPS = frozenset((*hasjabs, *hasjrel))

#: How the code of a module or class binds names, how functions do, and how they bind attributes.
_STORE = numbers_of("STORE_NAME", "STORE_GLOBAL")
_LOAD = numbers_of("LOAD_NAME")
GLOBALS = numbers_of("STORE_GLOBAL", "DELETE_GLOBAL")
ATTRIBUTES = numbers_of("STORE_ATTR", "DELETE_ATTR")

#: What comes between a value and a name that gets it, where several names do.
_BETWEEN = numbers_of("COPY") + _STORE + _EXTENDED


def assigned_in(module: Any) -> dict[str, Assigned]:
    """Return what binds the names of a module, under "", and those of its classes, by their name.

    Parameters
    ----------
    module : module
        With a loader that has its code.

    Raises
    ------
    Exception
        If the code cannot be had, or not soon.
    """
    code = code_of(module)
    functions = list(_inner(code))
    found = {"": Assigned(code, bound(functions, GLOBALS))}
    attributes = bound(functions, ATTRIBUTES)
    for constant in code.co_consts:
        if isinstance(constant, CodeType) and not constant.co_flags & CO_OPTIMIZED:  # of a class
            found[constant.co_name] = Assigned(constant, attributes)
    return found


def code_of(module: Any) -> CodeType:
    """Return the code of a module, as its loader has it, or else its text.

    Raises
    ------
    Exception
        If it cannot be had, or not soon.
    """
    spec = module.__spec__
    if _takes_long(spec):
        raise ValueError(f"{spec.name} is compiled again each time")
    loader = spec.loader
    if not hasattr(loader, "get_code"):  # pytest's, whose modules bind what their text does
        loader = SourceFileLoader(spec.name, spec.origin)
    code = loader.get_code(spec.name)
    if not isinstance(code, CodeType):
        raise TypeError(f"{spec.name} has no code")
    return code


def _takes_long(spec: Any) -> bool:
    """Return whether the code of a module is nowhere but in its text, and that is long.

    As of generated tables where Python is told to write no bytecode, in a container for instance.
    """
    cached = getattr(spec, "cached", None)
    if not cached or os.path.exists(cached):
        return False
    try:
        return os.stat(spec.origin).st_size > TEXT_MAX
    except OSError:
        return False  # in an archive


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
    constants : dict
        By name, the hashes of texts, bytes, tuples and sets that `code` has and binds it to.
    defined : frozenset of str
        Names that `code` binds to functions that it makes, and that nothing else binds.
    imported : dict
        Names that it takes over from other modules, and that nothing else binds. With the names
        that the same objects have there.
    made : frozenset of str
        Names that `code` binds to something else than a constant or an empty container, and that no
        function binds: their values were made by the import, whatever it is that they are.
    filled : frozenset of str
        Names that it binds to empty containers, and looks up: it puts something into them.
    own : frozenset of str
        All names that are not taken over from another module.
    takes_all : bool
        Whether there may be other names: ``from module import *``.
    """

    __slots__ = ("constants", "defined", "filled", "imported", "made", "own", "takes_all")

    def __init__(self, code: CodeType, by_functions: frozenset[str]) -> None:
        imported: set[str] = set()
        origins: dict[str, str] = {}
        made: set[str] = set()
        defined: set[str] = set()
        plain: set[str] = set()
        empty: set[str] = set()
        instructions = code.co_code
        targets: set[int] | None = None
        self.constants: dict[str, set[int]] = {}
        for place, name in _bindings(code, _STORE):
            names = made
            at = place - 2
            while at > 0 and instructions[at] in _BETWEEN:
                at -= 2  # `one = other = None`
            before = instructions[at] if at >= 0 else _CONSTANT[0]  # what made the value
            if before in _CONSTANT or (before in _EMPTY and not instructions[at + 1]):
                if targets is None:
                    targets = _targets(code)
                if place not in targets:  # else one of two values: `None if ... else connect()`
                    names = plain
                    if before in _EMPTY:
                        empty.add(name)
                    elif before in _LOAD_CONST and at >= 0:
                        constant = code.co_consts[_argument(instructions, at)]
                        if type(constant) in (str, bytes, tuple, frozenset):
                            self.constants.setdefault(name, set()).add(hash(constant))
            elif before in _IMPORT:
                names = imported
                origins[name] = code.co_names[_argument(instructions, at)]
            elif before in _DEFINE:
                names = defined
            names.add(name)
        loaded = {name for _, name in _bindings(code, _LOAD)}
        self.filled = frozenset((empty & loaded) - by_functions)
        self.takes_all = ("*",) in code.co_consts
        self.own = by_functions.union(made, plain, defined)
        self.made = frozenset((made | imported | defined) - by_functions)
        self.defined = frozenset(defined - by_functions.union(made, plain, imported))
        self.imported = {name: origins[name] for name in imported - self.own}


def _inner(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of the functions and classes that some code makes, and of those in these."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _inner(constant)


def bound(codes: Iterable[CodeType], operations: bytes) -> frozenset[str]:
    """Return the names with which any of several codes does one of these operations."""
    return frozenset(name for code in codes for _, name in _bindings(code, operations))


def _bindings(code: CodeType, operations: bytes) -> Iterator[tuple[int, str]]:
    """Yield where some code does one of these operations, and with which name.

    Since Python 3.12 some operations have a flag in the last bit, but none of those asked for.
    """
    for place, argument in steps(code, operations):
        yield place, code.co_names[argument]


def steps(code: CodeType, operations: bytes) -> Iterator[tuple[int, int]]:
    """Yield where some code does one of these operations, and with which argument.

    `dis` tells the same, in 2 ms for a module of some hundred lines: a pool would wait a second for
    a program of 500 modules with locks.
    """
    instructions = code.co_code
    numbers = instructions[::2]
    for operation in operations:
        found = numbers.find(operation)
        while found >= 0:
            first = found
            while first and numbers[first - 1] in _EXTENDED:
                first -= 1
            yield 2 * first, _argument(instructions, 2 * found)
            found = numbers.find(operation, found + 1)


def _argument(instructions: bytes, at: int) -> int:
    """Return the argument of the instruction that begins there."""
    argument, shift = instructions[at + 1], 8
    while at and instructions[at - 2] in _EXTENDED:
        at -= 2
        argument |= instructions[at + 1] << shift
        shift += 8
    return argument


def _targets(code: CodeType) -> set[int]:
    """Return where the jumps of some code go."""
    if _JUMPS.isdisjoint(code.co_code[::2]):
        return set()
    from dis import findlabels

    return set(findlabels(code.co_code))  # type: ignore[arg-type]  # bytes are what it takes
