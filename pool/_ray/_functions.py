"""Functions that run as tasks."""

from __future__ import annotations

import functools

from pool._objects._codes import Code
from pool._objects._home import current
from pool._ray import _kinds
from pool._ray._generators import as_returned
from pool._ray._options import task_options
from pool._ray._other_ways import NoGraphs, OtherWays
from pool._ray._signatures import misfit, signature_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class RemoteFunction(OtherWays):
    """A function decorated with ``remote``: ``f.remote(...)`` runs it in a worker.

    Parameters
    ----------
    function : callable
    given : dict
        Options, as ``remote(...)`` was given them.
    """

    __qualname__: str

    def __init__(self, function: Callable[..., Any], given: dict[str, Any]) -> None:
        self._function = function
        self._code = Code(function)
        self._given = given
        if _kinds.yields(function) and given.get("num_returns") is None:
            self._given = {**given, "num_returns": "streaming"}
        self._options = task_options(self._given, self._code.title)
        self._signature = signature_of(function)
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            f"remote function {self._code.title!r} cannot be called directly; "
            f"use {self._code.title}.remote(...), or the function itself as "
            f"{self._code.title}._function"
        )

    def remote(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the function in a worker; return the reference to its value at once.

        Parameters
        ----------
        *args, **kwargs
            Copied before this returns. An `ObjectRef` among them arrives as its value; one
            deeper inside an argument stays a reference.

        Returns
        -------
        ObjectRef, list of ObjectRef, ObjectRefGenerator or None
            By ``num_returns``.

        Raises
        ------
        TypeError
            If the function does not take these arguments.
        """
        return self._submit(args, kwargs, self._options)

    def _submit(self, args: Any, kwargs: Any, options: Any) -> Any:
        signature = self._signature
        if kwargs or not signature.least <= len(args) <= signature.most:
            self._check(args, kwargs)
        promised = current().submit(self._code, args, kwargs, options)
        return as_returned(promised, options.returns)

    def _check(self, args: Any, kwargs: Any) -> None:
        if self._signature.problem(args, kwargs):
            # Read anew: its code may have been replaced, by a notebook that reloads modules.
            self._signature = signature_of(self._function)
            problem = self._signature.problem(args, kwargs)
            if problem:
                raise misfit(self._code.title, problem)

    def options(self, **given: Any) -> _Configured:
        """Return the same function with other options, for the next call.

        Raises
        ------
        ValueError
            It names the option that is unknown or has no such value.
        """
        if given.get("num_returns", 0) is None:
            del given["num_returns"]  # None: that of the function
        return _Configured(self, task_options({**self._given, **given}, self._code.title))

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteFunction, (self._function, self._given)


class _Configured(NoGraphs):
    """A remote function with options for one call."""

    def __init__(self, function: RemoteFunction, options: Any) -> None:
        self._function = function
        self._options = options

    def remote(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the function in a worker; as `RemoteFunction.remote`."""
        return self._function._submit(args, kwargs, self._options)
