"""Find out whether an import of one of the program's own modules should be done once only.

A module that makes the folder of this run, truncates a file of results, reads the standard input,
prints a line, takes a lock that excludes other processes, or deletes what an earlier run has left:
a worker that imports it would do all that again, to the program whose work it is. And one that
loads a model or a table would have each worker of each pool load it, and hold it for itself. One
that asks a class for its `__subclasses__` would find those whose modules the worker has imported.

The code of the module tells, and that of the functions which it calls. It is asked for names and
constants, so some modules are found that would do no harm: their pools are forked from the program
for nothing.
"""

from __future__ import annotations

import sys
from itertools import chain
from types import CodeType, FunctionType

from ._data import is_programs
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

#: Names of what prints or loads; and modules whose `load` is for what is small.
_LOADS = frozenset(
    {
        "print",
        "load",
        "load_model",
        "load_dataset",
        "from_pretrained",
        "SentenceTransformer",
        "loadtxt",
    }
    | {"genfromtxt", "read_csv", "read_table", "read_parquet", "read_feather", "read_pickle"}
    | {"read_excel", "read_hdf", "read_sql", "read_file", "open_dataset", "load_workbook"}
)
_SMALL = frozenset({"json", "yaml", "toml", "tomllib", "tomli", "ujson", "simplejson"})

#: What tells that a folder may be there already; and that its name will be another one next time.
_IF_NEW = frozenset({"exists", "isdir", "is_dir"})
_NAMED_ANEW = frozenset(
    {"now", "utcnow", "today", "time", "strftime", "localtime", "uuid1", "uuid4", "getpid"}
)

#: What `may_be` looks for: parts of all these names, the most frequent ones first.
_TOLD = (
    *(b"open", b"print(", b"load", b"read_", b"write_", b"mk", b"makedirs", b"stdin", b"input("),
    *(b"Temporary", b"unlink", b"rmdir", b"rmtree", b"flock", b"lockf", b"FileHandler"),
    *(b"basicConfig", b"ZipFile", b"from_pretrained", b"SentenceTransformer", b"genfromtxt"),
)

#: Functions have this flag, classes have not; as in `_assigned`.
CO_OPTIMIZED = 1

#: Methods that are run when a class is called.
_MAKERS = frozenset({"__new__", "__init__", "__post_init__"})

#: `LOAD_ATTR` has a flag in the last bit of its argument since Python 3.12.
_SHIFT = sys.version_info >= (3, 12)

#: Where the null is that goes with what is called, beside the instruction that loads that.
_NULL = 2 if sys.version_info >= (3, 13) else -2

#: What an import runs: names that are looked up, names that are called, and constants.
_Use = tuple[set[str], set[str], tuple[object, ...]]


#: Those that were found to be others' than the program's.
_finders: tuple[Any, ...] = ()

#: What comes of importing a module once more: nothing; a line that is there twice, or a second that
#: each worker takes and memory for each one's own table, or classes that it does not find;
#: somebody's files are gone.
HARMLESS, COSTLY, HARMFUL = range(3)

#: By name of a module: what tells that it was loaded anew, and what comes of importing it.
_known: dict[str, tuple[Any, int]] = {}


def to_be_inherited(least: int) -> str:
    """Return the name of a module that workers should not import, or cannot; "" if there is none.

    Parameters
    ----------
    least : int
        How bad it has to be.

    Notes
    -----
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
                if _has_other_loader(spec):
                    found = HARMFUL
                else:
                    text = _text_of(module)
                    found = again(_code_of(module)) if may_be(text) else HARMLESS
                    if b".__subclasses__" in text:
                        found = max(found, COSTLY)
            except Exception:
                found = HARMLESS  # there is no code; the program's loaders are asked, too
            known = _known[name] = spec, found
        if known[1] >= least:
            return name
    return ""


def _is_own(finder: Any) -> bool:
    return is_programs(finder if issubclass(type(finder), (type, FunctionType)) else type(finder))


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


def again(code: CodeType) -> int:
    """Return what comes of importing a module once more.

    Parameters
    ----------
    code : code
        Of the module.

    Returns
    -------
    {HARMLESS, COSTLY, HARMFUL}
    """
    worst = HARMLESS
    for names, _, constants in _run(code):
        if _harms(names, constants):
            return HARMFUL
        if not _LOADS.isdisjoint(names):
            worst = COSTLY
    return worst


def _harms(names: set[str], constants: tuple[object, ...]) -> bool:
    if not _ALWAYS.isdisjoint(names):
        return True
    if not _FOLDERS.isdisjoint(names):
        if not _NAMED_ANEW.isdisjoint(names):
            return True
        if _IF_NEW.isdisjoint(names) and not any(
            type(some) is tuple and "exist_ok" in some for some in constants
        ):
            return True
    if _FILES.isdisjoint(names):
        return False
    return any(isinstance(some, str) and _truncates(some) for some in constants)


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
        called = [some for name in use[1] for some in definitions.get(name, ())]
        for part in chain.from_iterable(map(_of_call, called)):
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
    if code.co_flags & CO_OPTIMIZED:
        names = called = set(code.co_names)
    else:
        names, called = _loaded(code)
    if "load" in names and not _SMALL.isdisjoint(names):
        names = names - {"load"}
    return names, called, code.co_consts


def _loaded(code: CodeType) -> tuple[set[str], set[str]]:
    """Return the names that the code of a module or class looks up, and those that it calls."""
    from ._assigned import numbers_of, steps

    words, constants, instructions = code.co_names, code.co_consts, code.co_code
    end = len(instructions)
    if "__main__" in constants:
        tests = steps(code, numbers_of("LOAD_CONST"))
        end = next((place for place, number in tests if constants[number] == "__main__"), end)
    names = {words[n >> _SHIFT] for place, n in steps(code, numbers_of("LOAD_ATTR")) if place < end}
    names.update(words[n] for place, n in steps(code, numbers_of("LOAD_METHOD")) if place < end)
    called = set()
    null = numbers_of("PUSH_NULL")
    for place, number in steps(code, numbers_of("LOAD_NAME")):
        name = words[number]
        if place >= end:
            continue
        if name != "time":  # the module; its function is an attribute
            names.add(name)
        if instructions[max(place + _NULL, 0)] in null:
            called.add(name)
    return names, called
