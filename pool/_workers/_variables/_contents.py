"""Objects that are filled: what they hold, and how to have them hold something else."""

from __future__ import annotations

from _contextvars import ContextVar, copy_context
from collections import Counter, OrderedDict, defaultdict, deque

from pool._pickling._newer import BARE
from pool._pickling._slots import slot_names, slot_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Recipe = tuple[type, tuple[Any, ...]]

#: Containers that are filled: they stay the objects that other modules, and defaults, have.
CONTAINERS = frozenset({list, dict, set, bytearray, OrderedDict, Counter, defaultdict, deque})


def apart(value: Any) -> tuple[Recipe, Any]:
    """Return how to make an empty object like `value`, and what it holds."""
    kind = type(value)
    if kind in BARE:
        return (kind, () if kind is object else (value.__name__,)), None
    if kind is ContextVar:
        context = copy_context()
        return (kind, (value.name,)), [context[value]] if value in context else []
    if kind not in CONTAINERS:
        attributes = slot_values(value)
        if kind.__dictoffset__:
            attributes.update(vars(value))
        # Not by the methods of a class that is derived from one of these.
        if issubclass(kind, dict):
            return (kind, ()), (dict(dict.items(value)), attributes)
        if issubclass(kind, list):
            return (kind, ()), ([*list.__iter__(value)], attributes)
        return (kind, ()), attributes
    if kind is defaultdict:
        return (kind, (value.default_factory,)), dict(value)
    if kind is deque:
        return (kind, ((), value.maxlen)), list(value)
    return (kind, ()), dict(value) if isinstance(value, dict) else kind(value)


def fill(target: Any, contents: Any) -> None:
    """Give an object the contents of the program's."""
    kind = type(target)
    if kind in BARE:
        return
    if kind is ContextVar:
        for content in contents:  # none, or one
            target.set(content)
        return
    if kind is list or kind is bytearray:
        target[:] = contents
        return
    if kind not in CONTAINERS:
        _fill_instance(target, contents)
        return
    target.clear()
    if kind is deque:
        target.extend(contents)
    elif kind is Counter:
        dict.update(target, contents)  # its own method would add them up
    else:
        target.update(contents)


def _fill_instance(target: Any, contents: Any) -> None:
    """Give an instance attributes, which may be in slots, and items if it has any."""
    kind = type(target)
    if type(contents) is tuple:
        items, contents = contents
        if issubclass(kind, dict):
            dict.clear(target)
            dict.update(target, items)
        else:
            list.__setitem__(target, slice(None), items)
    attributes = dict(contents)
    for name in slot_names(kind):
        if name in attributes:
            object.__setattr__(target, name, attributes.pop(name))
        elif hasattr(target, name):
            object.__delattr__(target, name)
    if kind.__dictoffset__:
        vars(target).clear()
        vars(target).update(attributes)


def is_alike(one: Any, other: Any) -> bool:
    """Return whether two contents, from `apart`, are of the same objects.

    None of these is asked for its opinion: a comparison of arrays has no single result.
    """
    if isinstance(one, dict):
        one, other = [*one, *one.values()], [*other, *other.values()]
    elif isinstance(one, set):
        one, other = set(map(id, one)), set(map(id, other))
        return bool(one == other)
    elif isinstance(one, bytearray):
        return bool(one == other)
    elif isinstance(one, tuple):  # as in `_views`: none, or one; or items and attributes
        return len(one) == len(other) and all(map(is_alike, one, other))
    elif one is None:
        return other is None
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))
