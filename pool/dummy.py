"""Answer to ``multiprocessing.dummy``: the same interface on threads, all of it the standard's."""

from __future__ import annotations

import multiprocessing.dummy as _standard
from multiprocessing.dummy import *  # noqa: F403 - the module is defined as all of the other one

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = list(_standard.__all__)


def __getattr__(name: str) -> Any:
    return getattr(_standard, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_standard)})
