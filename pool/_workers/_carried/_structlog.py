"""What structlog was given: processors, classes of loggers, where they write to; its context."""

from __future__ import annotations

from ._setting import Setting, packed, unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _read(module: Any) -> tuple[bytes | None, list[bytes]] | None:
    # As a whole: a processor may be the object that another one refers to. If a part cannot be
    # pickled, tasks have structlog's defaults, as they would without this.
    config = packed(module.get_config()) if module.is_configured() else None
    bound = module.contextvars.get_contextvars().items()
    context = [entry for entry in map(packed, bound) if entry]
    return (config, context) if config or context else None


def _write(module: Any, value: tuple[bytes | None, list[bytes]]) -> None:
    config, context = value
    if config is not None:
        module.configure(**unpacked(config))
    module.contextvars.bind_contextvars(**dict(map(unpacked, context)))


SETTINGS = {"structlog": Setting("structlog", _read, _write)}
