"""Check where a function is called, before anything is sent, whether arguments fit it.

A signature is kept as plain values, since handles carry it to processes that do not have the class.
`inspect`, which does the same, takes 10 ms to import. Of a decorated function the signature of the
wrapper counts, not that of the wrapped function: no call is refused that would work.
"""

from __future__ import annotations

from types import FunctionType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_VARARGS, _VARKEYWORDS = 0x04, 0x08  # of `code.co_flags`

#: More arguments than any call has.
_MANY = 1 << 30


class Signature:
    """The arguments that a function takes.

    Parameters
    ----------
    names : sequence of str
        Of positional arguments.
    only : int
        The number of these, from the first on, that can be given by position only.
    required : int
        The number of these, from the first on, that have to be given.
    keywords : mapping
        By the name of each argument that can be given by keyword only: whether it is required.
    any_number, any_name : bool
        Whether it takes ``*args``, and ``**kwargs``.

    Attributes
    ----------
    least, most : int
        A call without keywords fits if the number of its arguments is from `least` to `most`.
    """

    __slots__ = ("_any", "_extra", "_keywords", "_names", "_only", "_required", "least", "most")

    def __init__(
        self,
        names: Sequence[str],
        only: int,
        required: int,
        keywords: Mapping[str, bool],
        any_number: bool,
        any_name: bool,
    ) -> None:
        self._names = names
        self._only = only
        self._required = required
        self._keywords = keywords
        self._any = any_number
        self._extra = any_name
        self.least = _MANY if any(keywords.values()) else required
        self.most = _MANY if any_number else len(names)

    def __reduce__(self) -> tuple[Any, ...]:
        return Signature, (
            self._names, self._only, self._required, self._keywords, self._any, self._extra
        )  # fmt: skip

    def problem(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """Return why arguments do not fit, in the words of `inspect`; "" if they do."""
        names = self._names
        if len(args) > len(names) and not self._any:
            return "too many positional arguments"
        by_name = names[self._only :]
        for name in kwargs:
            if name in by_name:
                if names.index(name) < len(args):
                    return f"multiple values for argument {name!r}"
            elif name in names and not self._extra:
                return f"{name!r} parameter is positional only, but was passed as a keyword"
        for index, name in enumerate(names[: self._required]):
            if index >= len(args) and (index < self._only or name not in kwargs):
                return f"missing a required argument: {name!r}"
        for name, required in self._keywords.items():
            if required and name not in kwargs:
                return f"missing a required argument: {name!r}"
        for name in () if self._extra else kwargs:
            if name not in by_name and name not in self._keywords:
                return f"got an unexpected keyword argument {name!r}"
        return ""


#: The signature of callables of which nothing is known: it fits all arguments.
ANYTHING = Signature((), 0, 0, {}, True, True)
#: That of callables without parameters.
NOTHING = Signature((), 0, 0, {}, False, False)


def signature_of(function: Any, bound: int = 0) -> Signature:
    """Return the signature of a function.

    Parameters
    ----------
    function : callable
    bound : int
        1 if its first argument is the instance or the class, 0 otherwise.

    Returns
    -------
    Signature
    """
    if not isinstance(function, FunctionType):
        return ANYTHING
    code = function.__code__
    number = code.co_argcount
    names = code.co_varnames[bound:number]
    keywords = code.co_varnames[number : number + code.co_kwonlyargcount]
    given = function.__kwdefaults__ or {}
    return Signature(
        names,
        max(0, code.co_posonlyargcount - bound),
        max(0, number - bound - len(function.__defaults__ or ())),
        {name: name not in given for name in keywords},
        bool(code.co_flags & _VARARGS),
        bool(code.co_flags & _VARKEYWORDS),
    )


def signature_of_method(definition: Any) -> Signature:
    """Return the signature of a method, from the attribute of its class."""
    if isinstance(definition, staticmethod):
        return signature_of(definition.__func__)
    if isinstance(definition, classmethod):
        return signature_of(definition.__func__, 1)
    return signature_of(definition, 1)


def signature_of_class(kind: Any) -> Signature:
    """Return the signature by which a class is called."""
    if type(kind).__call__ is not type.__call__:
        return ANYTHING
    if kind.__init__ is not object.__init__:
        return signature_of(kind.__init__, 1)
    if kind.__new__ is not object.__new__:
        return signature_of(kind.__new__, 1)
    return NOTHING


def misfit(title: str, problem: str) -> TypeError:
    """Return the error that is raised for arguments that do not fit."""
    return TypeError(f"{title}(): {problem}")
