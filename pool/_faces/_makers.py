"""Which installed packages make pools: they are the program's own, as if they were not installed.

A program that ``pip install .`` has put into ``site-packages``, as in a container, looks like a
library: its main module is a script of two lines. What it sets in its own modules is to hold in
tasks, as it does where it runs from its checkout. It is told from a library by its code, which
makes the pool and has this package, or a name of it, among its names.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

_THIS = __name__.partition(".")[0]


def note_maker() -> None:
    """Note the package whose code makes a pool, further up the stack."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _top(frame.f_globals) == _THIS:
        frame = frame.f_back
    top = "" if frame is None else _top(frame.f_globals)
    if frame is None or top in ("", "__main__") or top in sys.stdlib_module_names:
        return
    from pool._workers._variables._data import is_of_program, note_program

    if is_of_program(top) or _stands_in():
        return
    values = [*list(frame.f_globals.values()), *list(frame.f_locals.values())]
    if any(map(_is_ours, values)):
        note_program(top)


def _top(names: dict[str, Any]) -> str:
    name = names.get("__name__")
    return name.partition(".")[0] if type(name) is str else ""


def _stands_in() -> bool:
    """Return whether libraries may make pools of ours unawares: the program has patched them in."""
    standard = sys.modules.get("multiprocessing")
    return _is_ours(standard) or _is_ours(getattr(standard, "Pool", None))


def _is_ours(value: Any) -> bool:
    """Return whether this is a module, a class or a function of this package; asks no object."""
    kind = type(value)
    if issubclass(kind, type(sys)):
        return _top(vars(value)) == _THIS
    if issubclass(kind, type) or kind is type(note_maker):
        module = vars(value).get("__module__") if issubclass(kind, type) else value.__module__
        return type(module) is str and module.partition(".")[0] == _THIS
    return False
