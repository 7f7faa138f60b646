"""Configuration of structlog: processors, classes of loggers, where they write to."""

from __future__ import annotations

from ._setting import Setting, packed, unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _read(module: Any) -> bytes | None:
    # As a whole: a processor may be the object that another one refers to. If a part cannot be
    # pickled, tasks have structlog's defaults, as they would without this.
    return packed(module.get_config()) if module.is_configured() else None


def _write(module: Any, value: bytes) -> None:
    module.configure(**unpacked(value))


SETTINGS = {"structlog": Setting("structlog", _read, _write)}
