"""Levels and handlers of loggers, so that tasks log as the program does."""

from __future__ import annotations

import logging
import os
import sys
from _thread import get_ident
from functools import partial
from logging import handlers as _handlers

from pool._workers._imports import when_imported
from pool._workers._warmup import installed

from ._setting import Later, Setting, packed, unpacked, write_at_the_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType
    from typing import Any

    # Class and attributes, pickled; the name of the standard stream that it writes to, or path,
    # encoding and error handler of a file.
    _Handler = tuple[bytes, str | tuple[Any, ...]]
    # (name, level, propagate, disabled, numbers of handlers, filters, class)
    _Logger = tuple[str, int, bool, bool, list[int], bytes | None, bytes | str]

#: Handlers that are not carried, since what they hold belongs to this process: a connection, a
#: queue that is read here, records that wait.
_LOCAL = (_handlers.SysLogHandler, _handlers.QueueHandler, _handlers.MemoryHandler)

#: A handler that has a collection of more items keeps its records there; it is not carried.
_ITEMS_MAX = 1000

_FRESH_NAMES = {
    "CRITICAL": 50,
    "FATAL": 50,
    "ERROR": 40,
    "WARN": 30,
    "WARNING": 30,
    "INFO": 20,
    "DEBUG": 10,
    "NOTSET": 0,
}

# ---------------------------------------------------------------- in the program


def _adds_itself(name: str, what: Any) -> bool:
    """Return whether an installed package has given a logger of its own a filter or a handler.

    It does so again where a task imports it. To carry that, every worker would have to load the
    package: Dask's takes a third of a second, and has all exceptions pickled its own way.
    """
    package = name.partition(".")[0]
    return type(what).__module__.partition(".")[0] == package and bool(installed(package))


def _class_of(logger: logging.Logger) -> bytes | str:
    """Return the class of a logger if `getLogger` would make it of another one, or nothing.

    A package that makes a logger of a class of its own, as astropy does, fails where a plain one
    has that name. Then the package's name is returned: it has to make the logger in workers, too.
    """
    kind = type(logger)
    if kind in (logging.Logger, logging.RootLogger, logging.getLoggerClass()):
        return b""
    package = kind.__module__.partition(".")[0]
    return package if installed(package) else packed(kind) or b""


class _Reading:
    """Reads loggers, and collects their handlers: each one once, though several may share it."""

    def __init__(self) -> None:
        self.handlers: list[_Handler] = []
        self.needs: set[str] = set()
        self._numbers: dict[int, int | None] = {}

    def logger(self, name: str, logger: logging.Logger) -> _Logger | None:
        """Return what is to be set of a logger; None if it is as a new one."""
        usual = logging.WARNING if logger is logging.root else logging.NOTSET
        kind = _class_of(logger)
        if (
            logger.level == usual
            and logger.propagate
            and not (logger.disabled or logger.handlers or logger.filters or kind)
        ):
            return None
        handlers = [each for each in logger.handlers if not _adds_itself(name, each)]
        found = map(self._number, handlers)
        numbers = [number for number in found if number is not None]
        given = [each for each in logger.filters if not _adds_itself(name, each)]
        filters = packed(given) if given else None
        # If its filters cannot be carried, it is disabled: records that they would have kept back
        # must not be shown.
        silent = bool(given) and filters is None
        level, off = int(logger.level), bool(logger.disabled) or silent
        if level == usual and logger.propagate and not (off or numbers or filters or kind):
            return None
        return str(name), level, bool(logger.propagate), off, numbers, filters, kind

    def _number(self, handler: logging.Handler) -> int | None:
        """Return the number of a handler among those that are carried; None if it is not."""
        if id(handler) not in self._numbers:
            try:
                carried = _carry(handler)
            except Exception:
                carried = None  # an unusual handler is not carried, and the others are
            self._numbers[id(handler)] = None if carried is None else len(self.handlers)
            if carried is not None:
                self.handlers.append(carried)
                self._note_needs(handler)
        return self._numbers[id(handler)]

    def _note_needs(self, handler: logging.Handler) -> None:
        formatter = handler.formatter
        parts = (handler, formatter, *handler.filters)
        self.needs.update(type(part).__module__ for part in parts if part is not None)
        if formatter is not None and (
            type(formatter) is not logging.Formatter or "processName" in str(formatter._fmt)
        ):
            # Without the module, records of workers have the process name "MainProcess".
            self.needs.add("multiprocessing")


def _carry(handler: logging.Handler) -> _Handler | None:
    """Return what a worker needs to make the same handler, or None if it is not to be carried.

    If it writes to a file, this process appends to that from now on: see `write_at_the_end`.
    """
    if isinstance(handler, (logging.NullHandler, *_LOCAL)):
        return None
    state = dict(vars(handler), lock=None)
    if any(
        isinstance(value, list | dict | set) and len(value) > _ITEMS_MAX for value in state.values()
    ):
        return None
    target: str | tuple[Any, ...] = ""
    if isinstance(handler, logging.FileHandler):
        if handler.baseFilename == os.devnull:
            return None
        mode = handler.mode.replace("w", "a").replace("x", "a")
        state.update(stream=None, mode=mode)  # opened with the first record
        if handler.stream is not None and "a" not in handler.mode:
            write_at_the_end(handler.stream.fileno())
    elif "stream" in state:
        stream, state["stream"] = state["stream"], None
        target = _stream_name(stream) or _file(stream)
        if not target:
            return None  # an object in place of a standard stream, or one that collects text
    if "sock" in state:
        state["sock"] = None  # connected with the first record
    data = packed((type(handler), state))
    return None if data is None else (data, target)


def _stream_name(stream: object) -> str:
    for name in ("stdout", "stderr", "__stdout__", "__stderr__"):
        if stream is getattr(sys, name):
            return name
    return ""


def _file(stream: Any) -> tuple[Any, ...]:
    """Return path, encoding and error handler of an open file; nothing if it is none."""
    path = getattr(stream, "name", None)
    if type(path) is not str or not os.path.isfile(path) or stream.closed:
        return ()
    stream.flush()
    write_at_the_end(stream.fileno())
    return os.path.abspath(path), stream.encoding, stream.errors


def _read(module: ModuleType) -> Any:
    reading = _Reading()
    manager = logging.root.manager
    loggers = [("", logging.root), *manager.loggerDict.items()]
    changed = [
        entry
        for name, logger in loggers
        if not isinstance(logger, logging.PlaceHolder)
        and (entry := reading.logger(name, logger)) is not None
    ]
    levels = logging.getLevelNamesMapping()
    whole: dict[str, Any] = {
        "names": None if levels == _FRESH_NAMES else [(str(n), int(v)) for n, v in levels.items()],
        "disabled": int(manager.disable),
        "captured": _captures_warnings(),
        "quiet": not logging.raiseExceptions,
        "factory": _class_or_none(logging.getLogRecordFactory(), logging.LogRecord),
        "kind": _class_or_none(logging.getLoggerClass(), logging.Logger),
    }
    if not (changed or any(whole.values())):
        return None
    needs = sorted(reading.needs - {"__main__"})
    return changed, reading.handlers, whole, needs


def _captures_warnings() -> bool:
    show = getattr(sys.modules.get("warnings"), "showwarning", None)
    return getattr(show, "__module__", "") == "logging"


def _class_or_none(value: object, usual: object) -> bytes | None:
    return None if value is usual else packed(value)


def _needs(value: tuple[Any, ...]) -> Iterable[str]:
    needs: list[str] = value[-1]
    return needs


# ---------------------------------------------------------------- in a worker


def _write(module: ModuleType, value: tuple[Any, ...]) -> None:
    loggers, carried, whole, needs = value
    if "multiprocessing" in needs:
        __import__("multiprocessing")
    for name, level in whole["names"] or ():
        logging.addLevelName(level, name)
    if whole["factory"] is not None:
        logging.setLogRecordFactory(_RecordFactory(whole["factory"]))
    if whole["kind"] is not None:
        logging.setLoggerClass(unpacked(whole["kind"]))
    logging.raiseExceptions = not whole["quiet"]
    awaited: dict[str, str] = {}
    for logger in loggers:
        name, kind = logger[0], logger[-1]
        if type(kind) is str:
            awaited[name] = kind
            when_imported(kind, partial(_write_logger, logger, carried))
        else:
            _write_logger(logger, carried)
    if awaited:
        _leave_to_packages(awaited)
    logging.disable(whole["disabled"])
    if whole["captured"]:
        logging.captureWarnings(True)


class _RecordFactory(Later):
    """What makes log records in the program; its module is imported with the first record.

    Ray sets one, and takes a second and 40 MB to import.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._importing: set[int] = set()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._function is not None:
            return self._function(*args, **kwargs)
        thread = get_ident()
        if thread in self._importing:
            return logging.LogRecord(*args, **kwargs)  # of the module that is being imported
        self._importing.add(thread)
        try:
            return super().__call__(*args, **kwargs)
        finally:
            self._importing.discard(thread)


def _write_logger(
    value: _Logger, carried: list[_Handler], package: ModuleType | None = None
) -> None:
    name, level, propagate, off, numbers, filters, kind = value
    logger = _made(name, kind) if kind and package is None else logging.getLogger(name)
    logger.setLevel(level)
    logger.propagate = propagate
    logger.disabled = off
    for number in numbers:
        # One handler for each logger, for in one of them it may leave records to another one,
        # see `_Carried`.
        data, target = carried[number]
        handler = _handler(data, target, logger)
        if handler is not None:
            logger.addHandler(handler)
    for accept in () if filters is None else unpacked(filters):
        logger.addFilter(accept)


def _made(name: str, kind: Any) -> logging.Logger:
    """Make a logger of a class of the program's own."""
    usual = logging.getLoggerClass()
    try:
        logging.setLoggerClass(unpacked(kind))
        return logging.getLogger(name)
    except Exception:
        logging.setLoggerClass(usual)
        return logging.getLogger(name)  # its module cannot be imported here, for example
    finally:
        logging.setLoggerClass(usual)


def _leave_to_packages(awaited: dict[str, str]) -> None:
    """Have packages make the loggers that only they can make, whoever asks for one of these first.

    Parameters
    ----------
    awaited : dict
        By the name of a logger, that of the package.
    """
    manager = logging.root.manager
    get = manager.getLogger

    def get_logger(name: str) -> logging.Logger:
        package = awaited.pop(name, None)
        if package is not None and package not in sys.modules:
            __import__(package)
        return get(name)

    manager.getLogger = get_logger  # type: ignore[method-assign]  # there is no other way


class _Carried:
    """Base class of carried handlers, in a worker.

    A module that adds a handler when it is imported has done so in the program, and may do so again
    in the worker. The carried handler then leaves records to the one that the module has added.
    """

    _pool_logger: logging.Logger

    def handle(self, record: logging.LogRecord) -> Any:
        if any(_is_same(self, other) for other in self._pool_logger.handlers):
            return False
        return super().handle(record)  # type: ignore[misc]  # of the handler's own class

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)  # type: ignore[misc]  # as above
        except OSError:
            # The file cannot be opened here, which is no error of the task's.
            self.handleError(record)  # type: ignore[attr-defined]  # as above


def _is_same(carried: Any, other: Any) -> bool:
    """Return whether another handler of a logger does the same as a carried one."""
    kind: Any = type(carried).__bases__[1]
    if kind is not type(other) or len(other.filters) != len(carried.filters):
        return False
    if other.level != carried.level:
        return False
    if isinstance(other, logging.FileHandler):
        return bool(other.baseFilename == carried.baseFilename)
    stream = getattr(other, "stream", None)
    return stream is not None and stream is getattr(carried, "stream", None)


def _handler(data: bytes, target: Any, logger: logging.Logger) -> Any:
    try:
        kind, state = unpacked(data)
        handler = kind.__new__(type(kind.__name__, (_Carried, kind), {}))
        vars(handler).update(state, _pool_logger=logger)
        if type(target) is str:
            if target:
                handler.stream = getattr(sys, target)
        else:
            path, encoding, errors = target
            handler.stream = open(path, "a", encoding=encoding, errors=errors)  # stays open
        handler.createLock()
    except Exception:
        return None  # its module cannot be imported here, for example; the others are made
    return handler


SETTINGS = {"logging": Setting("logging", _read, _write, _needs)}
