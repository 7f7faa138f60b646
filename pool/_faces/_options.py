"""The keyword arguments that every method of `Pool` takes beyond the standard's."""

from __future__ import annotations

from _operator import index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypedDict

    from pool._faces._progress import ProgressEvent

    class Extra(TypedDict, total=False):
        """The keyword arguments, for type checkers and editors; see `Options`."""

        timeout: float | None
        retries: int
        return_exceptions: bool
        progress: bool | Callable[[ProgressEvent], object] | None
        seed: Any


NAMES = ("timeout", "retries", "return_exceptions", "progress", "seed")


class Options:
    """What a call asked for beyond the standard.

    Parameters
    ----------
    timeout : float, optional
        Seconds for each item; the worker that exceeds it is replaced.
    retries : int
        How often an item may be run again after an exception, a timeout or the death of
        its worker.
    return_exceptions : bool
        Give exceptions in place of values instead of raising the first one.
    progress : bool or callable
    seed : int, SeedSequence or None
    """

    __slots__ = NAMES

    def __init__(
        self,
        timeout: float | None = None,
        retries: int = 0,
        return_exceptions: bool = False,
        progress: bool | Callable[[ProgressEvent], object] | None = None,
        seed: Any = None,
    ) -> None:
        try:
            positive = timeout is None or timeout > 0
        except TypeError:
            raise TypeError(f"timeout must be a number of seconds, not {timeout!r}") from None
        if not positive:
            raise ValueError(f"timeout must be a positive number of seconds, not {timeout!r}")
        if retries.__class__ is bool or not isinstance(retries, int) or retries < 0:
            raise ValueError(f"retries must be an int of 0 or more, not {retries!r}")
        # Plain floats and bools, not numpy's: they become part of messages.
        self.timeout = None if timeout is None else float(timeout)
        self.retries = retries
        self.return_exceptions = bool(return_exceptions)
        self.progress = progress
        self.seed = seed

    @property
    def single(self) -> bool:
        """Whether items have to be tasks of their own, whatever the chunk size."""
        return self.timeout is not None or self.retries > 0 or self.return_exceptions


#: The options of a call that asks for nothing beyond the standard.
PLAIN = Options()


def options(given: Mapping[str, Any]) -> Options:
    """Return the options that keyword arguments stand for.

    Raises
    ------
    TypeError
        If an argument is not one of `NAMES`.
    """
    if not given:
        return PLAIN
    for name in given:
        if name not in NAMES:
            raise TypeError(
                f"unexpected keyword argument {name!r}{_meant(name)}; beyond the standard's there "
                "are " + ", ".join(NAMES)
            )
    return Options(**given)


def _meant(name: str) -> str:
    """Return a question for an argument that was misspelt; empty if it resembles none."""
    from difflib import get_close_matches

    known = (*NAMES, "chunksize", "callback", "error_callback")
    found = get_close_matches(name, known, 1, 0.75)
    return f"; did you mean {found[0]!r}?" if found and found[0] != name else ""


def count_of(value: Any, name: str, refusal: str) -> int:
    """Return an argument that has to be an integer of 1 or more, as an int.

    Parameters
    ----------
    value : int
        Or another integer, such as numpy's: those are not what messages are made of.
    name : str
        The argument, for the message about what is no integer.
    refusal : str
        The message about what is less than 1; the value is added to it.

    Raises
    ------
    TypeError, ValueError
    """
    try:
        if value < 1:
            raise ValueError(f"{refusal}, not {value!r}")
        return index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, not {value!r}") from None


def name_of(function: object) -> str:
    """Return how error messages call a function; never raises."""
    try:
        name = getattr(function, "__qualname__", None)
        if name is None:
            inner = getattr(function, "func", None)  # a partial
            return name_of(inner) if inner is not None else type(function).__qualname__
        module = getattr(function, "__module__", None)
        return str(name) if module in (None, "__main__", "builtins") else f"{module}.{name}"
    except Exception:
        # The class's own `__getattr__` raised something other than AttributeError, or has given
        # objects that cannot be shown.
        return type(function).__qualname__


class Label:
    """Name items of one call: ``item 17 of map(render.tile)``.

    Parameters
    ----------
    method : str
    function : callable
    """

    __slots__ = ("_function", "_method")

    def __init__(self, method: str, function: object) -> None:
        self._method = method
        self._function = function

    def __call__(self, first: int, last: int) -> str:
        """Name items first..last."""
        call = str(self)
        if self._method.startswith("apply"):
            return call
        if first == last:
            return f"item {first} of {call}"
        return f"items {first} to {last} of {call}"

    def item(self, index: int) -> str:
        """Name one item of the input."""
        return self(index, index)

    def __reduce__(self) -> tuple[Any, ...]:
        # It names the function, and does not bring it along.
        return _label, (self._method, name_of(self._function))

    def __str__(self) -> str:
        return f"{self._method}({name_of(self._function)})"


class _Name:
    """Stands for a function with this name, where the function itself must not be kept alive."""

    __slots__ = ("__qualname__",)
    __module__ = "builtins"

    def __init__(self, name: str) -> None:
        self.__qualname__ = name


def _label(method: str, name: str) -> Label:
    return Label(method, _Name(name))


def stream_label(function: object) -> Label:
    """Return a label for many `apply_async`; it does not hold the function and may live long."""
    return _label("apply_async", name_of(function))
