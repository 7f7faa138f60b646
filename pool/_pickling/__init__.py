"""What can be sent, and how it arrives: everything between objects and bytes."""

from __future__ import annotations

import _pickle
import sys

from store._codec import Encoded, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

ATOMS: frozenset[type] = frozenset({int, float, str, bytes, bool, type(None), complex})


class CannotSend(_pickle.PicklingError, TypeError):
    """Say what cannot be sent."""

    path = ""
    culprit_type = ""


class FunctionPayload:
    """A function, encoded, and whether a worker may load it once for all tasks."""

    __slots__ = ("encoded", "stateless")

    def __init__(self, encoded: Encoded, stateless: bool) -> None:
        self.encoded = encoded
        self.stateless = stateless


def dumps_to_worker(obj: object) -> Encoded:
    """Encode `obj` for a worker."""
    if type(obj) in ATOMS:
        return Encoded(_pickle.dumps(obj, 5), [])
    import cloudpickle

    try:
        return encode(obj, cloudpickle.Pickler)
    except Exception as error:
        raise CannotSend(str(error)) from error


dumps_to_parent = dumps_to_worker


def dumps_function(func: Callable[..., Any]) -> FunctionPayload:
    """Encode `func` for workers."""
    return FunctionPayload(dumps_to_worker(func), False)


def loads(data: Any, buffers: Iterable[Any] = ()) -> Any:
    """Rebuild what was encoded."""
    return _pickle.loads(data, buffers=buffers)


def install_main(file: str | None) -> None:
    """Give this worker an empty main module."""
    module = type(sys)("__main__")
    if file is not None:
        module.__file__ = file
    sys.modules["__main__"] = module


def register_reducer(kind: type, function: Callable[[Any], Any]) -> None:
    """Let `function` reduce objects of exactly this type."""
    import copyreg

    copyreg.pickle(kind, function)


def dumps_exception(error: BaseException) -> Encoded:
    """Encode an exception that a task raised, with its traceback."""
    from multiprocessing.pool import ExceptionWithTraceback

    return dumps_to_worker(ExceptionWithTraceback(error, error.__traceback__))
