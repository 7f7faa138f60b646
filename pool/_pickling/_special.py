"""Objects of Python's own types that classes and modules are full of, and that pickle refuses.

Methods, descriptors, modules, views. What is a function is for `_functions`, what the program keeps
as attributes for `_reducers`.
"""

from __future__ import annotations

import os
import sys
from _contextvars import Context, ContextVar, copy_context
from types import (
    BuiltinFunctionType,
    CellType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)

from ._constants import reduce_bare
from ._functions import import_module, reduce_cell
from ._newer import LAZY, SENTINEL
from ._originals import original, reduce_builtin
from ._origins import importable, is_by_value, is_named, resolve
from ._slots import Open, reduce_slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._picklers import BasePickler


#: By which methods the kernel of a notebook asks in the page, and whose place these have taken.
_ASKING = {"raw_input": ("builtins", "input"), "getpass": ("getpass", "getpass")}


def _reduce_method(pickler: BasePickler, method: MethodType) -> Any:
    """Reduce a bound method to its object and its name, or to its function if that differs."""
    owner = method.__self__
    if getattr(method.__func__, "__module__", None) == "ipykernel.kernelbase":
        place = _ASKING.get(method.__func__.__name__)
        if place is not None:
            return original, place  # a worker has no page: it finds that nobody is there to answer
    if pickler.inline and issubclass(type(owner), type) and not is_named(owner):
        # The class may be the one that is being defined, and hold the method itself, as pydantic's
        # models do their validators: it does not have that name yet.
        return MethodType, (method.__func__, owner)
    try:
        if getattr(owner, method.__func__.__name__) == method and not _is_patch(owner, method):
            return NotImplemented
    except Exception:  # no such attribute (a private or renamed method), or a property fails
        pass
    return MethodType, (method.__func__, owner)


def _is_patch(owner: Any, method: MethodType) -> bool:
    """Return whether the program has patched this function into a class that workers import."""
    func = method.__func__
    if type(func) is not FunctionType or not is_by_value(func.__globals__):
        return False
    kinds = (owner if issubclass(type(owner), type) else type(owner)).__mro__
    found = next((kind for kind in kinds if func.__name__ in vars(kind)), None)
    return found is not None and is_named(found)


def _reduce_module(pickler: BasePickler, module: ModuleType) -> Any:
    """Reduce a module to its name, or to the namespace that stands for it in a worker."""
    name = module.__name__
    if sys.modules.get(name) is module and importable(name):
        pickler.require_module(name)
        return import_module, (name,)
    from ._modules import reduce_by_value

    return reduce_by_value(pickler, module)


def _reduce_wrapped(pickler: BasePickler, method: Any) -> Any:
    return type(method), (method.__func__,)


def _reduce_property(pickler: BasePickler, found: property) -> Any:
    return property, (found.fget, found.fset, found.fdel, found.__doc__)


def _reduce_attribute(pickler: BasePickler, descriptor: GetSetDescriptorType) -> Any:
    return _find_attribute, (descriptor.__objclass__, descriptor.__name__)


def _find_attribute(kind: type, name: str) -> Any:
    """Return the descriptor; not by `getattr`, which would ask that of ``__dict__``."""
    # Since Python 3.15 all classes have the same ones in place of those that each had made.
    return vars(Open if kind is object else kind)[name]


def _reduce_view(pickler: BasePickler, view: MappingProxyType[Any, Any]) -> Any:
    return MappingProxyType, (dict(view),)


def _reduce_slot(pickler: BasePickler, descriptor: MemberDescriptorType) -> Any:
    return reduce_slot(descriptor)


def _reduce_lazy(pickler: BasePickler, lazy: Any) -> Any:
    """Reduce what ``lazy import`` has bound and nobody has used yet, without importing it."""
    from gc import get_referents

    # It offers nothing else. For a part of a module, what stands for that comes first.
    source, name, *rest = get_referents(lazy)
    if type(source) is not LAZY:
        return new_lazy, (f"lazy import {name}", name.partition(".")[0])
    while type(source) is LAZY:
        source, module, *rest = get_referents(source)
    if any(type(part) is tuple for part in rest):
        return new_lazy, (f"lazy from {module} import {name} as found", "found")
    return new_lazy, (f"lazy import {module} as found", "found")


def new_lazy(statement: str, name: str) -> Any:
    """Return what a statement binds to a name; only a statement can make such an object."""
    names: dict[str, Any] = {}
    exec(statement, names)
    return names[name]


def _reduce_sentinel(pickler: BasePickler, sentinel: Any) -> Any:
    """Reduce a sentinel so that it is one object in each process, whatever it is part of."""
    module, name = sentinel.__module__, sentinel.__name__
    names = getattr(sys.modules.get(module), "__dict__", {})
    if resolve(names, name) is sentinel and importable(module):
        return NotImplemented
    reduced = reduce_bare(pickler, sentinel)  # in a module under another name
    if reduced is not NotImplemented:
        return reduced
    if id(sentinel) not in _tokens:
        token = os.urandom(8)
        _sentinels[token] = sentinel
        token = _tokens.setdefault(id(sentinel), token)  # another thread may pickle it as well
    return known_sentinel, (_tokens[id(sentinel)], module, name, repr(sentinel))


def known_sentinel(token: bytes, module: str, name: str, shown: str) -> Any:
    """Return the sentinel that has come with a token, or a new one."""
    found = _sentinels.get(token)
    if found is None:
        made: Any = SENTINEL(name) if shown == name else SENTINEL(name, repr=shown)
        made.__module__ = module
        found = _sentinels.setdefault(token, made)
        _tokens[id(found)] = token
    return found


#: Those that no module can name, by the tokens under which they travel, and the tokens by their
#: ids. Kept for good: there cannot be weak references to them, and programs have few.
_sentinels: dict[bytes, Any] = {}
_tokens: dict[int, bytes] = {}


def _reduce_context_variable(pickler: BasePickler, variable: ContextVar[Any]) -> Any:
    """Reduce a context variable; among globals, with what it has here, as a fork would have it."""
    reduced = reduce_bare(pickler, variable)
    if not pickler.inline or pickler.up:
        return reduced
    if reduced is NotImplemented:
        reduced = _new_context_variable, (variable.name, *_default_of(variable))
    context = copy_context()
    if variable not in context:
        return reduced
    return *reduced, (context[variable],), None, None, _set_context_variable


def _default_of(variable: ContextVar[Any]) -> tuple[Any, ...]:
    try:
        return (Context().run(variable.get),)
    except LookupError:
        return ()


def _new_context_variable(name: str, *default: Any) -> ContextVar[Any]:
    return ContextVar(name, default=default[0]) if default else ContextVar(name)


def _set_context_variable(variable: ContextVar[Any], state: tuple[Any]) -> None:
    """Set the variable, unless an initializer has done so in the module that has it."""
    if variable not in copy_context():
        variable.set(state[0])


#: Reducers by exact type.
BY_TYPE: dict[type, Any] = {
    BuiltinFunctionType: reduce_builtin,
    CellType: reduce_cell,
    ContextVar: _reduce_context_variable,
    MethodType: _reduce_method,
    ModuleType: _reduce_module,
    object: reduce_bare,
    # As cloudpickle does it; classes are full of these.
    classmethod: _reduce_wrapped,
    staticmethod: _reduce_wrapped,
    property: _reduce_property,
    GetSetDescriptorType: _reduce_attribute,
    MappingProxyType: _reduce_view,
    MemberDescriptorType: _reduce_slot,
    LAZY: _reduce_lazy,
    SENTINEL: _reduce_sentinel,
}
