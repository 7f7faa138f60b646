"""Exceptions on their way to the parent: some exception always arrives, as close as possible.

An exception whose ``__init__`` is the program's own is rebuilt without calling it. Pickle
would call it with ``args``, which need not be the arguments it takes. If something in an
exception cannot be sent, that attribute is replaced by its repr; if its class cannot be sent, the
whole exception is replaced by a description.
"""

from __future__ import annotations

from store._codec import opened

from ._encoding import dumps_to_parent, loads
from ._slots import HEAPTYPE, slot_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from store._codec import Encoded

    Dumps = Callable[[object], Encoded]

#: Methods by which a class defines how it is pickled.
_OWN_WAYS = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs__")


def dumps_exception(error: BaseException, dumps: Dumps = dumps_to_parent) -> Encoded:
    """Pickle an exception that a task raised. Never raises.

    Unpickled, it is the exception, whose ``__cause__`` is a
    `multiprocessing.pool.RemoteTraceback` with the text of the traceback.

    Parameters
    ----------
    error : BaseException
    dumps : callable
        `dumps_to_worker`, if the pickle may go on to another worker.

    Returns
    -------
    Encoded
    """
    text = _safely(_format, error)
    try:
        return dumps(_Raised(_best(error, dumps), text))
    except BaseException:
        # `_best` could send it a moment ago: it pickles differently each time.
        described = _Described(_safely(_name, error), _safely(str, error))
        return dumps(_Raised(described, text))


def _best(error: BaseException, dumps: Dumps) -> Any:
    """Return an object that is pickled for `error`, with as much of it as can be sent."""
    for way in (_Faithful, _Rebuilt, _Reduced):
        candidate = way(error, dumps)
        try:
            if type(_round_trip(candidate, dumps)) is type(error):
                return candidate
        except BaseException:
            # Whatever the exception raised: the next way relies on fewer of its methods.
            continue
    return _Described(_safely(_name, error), _safely(str, error))


def _round_trip(obj: Any, dumps: Dumps) -> Any:
    encoded = dumps(obj)
    return loads(encoded.data, [bytearray(opened(buffer)) for buffer in encoded.buffers])


def _format(error: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


def _name(error: BaseException) -> str:
    kind = type(error)
    return f"{kind.__module__}.{kind.__qualname__}"


def _safely(function: Callable[[Any], str], obj: Any) -> str:
    try:
        return str.__str__(function(obj))
    except BaseException as error:
        return f"<{function.__name__.strip('_')} failed with {type(error).__name__}>"


# ---------------------------------------------------------------- what is pickled


def reduce_exception(error: BaseException) -> Any:
    """Reduce an exception whose own pickling would call an ``__init__`` of the program's.

    Used for every exception that is sent, also among results and arguments.
    """
    if _has_own_init(error) and not _pickles_itself(error):
        return _reduce_parts(error)
    return NotImplemented


class _Raised:
    """An exception with the text of its traceback."""

    def __init__(self, error: Any, text: str) -> None:
        self._parts = (error, text)

    def __reduce__(self) -> tuple[Any, ...]:
        return with_cause, self._parts


class _Way:
    """One way in which an exception can be pickled."""

    def __init__(self, error: BaseException, dumps: Dumps) -> None:
        self._error = error
        self._dumps = dumps

    def _inner(self, error: BaseException) -> Any:
        """Return the object that is pickled for one exception of a group."""
        return type(self)(error, self._dumps)


class _Faithful(_Way):
    """An exception pickled by its own methods, or by `reduce_exception`."""

    def __reduce__(self) -> Any:
        error = self._error
        if _is_group(error):
            return _reduce_group(error, self._inner)
        if _pickles_itself(error):
            reduced = error.__reduce_ex__(5)
            if isinstance(reduced, tuple):
                return reduced
        return _keep, (error,)


class _Rebuilt(_Way):
    """An exception pickled part by part, whatever methods for pickling it has."""

    def __reduce__(self) -> Any:
        if _is_group(self._error):
            return _reduce_group(self._error, self._inner)
        return _reduce_parts(self._error)


class _Reduced(_Way):
    """An exception pickled part by part, with the repr of each part that cannot be sent."""

    def _inner(self, error: BaseException) -> Any:
        return _best(error, self._dumps)

    def __reduce__(self) -> Any:
        if _is_group(self._error):
            return _reduce_group(self._error, self._inner)
        rebuild, (kind, args), state, *rest = _reduce_parts(self._error)
        lost: list[str] = []
        args = tuple(self._sendable(f"args[{n}]", value, lost) for n, value in enumerate(args))
        state = {name: self._sendable(name, value, lost) for name, value in state.items()}
        if lost:
            copy = rebuild(kind, args)
            restore(copy, state)
            try:
                str(copy)
            except BaseException:
                # It asks a part that is now a repr, as patsy's errors ask their origin.
                lost.insert(0, _safely(str, self._error))
            notes = state.get("__notes__")
            state["__notes__"] = [*(notes if isinstance(notes, list) else ()), *lost]
        return (rebuild, (kind, args), state, *rest)

    def _sendable(self, name: str, value: Any, lost: list[str]) -> Any:
        """Return `value`, or its description if it cannot be sent."""
        try:
            _round_trip(value, self._dumps)
        except BaseException as error:
            described = _safely(repr, value)
            lost.append(
                f"{name} came as its repr, {described}, for it cannot be sent: {_reason(error)}"
            )
            return described
        return value


class _Described:
    """The name and text of an exception whose class cannot be sent."""

    def __init__(self, name: str, text: str) -> None:
        self._parts = (name, text)

    def __reduce__(self) -> tuple[Any, ...]:
        return describe, self._parts


def _is_group(error: BaseException) -> bool:
    return isinstance(error, BaseExceptionGroup) and not _pickles_itself(error)


def _pickles_itself(error: BaseException) -> bool:
    """Return whether a class that is not built in defines how the exception is pickled."""
    return any(name in vars(kind) for kind in _own_classes(error) for name in _OWN_WAYS)


def _has_own_init(error: BaseException) -> bool:
    return any(
        name in vars(kind) for kind in _own_classes(error) for name in ("__init__", "__new__")
    )


def _own_classes(error: BaseException) -> list[type]:
    return [kind for kind in type(error).__mro__ if kind.__flags__ & HEAPTYPE]


def _reduce_parts(error: BaseException) -> tuple[Any, ...]:
    state = {**error.__dict__, **slot_values(error), **_native_state(error)}
    return rebuild, (type(error), error.args), state, None, None, restore


#: Attributes of built-in exceptions that are neither among their arguments nor in their `__dict__`.
_NATIVE = ((OSError, ("filename", "filename2")), (ImportError, ("name", "path")))


def _native_state(error: BaseException) -> dict[str, Any]:
    return {
        name: value
        for kind, names in _NATIVE
        if isinstance(error, kind)
        for name in names
        if (value := getattr(error, name, None)) is not None
    }


def _reduce_group(error: Any, way: Callable[[BaseException], Any]) -> tuple[Any, ...]:
    inner = [way(one) for one in error.exceptions]
    arguments = (type(error), (error.message, inner))
    return rebuild, arguments, dict(error.__dict__), None, None, restore


def _reason(error: BaseException) -> str:
    reason = getattr(error, "__cause__", None) or error
    return f"{type(reason).__name__}: {_safely(str, reason)}"


# ---------------------------------------------------------------- arriving


def _keep(error: BaseException) -> BaseException:
    return error


def rebuild(kind: Any, args: tuple[Any, ...]) -> BaseException:
    """Make an exception by its built-in base class, without calling the program's ``__init__``."""
    native = next(base for base in kind.__mro__ if not base.__flags__ & HEAPTYPE)
    error: BaseException = native.__new__(kind, *args)
    native.__init__(error, *args)
    return error


def restore(error: BaseException, state: dict[str, Any]) -> None:
    """Set the attributes of an exception, without a ``__setattr__`` of its class."""
    for name, value in state.items():
        object.__setattr__(error, name, value)


def with_cause(error: BaseException, text: str) -> BaseException:
    """Return `error` with the text of the worker's traceback as its cause."""
    from multiprocessing.pool import RemoteTraceback  # type: ignore[attr-defined]  # missing in typeshed

    # Without a `__setattr__` of its class, which may refuse.
    object.__setattr__(error, "__cause__", RemoteTraceback(f'\n"""\n{text}"""'))
    return error


class _Text(str):
    """A text that is its own repr: `MaybeEncodingError` shows the repr of its arguments."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def describe(name: str, text: str) -> BaseException:
    """Return the error that is raised in place of an exception that could not be sent."""
    from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]  # missing in typeshed

    reason = _Text(f"exceptions of type {name} cannot be sent")
    error: BaseException = MaybeEncodingError(reason, _Text(f"{name}: {text}"))
    return error
