"""Limits, warnings filters and the like: what is set in modules of the standard library."""

from __future__ import annotations

import os
import sys
from _contextvars import copy_context
from types import FunctionType

from pool._workers._forking import present_filters
from store._interrupts import handler_of

from ._setting import Later, Setting, packed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _read_sys(module: Any) -> Any:
    values = (
        module.getrecursionlimit(),
        module.getswitchinterval(),
        module.get_int_max_str_digits(),
        module.dont_write_bytecode,
        _read_laziness(module),
    )
    # What the flags say of digits changes since Python 3.14 with what the program sets.
    digits = module.int_info.default_max_str_digits
    if "int_max_str_digits" in module._xoptions or "PYTHONINTMAXSTRDIGITS" in os.environ:
        digits = None  # sent in any case
    fresh = (1000, 0.005, digits, bool(module.flags.dont_write_bytecode), _FRESH_LAZINESS)
    return None if values == fresh else values


def _write_sys(module: Any, value: tuple[int, float, int, bool, tuple[str, Any]]) -> None:
    recursion, interval, digits, module.dont_write_bytecode, laziness = value
    module.setrecursionlimit(recursion)
    module.setswitchinterval(interval)
    module.set_int_max_str_digits(digits)
    if laziness != _read_laziness(module):
        mode, accepts = laziness
        module.set_lazy_imports(mode)
        if accepts is not None:
            module.set_lazy_imports_filter(_Filter(accepts))


_FRESH_LAZINESS = ("normal", None)


def _read_laziness(module: Any) -> tuple[str, bytes | None]:
    """Return which imports are done when they are used, by mode and filter; since Python 3.15.

    A module that imports what is not there, and does not use it, can be imported by none but these.
    """
    if not hasattr(module, "get_lazy_imports"):
        return _FRESH_LAZINESS
    accepts = module.get_lazy_imports_filter()
    data = None if accepts is None else packed(accepts)
    if accepts is not None and data is None:
        return _FRESH_LAZINESS  # without its filter, a mode may break what that is for
    return str(module.get_lazy_imports()), data


class _Filter(Later):
    """A filter of lazy imports; those that it needs itself are lazy."""

    _asked = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._function is None:
            if self._asked:
                return True
            self._asked = True
        return super().__call__(*args, **kwargs)


def _read_gc(module: Any) -> Any:
    enabled, threshold = module.isenabled(), module.get_threshold()
    if enabled and threshold in ((700, 10, 10), (2000, 10, 0), (2000, 10, 10)):
        return None
    return enabled, threshold


def _write_gc(module: Any, value: tuple[bool, tuple[int, ...]]) -> None:
    enabled, threshold = value
    module.set_threshold(*threshold)
    module.enable() if enabled else module.disable()


def _read_thread(module: Any) -> Any:
    size = module.stack_size()  # which also sets it, to the default
    if size:
        module.stack_size(size)
    return size or None


def _write_thread(module: Any, value: int) -> None:
    module.stack_size(value)


#: Signals by which a task limits its own time: by `alarm`, `setitimer` or `RLIMIT_CPU`.
_LIMITS = ("SIGALRM", "SIGVTALRM", "SIGPROF", "SIGXCPU")


def _read_signal(module: Any) -> Any:
    found = {}
    for name in _LIMITS:
        handler = handler_of(getattr(module, name))
        # No methods and closures: what they hold, as those of pytest-timeout hold the test, is
        # nothing that a pool should pickle.
        if type(handler) is Later or (type(handler) is FunctionType and not handler.__closure__):
            data = packed(handler)
            if data is not None:
                found[name] = data
    return found or None


def _write_signal(module: Any, value: dict[str, bytes]) -> None:
    for name, data in value.items():
        module.signal(getattr(module, name), Later(data))


def _read_decimal(module: Any) -> Any:
    # The context of the thread that makes the pool, as its forks would have it; and the default for
    # new threads. Read in a copy of the thread's variables, for a thread without a context would
    # get one for good.
    context = copy_context().run(module.getcontext)
    values = list(map(_plain_context, (context, module.DefaultContext)))
    return None if values == [_FRESH_CONTEXT, _FRESH_CONTEXT] else values


def _plain_context(context: Any) -> tuple[Any, ...]:
    _, (*numbers, _flags, traps) = context.__reduce__()
    return *numbers, sorted(trap.__name__ for trap in traps)


#: Precision, rounding, Emin, Emax, capitals, clamp, traps.
_FRESH_CONTEXT = (
    *(28, "ROUND_HALF_EVEN", -999999, 999999, 1, 0),
    ["DivisionByZero", "InvalidOperation", "Overflow"],
)


def _write_decimal(module: Any, value: list[tuple[Any, ...]]) -> None:
    contexts = [
        module.Context(*numbers, [], [getattr(module, name) for name in traps])
        for *numbers, traps in value
    ]
    module.setcontext(contexts[0])
    # Changed in place: other modules hold the object.
    default = module.DefaultContext
    for name in ("prec", "rounding", "Emin", "Emax", "capitals", "clamp", "traps"):
        setattr(default, name, getattr(contexts[1], name))


def _read_socket(module: Any) -> Any:
    return module.getdefaulttimeout()


def _write_socket(module: Any, value: float) -> None:
    module.setdefaulttimeout(value)


_FRESH_LIMIT = 131072
_DIALECT = (
    *("delimiter", "doublequote", "escapechar", "lineterminator"),
    *("quotechar", "quoting", "skipinitialspace", "strict"),
)
#: The dialects that the module `csv` registers.
_FRESH_DIALECTS = {
    "excel": [",", True, None, "\r\n", '"', 0, False, False],
    "excel-tab": ["\t", True, None, "\r\n", '"', 0, False, False],
    "unix": [",", True, None, "\n", '"', 1, False, False],
}


def _read_csv(module: Any) -> Any:
    limit = module.field_size_limit()
    dialects = {}
    for name in module.list_dialects():
        found = module.get_dialect(name)
        values = [getattr(found, part) for part in _DIALECT]
        if _FRESH_DIALECTS.get(name) != values:
            dialects[name] = values
    return (limit, dialects) if dialects or limit != _FRESH_LIMIT else None


def _write_csv(module: Any, value: tuple[int, dict[str, list[Any]]]) -> None:
    limit, dialects = value
    module.field_size_limit(limit)
    if dialects:
        __import__("csv")  # before them: imported later, it would replace them by its own
    for name, values in dialects.items():
        module.register_dialect(name, **dict(zip(_DIALECT, values, strict=True)))


def _read_faulthandler(module: Any) -> Any:
    return module.is_enabled() or None


def _write_faulthandler(module: Any, value: bool) -> None:
    module.enable(2)


def _read_tracemalloc(module: Any) -> Any:
    return module.get_traceback_limit() if module.is_tracing() else None


def _write_tracemalloc(module: Any, value: int) -> None:
    module.start(value)


def _read_locale(module: Any) -> Any:
    found = module.setlocale(module.LC_ALL, None)
    # An interpreter sets only the category for characters, LC_CTYPE, by the environment.
    rest = [part for part in found.split(";") if not part.startswith("LC_CTYPE=")]
    return None if all(part.endswith("=C") or part == "C" for part in rest) else found


def _write_locale(module: Any, value: str) -> None:
    module.setlocale(module.LC_ALL, value)


def _read_tempfile(module: Any) -> Any:
    folder = None if module.tempdir is None else os.fspath(module.tempdir)
    usual = next(filter(None, map(os.environ.get, ("TMPDIR", "TEMP", "TMP"))), "/tmp")
    return None if folder == usual else folder


def _write_tempfile(module: Any, value: str) -> None:
    module.tempdir = value


# ---------------------------------------------------------------- warnings filters

#: The filters of an interpreter without ``-W``.
_FRESH_FILTERS = [
    ("default", None, "builtins:DeprecationWarning", "__main__", 0),
    ("ignore", None, "builtins:DeprecationWarning", None, 0),
    ("ignore", None, "builtins:PendingDeprecationWarning", None, 0),
    ("ignore", None, "builtins:ImportWarning", None, 0),
    ("ignore", None, "builtins:ResourceWarning", None, 0),
]


def _read_warnings(module: Any) -> Any:
    filters = list(map(_plain_filter, present_filters(module)))
    return None if filters == _FRESH_FILTERS else filters


def _plain_filter(entry: tuple[Any, ...]) -> tuple[Any, ...]:
    action, message, category, module, line = entry
    name = f"{category.__module__}:{category.__qualname__}"
    if type(category) is _Named:
        name = category.named  # this is a worker, and the category is its program's
    return action, _plain_pattern(message), name, _plain_pattern(module), line


def _plain_pattern(pattern: Any) -> Any:
    return pattern if pattern is None or type(pattern) is str else (pattern.pattern, pattern.flags)


def _write_warnings(module: Any, value: list[tuple[Any, ...]]) -> None:
    # Most filters are set here as well, with their patterns compiled: those are used again.
    own = {_plain_filter(entry): entry for entry in module.filters}
    if list(own) == value:
        return
    filters = [own.get(entry) or _filter(entry) for entry in value]
    module.resetwarnings()
    module.filters.extend(filters)


def _filter(entry: tuple[Any, ...]) -> tuple[Any, ...]:
    action, message, category, module, line = entry
    return action, _pattern(message), _category(category), _pattern(module), line


def _pattern(pattern: Any) -> Any:
    if pattern is None or type(pattern) is str:
        return pattern
    import re

    return re.compile(*pattern)


def _category(name: str) -> type:
    module, _, qualname = name.partition(":")
    found = getattr(sys.modules.get(module), qualname, None)
    return found if isinstance(found, type) else _Named(qualname, (Warning,), {"named": name})


class _Named(type):
    """Metaclass of stand-ins for warning classes whose modules are not imported in this worker.

    A class counts as a subclass of a stand-in if it, or a base of it, has the name in `named`.
    """

    named: str

    def __subclasscheck__(cls, other: type) -> bool:
        return any(f"{base.__module__}:{base.__qualname__}" == cls.named for base in other.__mro__)


def _keep_filters(module: Any) -> Any:
    return list(module.filters)


def _restore_filters(module: Any, value: list[Any]) -> None:
    if module.filters != value:
        module.resetwarnings()
        module.filters.extend(value)


def _keep_levels(module: Any) -> Any:
    loggers = [module.root, *module.root.manager.loggerDict.values()]
    return [
        (logger, logger.level, logger.propagate, logger.disabled)
        for logger in loggers
        if not isinstance(logger, module.PlaceHolder)
    ]


def _restore_levels(module: Any, value: list[Any]) -> None:
    for logger, level, propagate, disabled in value:
        if logger.level != level:
            logger.setLevel(level)
        logger.propagate = propagate
        logger.disabled = disabled


# Settings that are kept while functions are unpickled, see `Undisturbed`.
FILTERS = Setting("warnings", _keep_filters, _restore_filters)
LEVELS = Setting("logging", _keep_levels, _restore_levels)

SETTINGS = (
    Setting("sys", _read_sys, _write_sys),
    Setting("gc", _read_gc, _write_gc),
    Setting("warnings", _read_warnings, _write_warnings),
    Setting("_thread", _read_thread, _write_thread),
    Setting("_signal", _read_signal, _write_signal),
    Setting("_socket", _read_socket, _write_socket),
    Setting("_csv", _read_csv, _write_csv),
    Setting("faulthandler", _read_faulthandler, _write_faulthandler),
    Setting("tracemalloc", _read_tracemalloc, _write_tracemalloc),
    Setting("decimal", _read_decimal, _write_decimal),
    Setting("_locale", _read_locale, _write_locale),
    Setting("tempfile", _read_tempfile, _write_tempfile),
)
