"""Large tables of the main module, which workers that are forked from the program have.

A program that fills a table and makes a pool then expects its workers to have it: a fork has it at
once, and all share the memory. To pickle a million entries takes as long as to make them, and each
worker would have its own. So a table gets a number before the fork, under which workers find it.

It is as it was then: changes since are not seen, as forks do not see them. If its name is bound to
another object, that is sent.
"""

from __future__ import annotations

import sys
from collections import OrderedDict, defaultdict, deque

from ._namespaces import versions_of
from ._newer import FROZEN_DICT
from ._origins import canonical
from ._shared import ALL, inherited_object, number_arrays, number_of, upcoming

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._shared import Sharing

#: What a table may be.
KINDS = frozenset({list, dict, set, tuple, frozenset, OrderedDict, defaultdict, deque, FROZEN_DICT})

#: Items from which a container is a table. Fewer take no longer to send than a fork takes.
MANY = 100_000


class _Table:
    """Holds a table, since containers have no weak references."""

    __slots__ = ("__weakref__", "value")

    def __init__(self, value: Any) -> None:
        self.value = value


#: By the id of the table.
_tables: dict[int, _Table] = {}


def is_table(value: Any) -> bool:
    """Return whether a value is a large container."""
    return type(value) in KINDS and len(value) >= MANY


def tables_of_main() -> dict[str, Any]:
    """Return the tables that the main module has, by name."""
    return {name: value for name, value in _names_of_main() if is_table(value)}


def number_inherited() -> int:
    """Give numbers to what workers inherit that are about to be forked.

    Returns
    -------
    int
        Higher than all of them.
    """
    number_arrays()
    for value in tables_of_main().values():
        number_of(_tables.setdefault(id(value), _Table(value)))
    return upcoming()


def _names_of_main() -> list[tuple[str, Any]]:
    return list(getattr(sys.modules.get("__main__"), "__dict__", {}).items())


def reduce_table(value: Any, sharing: Sharing | None) -> Any:
    """Reduce a table to its number; NotImplemented if it is none that all receivers have."""
    # A pool whose workers are not forked is not given others for this.
    if not _tables or sharing is None or sharing.inherited is None or sharing.inherited == ALL:
        return NotImplemented
    known = _tables.get(id(value))
    if known is None:
        return NotImplemented
    reduced = sharing.inherit(known)
    if reduced is NotImplemented:
        return NotImplemented
    sharing.only_forks = True
    return inherited_table, reduced[1]


def inherited_table(number: int) -> Any:
    """Return the table of this number, in a worker that has inherited it."""
    return inherited_object(number).value


def let_go_of_tables() -> None:
    """Drop the tables that the main module has no longer."""
    if _tables:
        bound = {id(value) for _, value in _names_of_main()}
        for key in list(_tables):
            if key not in bound:
                _tables.pop(key, None)


def drop_tables() -> None:
    """Drop all tables: no worker that has inherited them is left."""
    if _tables:
        versions = versions_of(canonical("__main__"))
        for name, value in _names_of_main():
            if id(value) in _tables:
                versions.forget(name)
        _tables.clear()
