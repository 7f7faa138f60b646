"""The texts of the program's own modules, as far as they can be had."""

from __future__ import annotations

import os
import sys
from types import ModuleType

from pool._workers._variables._snapshot import snapshots
from store._cgroups import read

from ._mentions import Mentions, mentions_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Any

#: Characters of a text; a longer one is of generated code.
LENGTH_MAX = 2 << 20

#: By name of a module: what tells its text from another one, and what it says. ``In`` are cells.
_known: dict[str, tuple[Any, Mentions]] = {}

_NOTHING = Mentions("")


def mentioned() -> Iterator[tuple[dict[str, Any], Mentions]]:
    """Yield the names of each module of the program, and what its text says, if anything."""
    main = sys.modules.get("__main__")
    if type(main) is ModuleType:
        for mentions in filter(None, _of_main(vars(main))):
            yield vars(main), mentions
    for name, module in snapshots.modules().items():
        mentions = _of_module(name, module)
        if mentions:
            yield vars(module), mentions


def _of_main(names: dict[str, Any]) -> Iterator[Mentions]:
    cells: Any = names.get("In")
    is_interactive = type(cells) is list and "get_ipython" in names  # a shell, or a notebook
    if is_interactive:
        yield _of_cells(cells)
    file: Any = names.get("__file__")
    # Of pdb it is a text of a class of its own.
    if issubclass(type(file), str) and not file.startswith("<"):
        # In a shell, of a script that it runs now: `ipython script.py`, `%run -i`, Spyder.
        yield _of_main_text(_state_of(file), lambda: _text_of("__main__", names))
    elif not is_interactive:
        yield _of_command(names)


def _of_command(names: dict[str, Any]) -> Mentions:
    """Return what a program says that has no file."""
    arguments = sys.orig_argv
    if "-c" in arguments[:-1]:
        text = arguments[arguments.index("-c") + 1]
        return _of_main_text(text, lambda: text)
    return _of_running(names)


def _of_cells(cells: list[Any]) -> Mentions:
    """Return what the cells of a notebook say; only new ones are read."""
    count = len(cells)
    known = _known.get("In", (0, _NOTHING))
    if known[0] > count:
        known = 0, _NOTHING
    if known[0] < count:
        text = "\n".join(map(str, cells[known[0] : count]))
        known = _known["In"] = count, Mentions(text, is_main=True, before=known[1])
    return known[1]


def _of_running(names: dict[str, Any]) -> Mentions:
    """Return what a program says that was read from the standard input, and is running now."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals is names and frame.f_code.co_name == "<module>":
            code = frame.f_code
            known = _known.get("__main__")
            if known is None or known[0] is not code:
                found = mentions_of(code)
                _drop_others(found)
                _known["__main__"] = code, found
            return _known["__main__"][1]
        frame = frame.f_back
    return _NOTHING


def _drop_others(found: Mentions) -> None:
    """Drop names that are neither of modules nor come from one, but for full names in texts."""
    for names in (found.assigned, found.called, found.changed, found.deleted):
        tops = {name: name.partition(".")[0] for name in names}
        names.intersection_update(
            name for name, top in tops.items() if top in found.imported or top in sys.modules
        )


def _of_module(name: str, module: ModuleType) -> Mentions:
    # Once for each time that it was loaded: what is written to the file later was not run.
    spec = vars(module).get("__spec__")
    known = _known.get(name)
    if known is None or known[0] is not spec:
        known = _known[name] = spec, _read(lambda: _text_of(name, vars(module)))
    return known[1]


def _of_main_text(state: Any, read_text: Callable[[], str]) -> Mentions:
    """Return what the text of the main module says; `state` tells it from another one."""
    known = _known.get("__main__")
    if known is None or known[0] != state:
        known = _known["__main__"] = state, _read(read_text, is_main=True)
    return known[1]


def _read(read_text: Callable[[], str], is_main: bool = False) -> Mentions:
    try:
        text = read_text()
        return Mentions(text, is_main) if len(text) <= LENGTH_MAX else _NOTHING
    except Exception:  # the program's loaders are asked; no pool is to fail for that
        return _NOTHING


def _text_of(name: str, names: dict[str, Any]) -> str:
    """Return the source of a module: its file, or what its loader has."""
    file: Any = names.get("__file__")
    if issubclass(type(file), str) and file.endswith((".py", ".pyw")):
        text = read(file)
        if text:
            return text
    spec = names.get("__spec__")
    loader: Any = getattr(spec, "loader", None) or names.get("__loader__")
    if hasattr(loader, "get_source"):
        found = loader.get_source(getattr(spec, "name", name))
        return found if type(found) is str else ""
    return read(file) if issubclass(type(file), str) else ""


def _state_of(file: str) -> tuple[Any, ...]:
    try:
        found = os.stat(file)
    except OSError:
        return (file,)
    return file, found.st_mtime_ns, found.st_size
