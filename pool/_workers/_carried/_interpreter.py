"""Limits, warnings filters and the like: what is set in modules of the standard library."""

from __future__ import annotations

import os
import sys

from ._setting import Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _read_sys(sys: Any) -> Any:
    values = (
        sys.getrecursionlimit(),
        sys.getswitchinterval(),
        sys.get_int_max_str_digits(),
        sys.dont_write_bytecode,
    )
    flags = sys.flags
    digits = flags.int_max_str_digits
    if digits < 0:
        digits = sys.int_info.default_max_str_digits
    return None if values == (1000, 0.005, digits, bool(flags.dont_write_bytecode)) else values


def _write_sys(sys: Any, value: tuple[int, float, int, bool]) -> None:
    recursion, interval, digits, sys.dont_write_bytecode = value
    sys.setrecursionlimit(recursion)
    sys.setswitchinterval(interval)
    sys.set_int_max_str_digits(digits)


def _read_gc(gc: Any) -> Any:
    enabled, threshold = gc.isenabled(), gc.get_threshold()
    if enabled and threshold in ((700, 10, 10), (2000, 10, 0), (2000, 10, 10)):
        return None
    return enabled, threshold


def _write_gc(gc: Any, value: tuple[bool, tuple[int, ...]]) -> None:
    enabled, threshold = value
    gc.set_threshold(*threshold)
    gc.enable() if enabled else gc.disable()


def _read_thread(thread: Any) -> Any:
    size = thread.stack_size()  # which also sets it, to the default
    if size:
        thread.stack_size(size)
    return size or None


def _write_thread(thread: Any, value: int) -> None:
    thread.stack_size(value)


def _read_decimal(decimal: Any) -> Any:
    # Of the thread that makes the pool, as its forked children would have it; and of those to
    # come.
    values = [_plain_context(context) for context in (decimal.getcontext(), decimal.DefaultContext)]
    return None if values == [_FRESH_CONTEXT, _FRESH_CONTEXT] else values


def _plain_context(context: Any) -> tuple[Any, ...]:
    _, (*numbers, _flags, traps) = context.__reduce__()
    return *numbers, sorted(trap.__name__ for trap in traps)


#: Precision, rounding, Emin, Emax, capitals, clamp, traps.
_FRESH_CONTEXT = (
    *(28, "ROUND_HALF_EVEN", -999999, 999999, 1, 0),
    ["DivisionByZero", "InvalidOperation", "Overflow"],
)


def _write_decimal(decimal: Any, value: list[tuple[Any, ...]]) -> None:
    contexts = [
        decimal.Context(*numbers, [], [getattr(decimal, name) for name in traps])
        for *numbers, traps in value
    ]
    decimal.setcontext(contexts[0])
    # Others hold the object of this name.
    default = decimal.DefaultContext
    for name in ("prec", "rounding", "Emin", "Emax", "capitals", "clamp", "traps"):
        setattr(default, name, getattr(contexts[1], name))


def _read_socket(socket: Any) -> Any:
    return socket.getdefaulttimeout()


def _write_socket(socket: Any, value: float) -> None:
    socket.setdefaulttimeout(value)


def _read_csv(csv: Any) -> Any:
    limit = csv.field_size_limit()
    return None if limit == 131072 else limit


def _write_csv(csv: Any, value: int) -> None:
    csv.field_size_limit(value)


def _read_locale(locale: Any) -> Any:
    found = locale.setlocale(locale.LC_ALL, None)
    # The interpreter sets the category for characters, by the environment, and no other one.
    rest = [part for part in found.split(";") if not part.startswith("LC_CTYPE=")]
    return None if all(part.endswith("=C") or part == "C" for part in rest) else found


def _write_locale(locale: Any, value: str) -> None:
    locale.setlocale(locale.LC_ALL, value)


def _read_time(time: Any) -> Any:
    return list(time.tzname) if "TZ" in os.environ else None


def _write_time(time: Any, value: list[str]) -> None:
    # The variable is in this process's environment by now; but it had another one when it
    # started.
    if list(time.tzname) != value:
        time.tzset()


def _read_tempfile(tempfile: Any) -> Any:
    folder = tempfile.tempdir
    usual = next(filter(None, map(os.environ.get, ("TMPDIR", "TEMP", "TMP"))), "/tmp")
    return None if folder == usual else folder


def _write_tempfile(tempfile: Any, value: str) -> None:
    tempfile.tempdir = value


# ---------------------------------------------------------------- warnings filters

#: Those of an interpreter without ``-W``.
_FRESH_FILTERS = [
    ("default", None, "builtins:DeprecationWarning", "__main__", 0),
    ("ignore", None, "builtins:DeprecationWarning", None, 0),
    ("ignore", None, "builtins:PendingDeprecationWarning", None, 0),
    ("ignore", None, "builtins:ImportWarning", None, 0),
    ("ignore", None, "builtins:ResourceWarning", None, 0),
]


def _read_warnings(warnings: Any) -> Any:
    filters = list(map(_plain_filter, warnings.filters))
    return None if filters == _FRESH_FILTERS else filters


def _plain_filter(entry: tuple[Any, ...]) -> tuple[Any, ...]:
    action, message, category, module, line = entry
    name = f"{category.__module__}:{category.__qualname__}"
    return action, _plain_pattern(message), name, _plain_pattern(module), line


def _plain_pattern(pattern: Any) -> Any:
    return pattern if pattern is None or type(pattern) is str else (pattern.pattern, pattern.flags)


def _write_warnings(warnings: Any, value: list[tuple[Any, ...]]) -> None:
    # Most of them are here too, with their patterns compiled.
    own = {_plain_filter(entry): entry for entry in warnings.filters}
    if list(own) == value:
        return
    filters = [own.get(entry) or _filter(entry) for entry in value]
    warnings.resetwarnings()
    warnings.filters.extend(filters)


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
    """Stands for the warning class of a name, whose module need not be imported for that."""

    named: str

    def __subclasscheck__(cls, other: type) -> bool:
        return any(f"{base.__module__}:{base.__qualname__}" == cls.named for base in other.__mro__)


SETTINGS = (
    Setting("sys", _read_sys, _write_sys),
    Setting("gc", _read_gc, _write_gc),
    Setting("warnings", _read_warnings, _write_warnings),
    Setting("time", _read_time, _write_time),
    Setting("_thread", _read_thread, _write_thread),
    Setting("_socket", _read_socket, _write_socket),
    Setting("_csv", _read_csv, _write_csv),
    Setting("decimal", _read_decimal, _write_decimal),
    Setting("_locale", _read_locale, _write_locale),
    Setting("tempfile", _read_tempfile, _write_tempfile),
)
