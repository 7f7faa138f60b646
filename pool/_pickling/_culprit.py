"""Find what exactly cannot be sent, once it is clear that something cannot.

The parts of the object are tried one by one, then the parts of the first that fails, and
so on. That is slow, but is done only for an error message.
"""

from __future__ import annotations

import functools
from types import (
    AsyncGeneratorType,
    CoroutineType,
    FunctionType,
    GeneratorType,
    MethodType,
    ModuleType,
)

from ._class_dicts import NAME
from ._encoding import REFUSALS, CannotSend, attempt, encode_with
from ._names import global_names
from ._newer import FROZEN_DICT
from ._origins import LruType, is_named, scope_of
from ._reducers import Unpicklable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

_DEEPEST = 64

_CONTAINERS = (list, tuple, set, frozenset, dict, FROZEN_DICT)

REMEDY = "leave it out in __getstate__, make it in the initializer, or send what it is made from"
#: The same for what a task has returned.
REMEDY_UP = "leave it out in __getstate__, or return what it is made from"

#: For locks and queues of multiprocessing. One made by the initializer would be another one in
#: each worker.
_REMEDY_SHARED = "give it to the pool in initargs, or have the task use it as a global"
#: What calling a function gives that was written with `async` or `yield`.
_ASYNC = "wrap the async function in a plain one that calls asyncio.run"
_REMEDIES: dict[type, str] = {
    AsyncGeneratorType: _ASYNC,
    CoroutineType: _ASYNC,
    GeneratorType: "make a list of what it yields",
}


def explain(
    obj: Any, refusal: BaseException, up: bool, known: Sequence[tuple[str, Any]] = ()
) -> CannotSend:
    """Return an error that names the path from `obj` to what cannot be sent.

    Parameters
    ----------
    obj : object
    refusal : exception
        What pickling `obj` raised; used where the search finds nothing better.
    up : bool
        Whether `obj` was to be sent to the parent.
    known : sequence of (str, object)
        The path, if it is known: names and objects, beginning with `obj`.
    """
    steps = [*known] or [("", obj)]
    reason = str(refusal)
    try:
        found = str(refusal_of(steps[-1][1], up) or "") if known else _search(steps, up)
        reason = found or reason
    except Exception:
        # An object that fails in yet another way when looked at: the path ends here.
        pass
    culprit = steps[-1][1]
    remedy = _REMEDIES.get(type(culprit), REMEDY_UP if up else REMEDY)
    if "through inheritance" in reason and not up:
        remedy = _REMEDY_SHARED
    return CannotSend(_path(steps), type(culprit).__qualname__, f"{reason} ({remedy})")


def culprit_of(obj: Any) -> tuple[Any, Any]:
    """Return the part of an object that cannot be sent, and what holds it; None if it is `obj`."""
    steps = [("", obj)]
    try:
        _search(steps, up=False)
    except Exception:
        pass  # as above: the path ends here
    return steps[-1][1], steps[-2][1] if len(steps) > 1 else None


def _search(steps: list[tuple[str, Any]], up: bool) -> str:
    """Append the steps that lead to the culprit; return the message of its error."""
    reason = ""
    held = []  # keeps parts that were made just now alive, so that their ids are not reused
    seen = {id(steps[-1][1])}
    while len(steps) < _DEEPEST:
        for name, part in parts_of(steps[-1][1]):
            held.append(part)
            if id(part) in seen:
                continue
            refusal = refusal_of(part, up)
            if refusal is not None:
                reason = str(refusal)
                is_found = isinstance(refusal, Unpicklable) and refusal.kind is type(part)
                refusal = None  # its traceback holds this frame, and the callers': a cycle
                seen.add(id(part))
                steps.append((name, part))
                if is_found:
                    return reason
                break
        else:
            return reason
    return reason


def refusal_of(obj: Any, up: bool) -> BaseException | None:
    """Return what pickling an object raises, whichever pickler tries; None if one can."""
    try:
        attempt(lambda pickler_class: encode_with(pickler_class, obj, up))
    except REFUSALS as error:
        return error
    return None


def _is(obj: Any, *kinds: type) -> bool:
    """Return whether the type is one of these; unlike isinstance, without asking `obj`."""
    return issubclass(type(obj), kinds)


def _path(steps: list[tuple[str, Any]]) -> str:
    """Return the path in the program's words.

    It begins at the first object that is not a mere container. The caller names the argument
    that contains this object.
    """
    first = next((index for index, (_, obj) in enumerate(steps) if not _is(obj, *_CONTAINERS)), 0)
    if first == len(steps) - 1 and first:
        # Nothing but containers on the way: then they are the path.
        return "".join(name for name, _ in steps) + f": {_label(steps[-1][1])}"
    path = _label(steps[first][1])
    for name, _ in steps[first + 1 :]:
        path += name if name.startswith("[") or not name else f".{name}"
    return path


def _label(obj: Any) -> str:
    if _is(obj, MethodType):
        obj = obj.__self__
    if _is(obj, FunctionType, type):
        return str(obj.__qualname__)
    if _is(obj, ModuleType):
        return str(obj.__name__)
    return type(obj).__qualname__


def parts_of(obj: Any) -> Iterator[tuple[str, Any]]:
    """Yield name and value of everything that is pickled for `obj`."""
    if _is(obj, dict, FROZEN_DICT):
        for key, value in list(obj.items()):
            yield f"[{key!r}]", value
            yield f"[key {key!r}]", key
    elif type(obj) in _CONTAINERS:
        yield from ((f"[{index}]", item) for index, item in enumerate(obj))
    elif type(obj) is FunctionType:
        yield from _parts_of_function(obj)
    elif type(obj) is MethodType:
        yield "", obj.__self__
        yield "__func__", obj.__func__
    elif type(obj) is LruType:
        yield "__wrapped__", obj.__wrapped__
    elif _is(obj, functools.partial):
        yield "func", obj.func
        yield from ((f"args[{index}]", value) for index, value in enumerate(obj.args))
        yield from ((f"keywords[{name!r}]", value) for name, value in obj.keywords.items())
    elif _is(obj, type):
        if not is_named(obj):
            yield from list(vars(obj).items())
    elif _is(obj, classmethod, staticmethod):
        yield "__func__", obj.__func__
    elif _is(obj, property):
        yield from (("fget", obj.fget), ("fset", obj.fset), ("fdel", obj.fdel))
    elif not _is(obj, ModuleType):
        yield from _parts_of_instance(obj)


def _parts_of_function(func: FunctionType) -> Iterator[tuple[str, Any]]:
    if is_named(func):
        return
    for name, cell in zip(func.__code__.co_freevars, func.__closure__ or (), strict=False):
        if name == NAME:
            continue  # as said there, it is no part of the function
        try:
            yield f"<closure {name}>", cell.cell_contents
        except ValueError:  # not bound yet
            continue
    scope = scope_of(func.__globals__)
    if scope is None or not scope.importable:
        for name in global_names(func.__code__):
            if name in func.__globals__:
                yield f"<global {name}>", func.__globals__[name]
    for value in func.__defaults__ or ():
        yield "<default>", value
    yield from ((f"<default {name}>", value) for name, value in (func.__kwdefaults__ or {}).items())
    yield from func.__dict__.items()


def _parts_of_instance(obj: Any) -> Iterator[tuple[str, Any]]:
    """Yield what ``__reduce_ex__`` gives, attributes before the rest."""
    reduced = obj.__reduce_ex__(5)
    if not isinstance(reduced, tuple):
        return
    _, arguments, *rest = reduced
    state = rest[0] if rest else None
    slots = None
    if isinstance(state, tuple) and len(state) == 2:
        state, slots = state
    for attributes in (state, slots):
        if isinstance(attributes, dict):
            yield from ((str(name), value) for name, value in attributes.items())
        elif attributes is not None:
            yield "<state>", attributes
    yield from ((f"<argument {index}>", value) for index, value in enumerate(arguments))
    for items in rest[1:3]:
        if items is not None:
            yield from ((f"[{index}]", item) for index, item in enumerate(items))
