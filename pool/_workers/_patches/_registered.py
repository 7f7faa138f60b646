"""What the program has registered with generic functions and abstract classes.

``@encode.register`` in the main module or in a plugin, ``Shape.register(Cube)``: that is in no
variable. A worker's import of the module of `encode` registers again what that module itself does.
"""

from __future__ import annotations

import sys
from abc import ABCMeta
from functools import singledispatchmethod
from types import FunctionType, MappingProxyType

from pool._workers._carried._setting import packed
from pool._workers._variables._data import module_of
from pool._workers._variables._snapshot import snapshots

from ._applied import REGISTERED
from ._places import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from ._applied import Patch
    from ._mentions import Mentions


def registered(texts: Iterable[tuple[dict[str, Any], Mentions]]) -> tuple[list[Patch], str]:
    """Return what workers are to register; and with what something is that they can only inherit.

    Parameters
    ----------
    texts : iterable of (dict, Mentions)
        The names of each module of the program, and what its text says.
    """
    patches: dict[tuple[str, ...], Patch] = {}
    lost = ""
    for module, path, owner in (*_own(), *_mentioned(texts)):
        some = _with(owner, module)
        if not some:
            continue
        data = packed(some)
        if data is None:
            lost = ".".join((module, *path))
        else:
            *outer, name = path
            patches[module, *path] = module, tuple(outer), name, REGISTERED, data
    return list(patches.values()), lost


def _own() -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """Yield those of the program's own modules: module, attributes that lead there, object."""
    for name, module in snapshots.modules().items():
        for variable, value in list(vars(module).items()):
            kind = type(value)
            if kind is FunctionType:
                if value.__dict__ and module_of(value) == name:
                    yield name, (variable,), value
            elif (kind is type or kind is ABCMeta) and module_of(value) == name:
                if kind is ABCMeta:
                    yield name, (variable,), value
                for attribute, some in list(vars(value).items()):
                    if type(some) is singledispatchmethod:
                        yield name, (variable, attribute), some.dispatcher


def _mentioned(
    texts: Iterable[tuple[dict[str, Any], Mentions]],
) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """Yield abstract classes of others: ``numbers.Number.register(Money)``."""
    for names, mentions in texts:
        for dotted in mentions.called:
            is_meant = dotted.endswith(".register")
            place = find(dotted, names, mentions) if is_meant else None
            if place is not None and isinstance(place.owner, ABCMeta) and place.path:
                # `collections.abc` is another name of a module that has always been imported.
                module = place.module.replace("collections.abc", "_collections_abc")
                yield module, place.path, place.owner


def _with(owner: Any, module: str) -> list[Any]:
    """Return what was registered with a function or a class by other modules than its own."""
    if type(owner) is ABCMeta:
        classes = [reference() for reference in _registry(owner)]
        return [
            kind for kind in classes if kind is not None and not _is_of(module_of(kind), module)
        ]
    registry = owner.__dict__.get("registry")
    if type(registry) is not MappingProxyType or "dispatch" not in owner.__dict__:
        return []
    return [
        (kind, function)
        for kind, function in list(registry.items())
        if kind is not object and not _is_of(module_of(function), module)
    ]


def _registry(owner: ABCMeta) -> Iterable[Any]:
    dump = getattr(sys.modules.get("_abc"), "_get_dump", None)
    return () if dump is None else dump(owner)[0]


def _is_of(name: str, module: str) -> bool:
    """Return whether it is the import of a module that registers what another one has defined."""
    return name == module or name in sys.stdlib_module_names
