"""Modules whose functions differ from their source file.

A loader may change the code that it loads: that of pytest makes failing assertions show the values
they compared, others check types. A worker imports such a module as it is written. Then its
functions are given the code that they have in the program. Everything else, above all the module's
state, is as in any other module that a worker imports.
"""

from __future__ import annotations

import marshal
import sys
from _frozen_importlib_external import SourceFileLoader
from itertools import count
from types import CodeType, FunctionType, ModuleType

from ._names import global_names, nested
from ._origins import LruType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    # By name and first line.
    Codes = dict[tuple[str, int], CodeType]


_numbers = count()


class Rewritten:
    """The functions of a module that its loader has changed.

    Unpickling it changes the module in the receiver in the same way.

    Parameters
    ----------
    name : str
        Of the module.
    codes : dict
        The code of functions that differ from the source file.
    added : dict
        Globals that these functions use and their source does not.
    """

    __slots__ = ("_added", "_codes", "_name", "key")

    def __init__(self, name: str, codes: Codes, added: dict[str, Any]) -> None:
        #: Its key in the needs of messages; not the name, since the module may be loaded again.
        self.key = b"%d" % next(_numbers)
        self._name = name
        self._codes = marshal.dumps(codes)
        self._added = added

    def __reduce__(self) -> tuple[Any, ...]:
        return rewrite, (self._name, self._codes, self._added)


def compare(module: ModuleType, file: str, can_be_added: Callable[[Any], bool]) -> Rewritten | None:
    """Compare a module with its file.

    Parameters
    ----------
    module : module
    file : str
    can_be_added : callable
        Returns whether a worker can be sent an object.

    Returns
    -------
    Rewritten or None
        None if its functions are as in the source file.
    """
    try:
        code = SourceFileLoader(module.__name__, file).get_code(module.__name__)
    except Exception:
        return None  # the file is not in Python, or does not exist any more
    written = {_place(part): part for part in nested(code)} if code is not None else {}
    names = vars(module)
    codes: Codes = {}
    added: dict[str, Any] = {}
    for func in _functions(module):
        code = func.__code__
        original = written.get(_place(code))
        if original is None or original == code or code.co_filename != file:
            continue
        new = {*global_names(code)}.difference(global_names(original))
        values = {name: names[name] for name in new if name in names}
        if all(map(can_be_added, values.values())):
            codes[_place(code)] = code
            added.update(values)
    return Rewritten(module.__name__, codes, added) if codes else None


def rewrite(name: str, data: bytes, added: dict[str, Any]) -> None:
    """Give the functions of a module the code that they have in the program."""
    __import__(name)
    module = sys.modules[name]
    for added_name, value in added.items():
        vars(module).setdefault(added_name, value)
    codes: Codes = marshal.loads(data)
    for func in _functions(module):
        code = codes.get(_place(func.__code__), func.__code__)
        # If the variables of the closure differ, the file was edited since.
        if code.co_freevars == func.__code__.co_freevars:
            func.__code__ = code


def _place(code: CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    """Yield the functions in a module and in its classes."""
    pending: list[Any] = list(vars(module).values())
    seen = set()
    while pending:
        value = pending.pop()
        kind = type(value)
        if kind is FunctionType and value.__globals__ is vars(module):
            yield value
        if kind is FunctionType or kind is LruType:
            pending.append(getattr(value, "__wrapped__", None))
        elif kind is staticmethod or kind is classmethod:
            pending.append(value.__func__)
        elif kind is property:
            pending += (value.fget, value.fset, value.fdel)
        elif issubclass(kind, type) and value.__module__ == module.__name__:
            if id(value) not in seen:
                seen.add(id(value))
                pending += vars(value).values()
