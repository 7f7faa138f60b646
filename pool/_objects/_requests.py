"""Requests for resources that wait, and which of them is next: books without any I/O.

First come, first served, for each resource. A resource of which a request lacks some is kept from
all later requests, so small ones cannot starve a large one. Resources that it does not lack may
go to later requests. Otherwise one task that waits for a GPU would hold up all that need a CPU,
for as long as an actor holds the GPU.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping
    from typing import Any

    from pool._objects._resources import Grant, Resources


class Requests:
    """A queue of requests.

    Parameters
    ----------
    books : Resources
    """

    def __init__(self, books: Resources) -> None:
        self._books = books
        self._numbers = count()
        #: By the names of what they ask for: only the oldest with the same names can be next.
        #: Then by requester.
        self._groups: dict[frozenset[str], OrderedDict[Any, tuple[int, Mapping[str, float]]]] = {}

    def add(self, requester: Hashable, request: Mapping[str, float]) -> None:
        """Queue a request behind all others; a requester has one in the queue at most."""
        entry = next(self._numbers), request
        self._groups.setdefault(_names(request), OrderedDict())[requester] = entry

    def withdraw(self, requester: Hashable, request: Mapping[str, float]) -> None:
        """Take a request out, if it is still there."""
        names = _names(request)
        group = self._groups.get(names)
        if group is not None and group.pop(requester, None) is not None and not group:
            del self._groups[names]

    def wait_for(self, name: str) -> bool:
        """Return whether a request waits that asks for this resource."""
        return any(name in names for names in self._groups)

    def take(self) -> tuple[Any, Grant] | None:
        """Grant the oldest request that can have what it asks for; None: all have to wait.

        Returns
        -------
        (requester, grant) or None
        """
        books = self._books
        lacked: set[str] = set()
        for names in sorted(self._groups, key=self._age):
            if not lacked.isdisjoint(names):
                continue
            requester, (_, request) = next(iter(self._groups[names].items()))
            lacks = books.lacks(request)
            if not lacks:
                grant = books.take(request)
                assert grant is not None
                self.withdraw(requester, request)
                return requester, grant
            lacked |= lacks
        return None

    def _age(self, names: frozenset[str]) -> int:
        number, _ = next(iter(self._groups[names].values()))
        return number


def _names(request: Mapping[str, float]) -> frozenset[str]:
    return frozenset(name for name, amount in request.items() if amount)
