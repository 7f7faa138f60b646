"""Names and their values as parts of a prelude, in the order in which they have to arrive.

What is pickled is a call that has the receiver bind the name. A name that the sender has deleted is
not mentioned: it stays in workers, as in forks of a program that then frees its own copy.
"""

from __future__ import annotations

from ._homes import await_modules, home_of
from ._named import has_identity
from ._namespaces import bind, bind_absent, bind_at_home, is_from_above, outdate, versions_of
from ._needs import ALL_NAMES, is_plain, is_simple
from ._origins import is_definition, scope_of
from ._shared import Reduced
from ._tables import reduce_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._notes import Notes
    from ._picklers import Needs
    from ._shared import Sharing
    from ._versions import Versions


def in_order(
    pending: Needs, up: bool, notes: Notes, sharing: Sharing | None
) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """Return what is to be pickled for some needs, in the order in which it has to arrive.

    Definitions come first, since unpickling the data may need them. Data whose unpickling may run
    code of the program's comes last, so that this code finds everything else.
    """
    definitions: list[Any] = []
    simple: list[Any] = []
    plain: list[Any] = []
    others: list[Any] = []
    for key, what in pending.items():
        item = _item(key, what, up, notes, sharing)
        if item is None:
            continue
        value = _value(item)
        if is_definition(value):
            definitions.append(item)
        elif is_simple(value):
            simple.append(item)
        elif is_plain(value):
            plain.append(item)
        else:
            others.append(item)
    return definitions, simple, plain, others


class _Binding:
    """A name of a scope and its value, bound as soon as it is unpickled."""

    __slots__ = ("_scope", "_sent", "home", "name", "up", "value", "version")

    def __init__(
        self, scope: Any, name: str, version: int, value: Any, up: bool, sharing: Sharing | None
    ) -> None:
        self._scope = scope
        #: What is pickled as its value.
        self._sent = value
        reduced = reduce_table(value, sharing)
        if reduced is not NotImplemented:
            self._sent = Reduced(reduced)
        #: A module that has the value too, and its name there; see `_homes`.
        self.home = None if up or not has_identity(value) else home_of(name, value)
        self.name = name
        self.version = version
        self.value = value
        self.up = up

    @property
    def key(self) -> tuple[str, str]:
        """The name, with the key of its scope."""
        return self._scope.key, self.name

    def __reduce__(self) -> tuple[Any, ...]:
        if self.up:
            return bind_absent, (self._scope, self.name, self._sent)
        bound = (self._scope, self._scope.key, self.name, self.version, self._sent)
        return (bind, bound) if self.home is None else (bind_at_home, (*self.home, *bound))


def _item(key: Any, what: Any, up: bool, notes: Notes, sharing: Sharing | None) -> Any:
    """Return what is to be pickled for one need, or None."""
    if not isinstance(key, tuple):
        return what
    scope_key, name = key
    if up and is_from_above(scope_key, name):
        return None  # it came from the parent
    if name == ALL_NAMES:
        notes.add_all_names(what)
        return None
    scope = scope_of(what)
    notes.add_name(scope_key, what, name)
    versions: Versions = versions_of(scope_key)
    version, value = versions.observe(what, name)
    return None if not version else _Binding(scope, name, version, value, up, sharing)


def _value(item: Any) -> Any:
    return item.value if type(item) is _Binding else item


def arrivals(*groups: list[Any]) -> list[Any]:
    """Return the `_Arrival` of the values that modules have too, in a list, if there are any."""
    items = [item for group in groups for item in group if type(item) is _Binding]
    places = {item.key: item.home for item in items if item.home is not None}
    return [_Arrival(places)] if places else []


class _Arrival:
    """Tells the receiver which modules have which values, before anything may import them."""

    __slots__ = ("_places",)

    def __init__(self, places: dict[tuple[str, str], tuple[str, str]]) -> None:
        self._places = places

    def __reduce__(self) -> tuple[Any, ...]:
        return await_modules, (self._places,)


class Outdated:
    """Tells the receiver the version of a name, so that it drops an older value."""

    __slots__ = ("key", "name", "names")

    def __init__(self, key: str, names: dict[str, Any], name: str) -> None:
        self.key = key
        self.names = names
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        version, _ = versions_of(self.key).observe(self.names, self.name)
        return outdate, (self.key, self.name, version)
