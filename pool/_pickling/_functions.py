"""Functions by value: their code, globals, cells and attributes.

A function is made empty first and filled afterwards, so that functions may refer to
themselves and to each other. Functions that have a cell in common have it in common there too.
Globals are those of the scope (see `_namespaces`), never a copy of them.
"""

from __future__ import annotations

import functools
import marshal
import sys
from types import CellType, FunctionType, ModuleType

from ._homes import is_stateless
from ._identity import (
    adopt,
    attributes,
    entry_for,
    entry_of,
    forgotten,
    introduce,
    outdated,
)
from ._names import global_names, is_open, quotes_calls, submodules
from ._namespaces import namespace
from ._origins import innermost, is_definition, resolve, scope_of, scope_of_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from ._identity import Entry
    from ._origins import Scope
    from ._picklers import BasePickler

#: Attributes of a function that are sent. None, the value of most, is sent only if a new function
#: with that code would have another value.
_PLAIN = ("__defaults__", "__kwdefaults__", "__doc__", "__module__", "__qualname__")

#: Immutable types whose objects refer to no others: pickling and comparing them runs no code of the
#: program's.
ATOMS: frozenset[type] = frozenset({int, float, complex, str, bytes, bool, type(None)})


# ---------------------------------------------------------------- sending


def token_of(obj: Any) -> Entry | None:
    """Return the entry of a function or cached function, if it is to have one.

    Functions that can be found by a name in their module have one. A lambda or a nested function
    is made anew by each message, as pickle does with all objects.
    """
    entry = entry_of(obj)
    if entry is not None:
        return entry
    func = innermost(obj)
    names = getattr(func, "__globals__", None)
    if names is None or scope_of(names) is None:
        return None
    if resolve(names, obj.__qualname__) is obj or _is_known_otherwise(obj, func, names):
        return introduce(obj)
    return None


def _is_known_otherwise(obj: Any, func: Any, names: dict[str, Any]) -> bool:
    """Return whether `obj` is found by another name than its ``__qualname__`` in its globals.

    `functools.wraps` gives a function the name and module of another one. It may be found by the
    name in its own code, or in that module in place of the other function.
    """
    code = getattr(func, "__code__", None)
    if code is None or obj.__qualname__ == code.co_qualname:
        return False
    if resolve(names, code.co_qualname) is obj:
        return True
    module = sys.modules.get(obj.__module__ or "")
    return resolve(getattr(module, "__dict__", {}), obj.__qualname__) is obj


def reduce_function(pickler: BasePickler, func: FunctionType, entry: Entry | None) -> Any:
    """Reduce `func` to its definition.

    Parameters
    ----------
    pickler : BasePickler
    func : function
    entry : Entry or None
        Of the function; None if it has no token.
    """
    code = func.__code__
    scope = scope_of(func.__globals__)
    names = [name for name in global_names(code) if name in func.__globals__]
    values = None
    if scope is None:
        where: Any = pickler.nobodys(func.__globals__)
        values = {name: func.__globals__[name] for name in names}
    else:
        where = scope
        if not scope.importable:
            pickler.require_names(scope, func.__globals__, names_needed(func, pickler.implicit))
        else:
            pickler.require_module(scope.name)
    cells = func.__closure__ or ()
    captives = [(cell, cell.cell_contents) for cell in pickler.unfilled(cells)]
    known: dict[int, _Sentinel] = {}
    if scope is not None and not pickler.inline:
        known = _sentinels(func, [value for _, value in captives], scope, names)
    contents = [(cell, pickler.captured(known.get(id(value), value))) for cell, value in captives]
    if pickler.notes is not None:
        pickler.notes.add_function(func)
    modules = _modules_in(func.__globals__[name] for name in names)
    modules += _modules_in(value for _, value in contents)
    versions, state = _state(pickler, func, entry)
    if known:
        _put_names(state, known)
    missing: tuple[str, ...] = ()
    if pickler.later is not None:
        contents, missing = _postpone(pickler.later, func, state, contents)
    token = None if entry is None else entry.token
    data = marshal.dumps(code)
    return (
        make_function,
        (token, pickler.up, where, data, func.__name__, cells),
        (data, versions, state, contents, values, submodules(code, modules), missing),
        None,
        None,
        fill_function,
    )


def _postpone(
    later: list[Any],
    func: FunctionType,
    state: dict[str, Any],
    contents: list[tuple[CellType, Any]],
) -> tuple[list[tuple[CellType, Any]], tuple[str, ...]]:
    """Take out of the parts of a function what is to come when all definitions are there.

    To unpickle it may run code of the program's: a ``__setstate__`` that makes a lock anew.

    Parameters
    ----------
    later : list
        What has the receiver set it is added to this.
    func : function
    state : dict
        The attributes; some are taken out.
    contents : list
        Cells and what is in them.

    Returns
    -------
    list
        The contents that are left.
    tuple of str
        The attributes that were taken out.
    """
    late = [item for item in contents if not _comes_at_once(item[1])]
    later += [_Call(fill_cell, *item) for item in late]
    if late:
        contents = [item for item in contents if _comes_at_once(item[1])]
    taken = {}
    for name in ("__defaults__", "__kwdefaults__"):
        if not _comes_at_once(state.get(name)):
            taken[name] = state.pop(name)
    attributes = state.get("__dict__", {})
    for name in [name for name, value in attributes.items() if not _comes_at_once(value)]:
        taken[name] = attributes.pop(name)
    if taken:
        later.append(_Call(complete_function, func, taken))
    return contents, tuple(taken)


def _comes_at_once(value: Any) -> bool:
    """Return whether a value is a definition, a module, a number and the like, or has only such."""
    kind = type(value)
    if kind is tuple or kind is list or kind is dict:
        return all(map(_comes_at_once, value.values() if kind is dict else value))
    return kind in ATOMS or is_definition(value) or kind is ModuleType


class _Call:
    """Is pickled as a call."""

    __slots__ = ("_reduced",)

    def __init__(self, function: Callable[..., object], *arguments: Any) -> None:
        self._reduced = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduced


class _Sentinel:
    """Stands for a global that is there to be compared with: the receiver's own is taken."""

    __slots__ = ("_reduced",)

    def __init__(self, scope: Scope, name: str) -> None:
        self._reduced = resolve_name, (scope, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduced


def _sentinels(
    func: FunctionType, captives: list[Any], scope: Scope, names: list[str]
) -> dict[int, _Sentinel]:
    """Return what stands for those defaults and captives that `func` may compare, by ``id``.

    ``def work(x, given=MISSING)`` within another function says ``given is MISSING``.
    """
    defaults = (*(func.__defaults__ or ()), *(func.__kwdefaults__ or {}).values())
    held = {id(value) for value in (*defaults, *captives)}
    found = {}
    for name in names:
        value = func.__globals__[name]
        if id(value) in held and _is_sentinel(value):
            found[id(value)] = _Sentinel(scope, name)
    return found


def _is_sentinel(value: Any) -> bool:
    kind: Any = type(value)
    if value is None or kind.__reduce_ex__ is not object.__reduce_ex__:
        return False  # an array would copy its data
    try:
        return is_stateless(value.__reduce_ex__(5))
    except Exception:  # a module, a function, or what cannot be pickled anyway
        return False


def _put_names(state: dict[str, Any], known: dict[int, _Sentinel]) -> None:
    values = state.get("__defaults__")
    if values:
        state["__defaults__"] = tuple(known.get(id(value), value) for value in values)
    values = state.get("__kwdefaults__")
    if values:
        state["__kwdefaults__"] = {
            name: known.get(id(value), value) for name, value in values.items()
        }


def names_needed(func: FunctionType, implicit: bool) -> Iterable[str]:
    """Return the globals that must come with `func`; if `implicit`, those of `_implicit`, too."""
    names = global_names(func.__code__)
    if not (implicit and (is_open(func.__code__) or quotes_calls(func))):
        return names
    from ._implicit import implicit_names

    return (*names, *implicit_names(func))


def _modules_in(values: Iterable[Any]) -> list[str]:
    return [value.__name__ for value in values if type(value) is ModuleType]


def _state(
    pickler: BasePickler, func: FunctionType, entry: Entry | None
) -> tuple[dict[str, int], dict[str, Any]]:
    """Return the versions of the function's attributes, and those to set on the new function."""
    state: dict[str, Any] = {"__dict__": dict(func.__dict__)} if func.__dict__ else {}
    for name in _PLAIN:
        value = getattr(func, name)
        if value is not None or (name == "__doc__" and _begins_with_text(func)):
            state[name] = value
    if pickler.annotations:
        if getattr(func, "__type_params__", ()):
            state["__type_params__"] = func.__type_params__  # type: ignore[attr-defined]  # since 3.12
        try:
            annotations = func.__annotations__
        except Exception:  # Python 3.14 evaluates them only now, and a name may be missing
            annotations = {}
        if annotations:
            state["__annotations__"] = annotations
    if entry is None:
        return {}, state
    everything = attributes(func)
    versions = {name: entry.versions.observe(everything, name)[0] for name in everything}
    entry.versions.let_go(everything)  # what was deleted is new should it come again
    return versions, state


def _begins_with_text(func: FunctionType) -> bool:
    """Return whether a new function with this code has a docstring."""
    return type(next(iter(func.__code__.co_consts), None)) is str


# ---------------------------------------------------------------- receiving


def make_function(
    token: str | None,
    up: bool,
    names: dict[str, Any],
    code: bytes,
    name: str,
    cells: tuple[CellType, ...],
) -> Any:
    """Return the function of this token, or a new one that is still to be filled."""
    entry = None if token is None else entry_for(token)
    if entry is not None:
        return entry.obj
    func = FunctionType(marshal.loads(code), names, name, None, cells or None)
    if token is not None:
        adopt(token, func, above=not up)
    return func


def fill_function(func: FunctionType, definition: tuple[Any, ...]) -> None:
    """Give a function those parts of its definition that are newer than what it has."""
    code, versions, state, contents, values, modules, missing = definition
    for name in modules:
        _import(name)
    for cell, value in contents:
        cell.cell_contents = value
    if values is not None:
        for name, value in values.items():
            func.__globals__.setdefault(name, value)
    entry = entry_of(func) if versions else None
    if entry is None or not entry.knows_state:
        _set_all(func, state)
    if entry is not None:
        knew = entry.knows_state
        changed = outdated(entry, versions)
        if missing or entry.missing:
            # Those that an earlier message has announced, too: it may have failed on the way.
            entry.missing = {*(entry.missing or ()), *(changed if knew else missing)} & {*missing}
        if knew:
            _set_changed(func, state, [name for name in changed if name not in missing], code)
            for name in forgotten(entry, entry.applied.keys() - versions.keys()):
                func.__dict__.pop(name, None)


def complete_function(func: FunctionType, state: dict[str, Any]) -> None:
    """Set those attributes of a function that come after all definitions."""
    entry = entry_of(func)
    for name, value in state.items():
        if entry is not None:
            if name not in (entry.missing or ()):
                continue  # it has a newer one, or one that tasks have set
            entry.missing = entry.missing - {name}  # type: ignore[operator]  # it has the name
        if name in ("__defaults__", "__kwdefaults__"):
            setattr(func, name, value)
        else:
            func.__dict__[name] = value


def _import(name: str) -> None:
    try:
        __import__(name)
    except ImportError:
        # The code mentions an attribute of this name, but need not mean the module.
        return


def _set_all(func: FunctionType, state: dict[str, Any]) -> None:
    func.__dict__.update(state.pop("__dict__", {}))
    for name, value in state.items():
        setattr(func, name, value)


def _set_changed(
    func: FunctionType, state: dict[str, Any], changed: list[str], code: bytes
) -> None:
    dictionary = state.get("__dict__", {})
    for name in changed:
        if name == "__code__":
            func.__code__ = marshal.loads(code)
        elif name in ("__defaults__", "__kwdefaults__"):
            setattr(func, name, state.get(name))
        elif name in dictionary:
            func.__dict__[name] = dictionary[name]


# ---------------------------------------------------------------- cells


def reduce_cell(pickler: BasePickler, cell: CellType) -> Any:
    """Reduce a cell; its contents follow unless a function has brought them already."""
    if pickler.unfilled((cell,)):
        return CellType, (), pickler.captured(cell.cell_contents), None, None, fill_cell
    return CellType, ()


def fill_cell(cell: CellType, contents: Any) -> None:
    """Put the contents into a cell."""
    cell.cell_contents = contents


# ---------------------------------------------------------------- caches


def reduce_lru(pickler: BasePickler, cached: Any, entry: Entry | None) -> Any:
    """Reduce a function under `functools.lru_cache`; its cache starts empty."""
    parameters = cached.cache_parameters()
    state = dict(cached.__dict__)
    token = None if entry is None else entry.token
    arguments = (token, pickler.up, parameters["maxsize"], parameters["typed"])
    return make_lru, (*arguments, cached.__wrapped__), (token, state), None, None, fill_lru


def make_lru(token: str | None, up: bool, maxsize: int | None, typed: bool, func: Any) -> Any:
    """Return the cached function of this token, or a new one."""
    entry = None if token is None else entry_for(token)
    if entry is not None:
        return entry.obj
    cached = functools.lru_cache(maxsize, typed)(func)
    if token is not None:
        adopt(token, cached, above=not up)
    return cached


def fill_lru(cached: Any, definition: tuple[str | None, dict[str, Any]]) -> None:
    """Give a new cached function its attributes."""
    token, state = definition
    entry = None if token is None else entry_of(cached)
    if entry is not None:
        if entry.knows_state:
            return
        entry.applied["__dict__"] = 1
    for name, value in state.items():
        if name != "__wrapped__":
            cached.__dict__[name] = value


# ---------------------------------------------------------------- names instead


def resolve_token(token: str, key: str | None = None, qualname: str = "") -> Any:
    """Return the object of a token or, if that is gone, the object that has its name now.

    Raises
    ------
    UnpicklingError
        If neither exists.
    """
    entry = entry_for(token)
    if entry is not None:
        return entry.obj
    names = None if key is None else namespace(key)
    found = None if names is None else resolve(names, qualname)
    if found is None:
        from _pickle import UnpicklingError

        raise UnpicklingError(
            f"{qualname!r} of module {key!r} no longer exists in process {_pid()}, which "
            "defined it; keep a reference to it until the results are there"
        )
    return found


def resolve_name(names: dict[str, Any], qualname: str) -> Any:
    """Return the object that a dotted name has in a scope."""
    return resolve(names, qualname)


def reduce_to_name(pickler: BasePickler, module: str, name: str) -> Any:
    """Reduce something to its name in a scope that travels by value, or return None."""
    scope = scope_of_module(module)
    first = name.partition(".")[0]
    names = vars(sys.modules[module]) if scope is not None else {}
    if scope is None or first not in names:
        return None
    if not pickler.up:
        pickler.require_names(scope, names, [first])
    return resolve_name, (scope, name)


def _pid() -> int:
    import os

    return os.getpid()


def import_module(name: str) -> ModuleType:
    """Import a module and return it, unlike `__import__`, which returns its top-level package."""
    __import__(name)
    return sys.modules[name]
