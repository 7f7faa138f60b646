"""Functions, pickled once as long as neither they nor the globals that they use change."""

from __future__ import annotations

import functools
from _weakref import ref
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

from ._captured import Captured
from ._encoding import CannotSend, dumps_to_worker
from ._functions import ATOMS, token_of
from ._kept import Kept
from ._names import global_names
from ._origins import LruType, is_named, scope_of
from ._shared import inherits
from ._versions import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from store._codec import Encoded

    from ._notes import Notes
    from ._preludes import Prelude


class FunctionPayload:
    """A pickled function.

    Attributes
    ----------
    encoded : Encoded
    stateless : bool
        Whether a worker may unpickle it once and use the function for all tasks. Otherwise it has
        to be unpickled for each chunk, since a program can see the difference: an instance that
        counts its calls, a closure with variables.
    inherits : int
        Workers must have inherited all shared memory with lower numbers (see `_shared`).
    captured : Captured or None
        What it holds, if that may be among its arguments, too.
    companions : object
        For the caller of `dumps_function`, which may keep something with the pickle.
    """

    __slots__ = ("__weakref__", "captured", "companions", "encoded", "inherits", "stateless")

    def __init__(self, encoded: Encoded, stateless: bool) -> None:
        self.encoded = encoded
        self.captured: Captured | None = None
        self.companions: Any = ()
        self.inherits = inherits(encoded)
        self.stateless = stateless


class _Record:
    """A kept payload and the values that it depends on."""

    __slots__ = ("_notes", "_prelude", "_watch", "func", "nbytes", "payload")

    def __init__(self, func: Any, payload: FunctionPayload, notes: Notes | None) -> None:
        key = id(func)
        self.func = ref(func, lambda dead: _drop(key, dead))
        self.payload = payload
        encoded = payload.encoded
        self.nbytes = len(encoded.data) + sum(buffer.nbytes for buffer in encoded.buffers)
        self._prelude: Prelude | None = getattr(encoded, "prelude", None)
        if self._prelude is not None:
            self.nbytes = max(self.nbytes, self._prelude.nbytes)
        self._notes = notes
        self._watch = None if notes is None else Watch(notes.values())

    def let_go(self) -> None:
        """Do nothing: the values that it was made of are those of the function."""

    def suits(self, inherited: int | None) -> bool:
        return self._prelude is None or self._prelude.suits(inherited)

    def is_current(self) -> bool:
        if self._prelude is not None and not self._prelude.is_current():
            return False
        if self._watch is None or self._notes is None:
            return True
        try:
            return self._watch.holds(self._notes.values())
        except ReferenceError:
            return False


_records = Kept()


def _drop(key: int, dead: object) -> None:
    record: _Record | None = _records.get(key)
    if record is not None and record.func is dead:
        _records.drop(key, record)


def kept_payload(func: Callable[..., Any], inherited: int | None = None) -> FunctionPayload | None:
    """Return the kept pickle of a function; None if there is none, or it is out of date."""
    record: _Record | None = _records.get(id(func))
    if (
        record is not None
        and record.func() is func
        and record.is_current()
        and record.suits(inherited)
    ):
        return record.payload
    return None


def dumps_function(
    func: Callable[..., Any], inherited: int | None = None, mapped: bool = False
) -> FunctionPayload:
    """Pickle a function for workers.

    Parameters
    ----------
    func : callable
    inherited : int, optional
        As for `dumps_to_worker`.
    mapped : bool
        Whether it is sent apart from its arguments, so that what both hold has to be known.

    Returns
    -------
    FunctionPayload

    Raises
    ------
    CannotSend
        If it cannot be pickled; names the function.
    """
    kept = kept_payload(func, inherited)
    if kept is not None:
        return kept
    try:
        stateless = is_stateless(func)
        met: dict[int, Any] | None = {} if mapped and not stateless else None
        payload = FunctionPayload(dumps_to_worker(func, inherited, met=met), stateless)
    except CannotSend as error:
        name = getattr(func, "__qualname__", type(func).__qualname__)
        raise error.about(f"function {name!r}") from error.__cause__
    keepable, notes = _what_to_watch(func)
    if keepable:
        try:
            _records.put(id(func), _Record(func, payload, notes))
        except TypeError:
            return payload  # not weakly referable: pickled each time
    elif met:
        payload.captured = Captured(func, met)
    return payload


def is_stateless(func: Any) -> bool:
    """Return whether it makes no difference if `func` is unpickled once or for each chunk."""
    kind = type(func)
    if kind is FunctionType or kind is LruType:
        return is_named(func) or token_of(func) is not None or not _closure(func)
    if issubclass(kind, type):
        return True
    if kind is BuiltinFunctionType:
        owner = func.__self__
        return owner is None or isinstance(owner, ModuleType | type) or type(owner) in ATOMS
    if kind is MethodType:
        return issubclass(type(func.__self__), type) and is_stateless(func.__func__)
    if kind is functools.partial:
        given = (*func.args, *func.keywords.values())
        return not func.__dict__ and is_stateless(func.func) and ATOMS.issuperset(map(type, given))
    return kind.__name__ in ("method_descriptor", "wrapper_descriptor")


def _closure(func: Any) -> Any:
    if type(func) is LruType:
        return True  # it has a cache, which starts empty with each unpickling
    return func.__closure__


def _what_to_watch(func: Any) -> tuple[bool, Notes | None]:
    """Return whether the payload may be kept, and what it depends on besides its prelude."""
    kind = type(func)
    if kind is BuiltinFunctionType:
        return is_stateless(func), None
    if issubclass(kind, type) or (
        kind in (FunctionType, LruType) and (is_named(func) or token_of(func) is not None)
    ):
        return True, None
    from ._notes import Notes

    notes = Notes()
    return _is_fixed(func, notes, set()), notes


def _is_fixed(value: Any, notes: Notes, seen: set[int]) -> bool:
    """Return whether all changes of `value` can be seen by `notes`, to which it is added."""
    kind = type(value)
    if kind in ATOMS or issubclass(kind, type) or kind is ModuleType or id(value) in seen:
        return True
    if kind is FunctionType:
        if is_named(value) or token_of(value) is not None:
            return True
        seen.add(id(value))
        notes.add_function(value)
        if scope_of(value.__globals__) is None:
            # These globals are sent along with it, so that a change of them has to be noticed.
            notes.add(_globals_of(value))
        return all(_is_fixed(part, notes, seen) for part in _inside(value))
    if kind is LruType:
        return token_of(value) is not None or is_named(value)
    if kind is BuiltinFunctionType:
        return is_stateless(value)
    if kind is functools.partial:
        if value.__dict__:
            return False
        notes.add(_values_of_partial(value))
        parts = (value.func, *value.args, *value.keywords.values())
        return all(_is_fixed(part, notes, seen) for part in parts)
    if kind is tuple:
        return all(_is_fixed(part, notes, seen) for part in value)
    return False


def _inside(func: FunctionType) -> list[Any]:
    found: list[Any] = [*(func.__defaults__ or ()), *(func.__kwdefaults__ or {}).values()]
    found += func.__dict__.values()
    for cell in func.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # not bound yet
            found.append([])
    if scope_of(func.__globals__) is None:
        found += _globals_of(func)()
    return found


def _globals_of(func: FunctionType) -> Callable[[], list[Any]]:
    reference = ref(func)

    def values() -> list[Any]:
        found = reference()
        if found is None:
            raise ReferenceError
        return [found.__globals__.get(name) for name in global_names(found.__code__)]

    return values


def _values_of_partial(func: functools.partial[Any]) -> Callable[[], list[Any]]:
    reference = ref(func)

    def values() -> list[Any]:
        found = reference()
        if found is None:
            raise ReferenceError
        return [found.func, found.args, *found.keywords.values()]

    return values
