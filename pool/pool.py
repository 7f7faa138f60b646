"""Answer to ``multiprocessing.pool``: our Pool and its results, and all else from the standard."""

from __future__ import annotations

import multiprocessing.pool as _standard
from multiprocessing.pool import ThreadPool

from ._faces._iterators import IMapIterator as IMapIterator
from ._faces._iterators import IMapUnorderedIterator as IMapUnorderedIterator
from ._faces._pool import Pool
from ._faces._results import AsyncResult
from ._faces._results import MapResult as MapResult

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What a star import of the standard module gives; the other names here come along by attribute.
__all__ = ["Pool", "ThreadPool"]

# An alias in the standard module too.
ApplyResult = AsyncResult


def __getattr__(name: str) -> Any:
    return getattr(_standard, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_standard)})
