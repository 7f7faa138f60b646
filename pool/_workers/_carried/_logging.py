"""Levels and handlers of loggers, so that tasks log as the program does."""

from __future__ import annotations

import copy
import logging
import os
import sys
from logging import handlers as _handlers

from ._setting import Setting, packed, unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    # (pickled, which standard stream it writes to)
    _Handler = tuple[bytes, str]
    # (name, level, propagate, disabled, numbers of handlers, filters)
    _Logger = tuple[str, int, bool, bool, list[int], bytes | None]

#: What these hold belongs to this process: a connection, a queue that somebody reads here,
#: records that wait.
_LOCAL = (_handlers.SysLogHandler, _handlers.QueueHandler, _handlers.MemoryHandler)

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


class _Reading:
    """Collects the handlers, each of them once, though several loggers may have it."""

    def __init__(self) -> None:
        self.handlers: list[_Handler] = []
        self.needs: set[str] = set()
        self._numbers: dict[int, int] = {}

    def logger(self, name: str, logger: logging.Logger) -> _Logger | None:
        numbers = []
        if not _configures_itself(name):
            for handler in logger.handlers:
                number = self._number(handler)
                if number is not None:
                    numbers.append(number)
        usual = logging.WARNING if logger is logging.root else logging.NOTSET
        if (
            logger.level == usual
            and logger.propagate
            and not (logger.disabled or numbers or logger.filters)
        ):
            return None
        filters = packed(logger.filters) if logger.filters else None
        return name, logger.level, logger.propagate, logger.disabled, numbers, filters

    def _number(self, handler: logging.Handler) -> int | None:
        number = self._numbers.get(id(handler))
        if number is None:
            carried = _pack(handler)
            if carried is None:
                return None
            number = self._numbers[id(handler)] = len(self.handlers)
            self.handlers.append(carried)
            formatter = handler.formatter
            parts = (handler, formatter, *handler.filters)
            self.needs.update(type(part).__module__ for part in parts if part is not None)
            if formatter is not None and (
                type(formatter) is not logging.Formatter or "processName" in str(formatter._fmt)
            ):
                self.needs.add("multiprocessing")  # without it, records have "MainProcess"
        return number


def _configures_itself(name: str) -> bool:
    """Return whether a logger is named after a module, which will be imported in the worker too.

    Handlers that it adds there would be added twice.
    """
    return name.partition(".")[0] in sys.modules


def _pack(handler: logging.Handler) -> _Handler | None:
    """Return what a worker needs to make the same handler, or None for one that stays here."""
    if isinstance(handler, (logging.NullHandler, *_LOCAL)):
        return None
    twin: Any = copy.copy(handler)
    twin.lock = None
    name = ""
    if isinstance(handler, logging.FileHandler):
        if handler.baseFilename == os.devnull:
            return None
        _append(handler)
        # It opens the file with its first record.
        twin.stream = None
        twin.mode = handler.mode.replace("w", "a").replace("x", "a")
    elif hasattr(handler, "stream"):
        name = _stream_name(handler.stream)
        if not name:
            return None
        twin.stream = None
    if getattr(handler, "sock", None) is not None:
        twin.sock = None  # it connects with its first record
    data = packed(twin)
    return None if data is None else (data, name)


def _stream_name(stream: object) -> str:
    for name in ("stdout", "stderr", "__stdout__", "__stderr__"):
        if stream is getattr(sys, name):
            return name
    return ""


def _append(handler: logging.FileHandler) -> None:
    """Make what this process writes go to the end of the file, wherever that is by then.

    A forked child would share the position in it. Workers open it again, to append; what is
    written here at a position of its own would overwrite their records.
    """
    stream = handler.stream
    if stream is not None and "a" not in handler.mode:
        import fcntl

        flags = fcntl.fcntl(stream.fileno(), fcntl.F_GETFL)
        fcntl.fcntl(stream.fileno(), fcntl.F_SETFL, flags | os.O_APPEND)


def _read(logging: Any) -> Any:
    reading = _Reading()
    loggers = [("", logging.root), *logging.root.manager.loggerDict.items()]
    found = [
        reading.logger(name, logger)
        for name, logger in loggers
        if not isinstance(logger, logging.PlaceHolder)
    ]
    changed = [entry for entry in found if entry is not None]
    levels = logging.getLevelNamesMapping()
    names = [] if levels == _FRESH_NAMES else list(levels.items())
    disabled = logging.root.manager.disable
    captures = getattr(sys.modules.get("warnings"), "showwarning", None)
    captured = getattr(captures, "__module__", "") == "logging"
    if not (changed or names or disabled or captured):
        return None
    needs = sorted(reading.needs - {"__main__"})
    return changed, reading.handlers, names, disabled, captured, needs


def _write(logging: Any, value: tuple[Any, ...]) -> None:
    loggers, packed_handlers, names, disabled, captured, needs = value
    for name in needs:
        __import__(name)
    for name, level in names:
        logging.addLevelName(level, name)
    handlers = [_handler(*entry) for entry in packed_handlers]
    for name, level, propagate, off, numbers, filters in loggers:
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.propagate = propagate
        logger.disabled = off
        for number in numbers:
            logger.addHandler(handlers[number])
        for accept in () if filters is None else unpacked(filters):
            logger.addFilter(accept)
    logging.disable(disabled)
    if captured:
        logging.captureWarnings(True)


def _handler(data: bytes, stream: str) -> Any:
    handler = unpacked(data)
    handler.createLock()
    if stream:
        handler.stream = getattr(sys, stream)
    return handler


def _needs(value: tuple[Any, ...]) -> Iterable[str]:
    needs: list[str] = value[-1]
    return needs


SETTINGS = {"logging": Setting("logging", _read, _write, _needs)}
