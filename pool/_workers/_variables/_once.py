"""Find out whether an import of one of the program's own modules may be done once only.

A module that makes the folder of this run, truncates a file of results, reads the standard input,
takes a lock that excludes other processes, or deletes what an earlier run has left: a worker that
imports it would do all that again, to the program whose work it is.

The code of the module tells, and that of the functions which it calls. It is asked for names and
constants, so some modules are found that would do no harm: their pools are forked from the program
for nothing.
"""

from __future__ import annotations

import sys
from types import CodeType, FunctionType

from ._data import is_of_program, module_of
from ._snapshot import snapshots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType
    from typing import Any

#: Names of what is done once; of what may be; and of what is if a file is truncated.
_ALWAYS = frozenset(
    {"flock", "lockf", "stdin", "input", "mkdtemp", "mkstemp", "TemporaryDirectory"}
    | {"NamedTemporaryFile", "rmtree", "unlink", "rmdir", "Popen", "write_text", "write_bytes"}
)
_FOLDERS = frozenset({"mkdir", "makedirs"})
_FILES = frozenset({"open", "fdopen", "FileHandler", "basicConfig", "ZipFile"})

#: What tells that a folder may be there already; and that its name will be another one next time.
_IF_NEW = frozenset({"exists", "isdir", "is_dir"})
_NAMED_ANEW = frozenset(
    {"now", "utcnow", "today", "time", "strftime", "localtime", "uuid1", "uuid4", "getpid"}
)

#: What `may_be` looks for: names that have other uses in the way in which they are called.
_TOLD = [
    name.encode()
    for name in (*((_ALWAYS | _FOLDERS | _FILES) - {"open", "input", "fdopen"}), "open(", "input(")
]

#: Functions have this flag, classes have not; as in `_assigned`.
CO_OPTIMIZED = 1

#: Methods that are run when a class is called.
_MAKERS = frozenset({"__new__", "__init__", "__post_init__"})

#: What an import runs: names that are looked up, names that are called, and constants.
_Use = tuple[set[str], set[str], "list[Any]"]


#: Those that were found to be others' than the program's.
_finders: tuple[Any, ...] = ()

#: By name of a module: what tells that it was loaded anew, and what was found.
_known: dict[str, tuple[Any, bool]] = {}


def to_be_inherited() -> str:
    """Return the name of a module that workers should not import, or cannot; "" if there is none.

    They cannot where a finder of the program's own finds it, or a package that loads it from
    something else than Python's files, as `pyximport` does.
    """
    global _finders
    if _finders != (*sys.meta_path, *sys.path_hooks):
        finders = *sys.meta_path, *sys.path_hooks
        if any(map(_is_own, finders)):
            return "sys.meta_path"
        _finders = finders
    for name, module in snapshots.modules().items():
        spec = getattr(module, "__spec__", None)
        known = _known.get(name)
        if known is None or known[0] is not spec:
            try:
                found = _has_other_loader(spec) or (
                    may_be(_text_of(module)) and is_done_once(_code_of(module))
                )
            except Exception:
                found = False  # there is no code; the program's loaders are asked, too
            known = _known[name] = spec, found
        if known[1]:
            return name
    return ""


def _is_own(finder: Any) -> bool:
    home = module_of(finder if issubclass(type(finder), (type, FunctionType)) else type(finder))
    return home == "__main__" or is_of_program(home)


def _has_other_loader(spec: Any) -> bool:
    """Return whether a module was not loaded from one of Python's files.

    What is made of a file with source, by pytest for one, is taken over by `pool._pickling`.
    """
    if spec is None or spec.loader is None or type(spec.origin) is not str:
        return False
    if spec.origin.endswith(".py"):
        return False
    from pool._pickling._facts import is_usual

    return not is_usual(spec.loader)


def _text_of(module: ModuleType) -> bytes:
    spec: Any = module.__spec__
    try:
        with open(spec.origin, "rb") as file:
            return file.read()
    except OSError:  # it is in an archive
        return str(spec.loader.get_source(spec.name)).encode()


def _code_of(module: ModuleType) -> CodeType:
    from ._assigned import code_of  # this import takes longer than all that is done here mostly

    return code_of(module)


def may_be(text: bytes) -> bool:
    """Return whether a module's text has any of the names, so that its code is to be asked."""
    return any(name in text for name in _TOLD)


def is_done_once(code: CodeType) -> bool:
    """Return whether importing a module does what it should not do a second time.

    Parameters
    ----------
    code : code
        Of the module.
    """
    return any(_does(names, constants) for names, _, constants in _run(code))


def _does(names: set[str], constants: list[Any]) -> bool:
    if not _ALWAYS.isdisjoint(names):
        return True
    if not _FOLDERS.isdisjoint(names):
        if not _NAMED_ANEW.isdisjoint(names):
            return True
        words = {word for some in constants if type(some) is tuple for word in some}
        if _IF_NEW.isdisjoint(names) and "exist_ok" not in words:
            return True
    if _FILES.isdisjoint(names):
        return False
    return any(type(some) is str and _truncates(some) for some in constants)


def _truncates(mode: str) -> bool:
    """Return whether a text looks like the mode of a file that is written from its beginning."""
    return 0 < len(mode) <= 3 and mode[0] in "wx" and all(sign in "wxbt+" for sign in mode)


def _run(code: CodeType) -> Iterator[_Use]:
    """Yield what is used by the code that an import runs, as far as the module itself has it."""
    definitions: dict[str, list[CodeType]] = {}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            definitions.setdefault(constant.co_name, []).append(constant)
    # The bodies of classes are run, their methods are not.
    classes = [
        some for same in definitions.values() for some in same if not some.co_flags & CO_OPTIMIZED
    ]
    due = [code, *classes]
    seen = {*due}
    while due:
        use = _use(due.pop())
        yield use
        for name in use[1]:
            for called in definitions.get(name, ()):
                for part in _of_call(called):
                    if part not in seen:
                        seen.add(part)
                        due.append(part)


def _of_call(code: CodeType) -> Iterator[CodeType]:
    """Yield what is run when a function, or a class, is called."""
    if code.co_flags & CO_OPTIMIZED:
        yield code
        return
    for constant in code.co_consts:
        if isinstance(constant, CodeType) and constant.co_name in _MAKERS:
            yield constant


def _use(code: CodeType) -> _Use:
    """Return what some code uses.

    Of a module only what is before ``if __name__ == "__main__":``, which no import runs.
    """
    from dis import get_instructions

    names: set[str] = set()
    called: set[str] = set()
    constants: list[Any] = []
    last = ""  # what was looked up just before, where a null that follows it says that it is called
    null = False
    for step in get_instructions(code):
        operation, value = step.opname, step.argval
        if operation in ("LOAD_CONST", "KW_NAMES"):
            if value == "__main__" and not code.co_flags & CO_OPTIMIZED:
                break
            constants.append(value if operation == "LOAD_CONST" else code.co_consts[step.arg or 0])
        elif operation == "LOAD_NAME":
            if null:
                called.add(value)
            last = value
            if value != "time":  # the module; its function is an attribute
                names.add(value)
        elif operation == "LOAD_GLOBAL":
            called.add(value)
            if value != "time":
                names.add(value)
        elif operation in ("LOAD_ATTR", "LOAD_METHOD"):
            names.add(value)
        elif operation == "PUSH_NULL" and last:
            called.add(last)
        null = operation == "PUSH_NULL"
        if operation != "LOAD_NAME":
            last = ""
    return names, called, constants
