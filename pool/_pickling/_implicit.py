"""Which globals a function may use implicitly: through `eval`, `globals`, a string.

``globals()[name](x)`` names no global, ``df.query("a > @limit")`` names one in a string, and so do
``ols("y ~ double(x)", df)`` and ``duckdb.sql("SELECT * FROM df")``, which look into the globals of
their caller. Forked workers have all globals anyway. Here such a function brings along the globals
that its strings name and, if it looks into its globals as a whole, all that are small. Globals that
are large have to be named by its code, or in a string where only a global can be meant; those that
cannot be sent, by its code.
"""

from __future__ import annotations

import gc
import sys
from io import BytesIO
from itertools import pairwise
from types import FunctionType, ModuleType

from ._kept import LARGE
from ._names import (
    DERIVED,
    EVALUATING,
    LOOKING,
    LOOKING_ANYHOW,
    global_names,
    global_texts,
    looks_into_modules,
    nested,
    texts_in,
)
from ._needs import ALL_NAMES, explore
from ._origins import is_definition, is_named, scope_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

#: A value that consists of more objects is large.
_OBJECTS = 5000

#: Packages whose objects are of use in one process only: threads, locks, connections and the like.
_NO_DATA = frozenset(
    {
        "_asyncio",
        "_io",
        "_queue",
        "_socket",
        "_sqlite3",
        "_ssl",
        "_thread",
        "asyncio",
        "concurrent",
        "mmap",
        "multiprocessing",
        "pool",
        "queue",
        "select",
        "socket",
        "sqlite3",
        "ssl",
        "store",
        "subprocess",
        "tempfile",
        "threading",
    }
)


def implicit_names(func: FunctionType) -> list[str]:
    """Return the globals that `func` may use without naming them; `ALL_NAMES` may be among them."""
    code = func.__code__
    names = global_names(code)
    parts = list(nested(code))
    mentioned = {name for part in parts for name in part.co_names}
    looking = _looks_around(mentioned, names)
    doc = func.__doc__
    texts = [text for part in parts for text in texts_in(part.co_consts) if text is not doc]
    found = [ALL_NAMES] if looking else []
    if looking or not EVALUATING.isdisjoint(mentioned):
        found += _named_in(texts, func, looking or _evaluates(mentioned, names, func.__globals__))
    if DERIVED in mentioned and not looking:
        found += _derived_classes(func.__globals__)
    found += _called_in([*texts, *global_texts(func)], func)
    return found


def _looks_around(mentioned: set[str], names: tuple[str, ...]) -> bool:
    return (
        not LOOKING.isdisjoint(names)
        or not LOOKING_ANYHOW.isdisjoint(mentioned)
        or looks_into_modules(mentioned)
    )


def _evaluates(mentioned: set[str], names: tuple[str, ...], values: dict[str, Any]) -> bool:
    """Return whether code may call a function that evaluates strings, rather than a method.

    Words in what `pandas.eval`, `numexpr.evaluate` and `duckdb.sql` are given are globals of the
    caller; those in what methods of frames are given are mostly columns.
    """
    if not EVALUATING.isdisjoint(names):
        return True
    modules = [value for name in names if type(value := values.get(name)) is ModuleType]
    return any(
        callable(vars(module).get(name))
        for name in EVALUATING.intersection(mentioned)
        for module in modules
    )


def _named_in(texts: list[str], func: FunctionType, evaluated: bool) -> list[str]:
    """Return the globals that words of some strings name.

    If the strings need not be code (not `evaluated`), a large global counts only if it is written
    as in `DataFrame.query`, ``@name``, or as a table of SQL.
    """
    names = func.__globals__
    scope = scope_of(names)
    words = [_words(text) for text in texts]
    found = dict.fromkeys(word for part in words for word in part if word in names)
    tables = {
        word
        for part in words
        for before, word in pairwise(part)
        if before.lower() in ("from", "join") and _may_be_table(names.get(word))
    }
    return [
        word
        for word in found
        if scope is not None
        and not _is_dunder(word)
        and (
            (evaluated and not stands_for_other(names[word]))
            or word in tables
            or any("@" + word in text for text in texts)
            or is_small_name(scope.key, names, word)
        )
    ]


def _derived_classes(names: dict[str, Any]) -> list[str]:
    """Return the classes of the scope that derive from others, which `__subclasses__` may find."""
    scope = scope_of(names)
    derived = [
        name
        for name, value in list(names.items())
        if issubclass(type(value), type) and value.__base__ is not object and not is_named(value)
    ]
    # The last one first, as `explore` takes them: they are made in the order of their definition.
    derived.reverse()
    return [name for name in derived if scope and is_small_name(scope.key, names, name)]


def _may_be_table(value: Any) -> bool:
    return type(value).__module__ != "builtins" and not stands_for_other(value)


def _called_in(texts: list[str], func: FunctionType) -> list[str]:
    """Return the functions, classes and modules that strings call: ``double(x)``, ``np.log(x)``."""
    names = func.__globals__
    scope = scope_of(names)
    found: dict[str, None] = {}
    for text in texts:
        for before in text.split("(")[:-1]:
            name = _dotted_at_the_end(before).partition(".")[0]
            if name in names and not _is_dunder(name):
                found[name] = None
    return [
        name
        for name in found
        if scope is not None
        and _is_elsewhere(names[name])
        and is_small_name(scope.key, names, name)
    ]


def _dotted_at_the_end(text: str) -> str:
    start = len(text)
    while start and (text[start - 1] in "_." or text[start - 1].isalnum()):
        start -= 1
    return text[start:]


def _words(text: str) -> list[str]:
    # Without `re`, which a small program has not imported.
    return "".join(each if each == "_" or each.isalnum() else " " for each in text).split()


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def small_names(key: str, names: dict[str, Any]) -> list[str]:
    """Return the names of a scope whose values, and all that these use, are small data."""
    verdicts: dict[int, bool] = {}
    return [name for name in list(names) if is_small_name(key, names, name, verdicts)]


def is_small_name(
    key: str, names: dict[str, Any], name: str, verdicts: dict[int, bool] | None = None
) -> bool:
    """Return whether a value, and all that it uses, is small and can be sent.

    Parameters
    ----------
    key : str
        Of the scope.
    names : dict
        The namespace.
    name : str
    verdicts : dict, optional
        Results for values by ``id``, kept between calls.
    """
    if _is_dunder(name):
        return False
    known = {} if verdicts is None else verdicts
    for part, what in explore({(key, name): names}, implicit=False).items():
        value = what if isinstance(part, str) else what.get(part[1])
        verdict = known.get(id(value))
        if verdict is None:
            verdict = known[id(value)] = _is_small(value)
        if not verdict:
            return False
    return True


def _is_small(value: Any) -> bool:
    if _is_elsewhere(value):
        return True
    nbytes = 0
    pending = [value]
    seen: set[int] = set()
    while pending:
        obj = pending.pop()
        if id(obj) in seen or _is_elsewhere(obj):
            continue
        seen.add(id(obj))
        kind = type(obj)
        if stands_for_other(obj) or kind is memoryview:
            return False
        if kind.__module__ == "builtins":
            nbytes += sys.getsizeof(obj)
        elif kind.__module__ == "numpy":
            nbytes += getattr(obj, "nbytes", 0)
        # Objects of other classes count by their parts: a DataFrame asked for its size would go
        # through all its cells.
        if nbytes >= LARGE or len(seen) > _OBJECTS:
            return False
        pending += gc.get_referents(obj)
    return _can_be_pickled(value)


def stands_for_other(value: Any) -> bool:
    """Return whether `value` is of use only in this process, as far as its package tells."""
    return type(value).__module__.partition(".")[0] in _NO_DATA


def _can_be_pickled(value: Any) -> bool:
    """Return whether `value` can be pickled, apart from the definitions that it needs."""
    from ._encoding import attempt

    try:
        attempt(lambda pickler_class: pickler_class(BytesIO(), 5).dump(value))
    except Exception:  # of any kind: the function may not need this value at all
        return False
    return True


def _is_elsewhere(value: Any) -> bool:
    """Return whether `value` is a function, class or module, whose parts `explore` looks at."""
    return is_definition(value) or type(value) is ModuleType


def annotated_names(kind: Any) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    """Yield the classes that the annotations of a class name in strings, as needs.

    Libraries that make instances from plain data look these classes up.
    """
    annotations = vars(kind).get("__annotations__")
    names = getattr(sys.modules.get(kind.__module__), "__dict__", None)
    scope = None if names is None else scope_of(names)
    if type(annotations) is not dict or names is None or scope is None or scope.importable:
        return
    texts = [text for text in annotations.values() if type(text) is str]
    for word in dict.fromkeys(word for text in texts for word in _words(text)):
        value = names.get(word)
        if not issubclass(type(value), type) or value is kind or is_named(value):
            continue
        if is_small_name(scope.key, names, word):
            yield (scope.key, word), names
