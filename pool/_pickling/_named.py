"""Objects that a module binds to a name, found again instead of sent again.

``MISSING = object()`` is a default of one function and compared with in another; the two
may reach a worker in different messages, and still it has to be one object there.
"""

from __future__ import annotations

import _pickle
import copyreg
from io import BytesIO
from types import FunctionType, ModuleType

from ._functions import ATOMS, resolve_name
from ._homes import at_home, attribute_of, home_of, is_stateless, make_empty, note_contents
from ._namespaces import is_written, namespace, versions_of
from ._needs import is_plain, names_in_use
from ._origins import LruType, importable, scope_of
from ._tables import reduce_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from ._origins import Scope
    from ._picklers import BasePickler, Needs

#: Types whose objects have tokens or names of their own, or cannot be told from equal ones.
_OTHERS = (FunctionType, ModuleType, LruType, type, int, float, complex, str, bytes, type(None))

#: Types for which pickle does not call a reducer; `persistent_id` finds their objects.
_CONTAINERS = frozenset({list, dict, set, bytearray})

#: A container with more items is pickled by itself if it holds nothing but atoms.
_MANY = 1000


class NamedValues:
    """Instances and containers that are known by their name, by ``id``."""

    def __init__(self) -> None:
        self.instances: dict[int, tuple[Scope, str, dict[str, Any]]] = {}
        self.containers: dict[int, _Container | _OfClass] = {}

    @property
    def met(self) -> bool:
        """Whether a container was met with: `Unpickler` is needed to load the pickle."""
        return any(container.pickler is not None for container in self.containers.values())

    def add(self, scope: Scope, name: str, names: dict[str, Any]) -> None:
        """Add the value of a name of a scope, if its identity may matter.

        Of several names of one object the first that is added counts. Receivers know an object by
        the name under which it was sent, so names that have been sent are to be added first.
        """
        value = names.get(name)
        if type(value) in _CONTAINERS:
            if id(value) not in self.containers:
                self.containers[id(value)] = _Container(scope, name, names)
        elif has_identity(value):
            self.instances.setdefault(id(value), (scope, name, names))

    def add_attributes(self, kind: type) -> None:
        """Add the containers in which a class has instances that are made by the program's code."""
        for name, value in list(vars(kind).items()):
            if type(value) in _CONTAINERS and not is_plain(value):
                self.containers.setdefault(id(value), _OfClass(kind, name, value))


def named_with(needs: Needs) -> NamedValues:
    """Return the objects that the receiver of some needs knows by name, or may know later.

    It knows them from earlier messages, from this one, or from later ones: an object that is part
    of another one in this message may be used by its name in the next.
    """
    found = NamedValues()
    scopes: dict[str, dict[str, Any]] = {}
    wanted: dict[str, list[str]] = {}
    for key, names in needs.items():
        if isinstance(key, tuple):
            scopes[key[0]] = names
            wanted.setdefault(key[0], []).append(key[1])
    groups: tuple[Mapping[str, Iterable[str]], ...] = (
        {key: versions_of(key).standing(names) for key, names in scopes.items()},
        wanted,
        {key: names_in_use(names) for key, names in scopes.items()},
    )
    for group in groups:
        for scope_key, some in group.items():
            scope = scope_of(scopes[scope_key])
            if scope is not None:
                for name in some:
                    found.add(scope, name, scopes[scope_key])
    for key, what in needs.items():
        value = what.get(key[1]) if isinstance(key, tuple) else what
        if issubclass(type(value), type):
            found.add_attributes(value)
    return found


def has_identity(value: Any) -> bool:
    """Return whether a program may rely on a value being one object, wherever it has it."""
    kind = type(value)
    return kind is not tuple and kind is not frozenset and not issubclass(kind, _OTHERS)


class _Container:
    """Is pickled in place of a named list, dict, set or bytearray, wherever that occurs."""

    __slots__ = ("_name", "_names", "_scope", "_value", "pickler")

    def __init__(self, scope: Scope, name: str, names: dict[str, Any]) -> None:
        self._scope = scope
        self._name = name
        self._names = names
        self._value = names[name]
        self.pickler: BasePickler | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        value: Any = self._value
        version, _ = versions_of(self._scope.key).observe(self._names, self._name)
        if self.pickler is not None:
            self.pickler.require_names(self._scope, self._names, [self._name])
            if not self.pickler.inline:
                return resolve_name, (self._scope, self._name)
            reduced = reduce_table(value, self.pickler.sharing)
            if reduced is not NotImplemented:
                return reduced  # type: ignore[no-any-return]  # a tuple, then
        name = (self._scope.key, self._name, version)
        if type(value) is bytearray or (len(value) > _MANY and _holds_atoms(value)):
            # In one piece: otherwise `persistent_id` would be called in vain for each item.
            return recall_whole, (*name, _pickle.dumps(value, 5))
        return recall, (*name, type(value), ()), (None, *_items_of(value), None), None, None, fill


class _OfClass:
    """Is pickled in place of a container that is an attribute of a class.

    The class gets the container before the items are unpickled, since the code that makes these
    may use it: a ``__new__`` that keeps its instances there.
    """

    __slots__ = ("_kind", "_name", "_value", "pickler")

    def __init__(self, kind: type, name: str, value: Any) -> None:
        self._kind = kind
        self._name = name
        self._value = value
        self.pickler: BasePickler | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        content = (None, *_items_of(self._value), None)
        arguments = (self._kind, self._name, type(self._value))
        return make_attribute, arguments, content, None, None, fill


def _items_of(value: Any) -> tuple[list[Any], list[Any]]:
    return ([], list(value.items())) if type(value) is dict else (list(value), [])


def _holds_atoms(value: Any) -> bool:
    if not ATOMS.issuperset(map(type, value)):
        return False
    return type(value) is not dict or ATOMS.issuperset(map(type, value.values()))


_with_containers: dict[type, type] = {}


def looking_for_containers(pickler_class: Any) -> Any:
    """Return a subclass that has containers replaced by their names."""
    known = _with_containers.get(pickler_class)
    if known is None:
        space = {"persistent_id": _persistent_id}
        known = _with_containers[pickler_class] = type("Named", (pickler_class,), space)
    return known


def _persistent_id(pickler: BasePickler, obj: Any) -> _Container | _OfClass | None:
    found = pickler.containers.get(id(obj))
    if found is not None:
        found.pickler = pickler
    return found


class Unpickler(_pickle.Unpickler):
    """Unpickles what a pickler of `looking_for_containers` has written."""

    def persistent_load(self, pid: Any) -> Any:
        """Return the container, which was unpickled in place of its id."""
        return pid


def loading(data: bytes, buffers: int) -> bytes:
    """Return a plain pickle that calls `load` with what such a pickler has written."""
    return b"".join(
        [
            b"\x80\x05cpool._pickling._named\nload\n(",
            b"\x8e" + len(data).to_bytes(8, "little") + data,
            b"\x97" * buffers,
            b"tR.",
        ]
    )


def load(data: bytes, *buffers: Any) -> Any:
    """Unpickle what such a pickler has written."""
    return Unpickler(BytesIO(data), buffers=buffers).load()


def reduce_named(pickler: BasePickler, obj: Any, scope: Scope, name: str, names: Any) -> Any:
    """Reduce an instance to its name and, for a receiver that lacks it, its contents."""
    if not pickler.inline:
        pickler.require_names(scope, names, [name])  # a prelude brings it
        return resolve_name, (scope, name)
    reduced = reduce_table(obj, pickler.sharing)
    if reduced is not NotImplemented:
        return reduced
    reduced = pickler.reduce_unnamed(obj)
    if reduced is NotImplemented:
        reduced = obj.__reduce_ex__(5)
        home = home_of(name, obj) if is_stateless(reduced) else None
        if home is not None:
            reduced = (attribute_of, home)
    if isinstance(reduced, str):
        # It pickles as a name, which can be imported (`math.sqrt`, `numpy.sin`) unless the class or
        # the name is the program's own (a function of its under a decorator of a package): then the
        # receiver has to make the object, once.
        kind = type(obj).__module__
        if importable(kind) and importable(getattr(obj, "__module__", None) or kind):
            return reduced
        reduced = reduce_by_state(obj)
    function, arguments, *rest = reduced
    state, items, pairs, setter = (*rest, None, None, None, None)[:4]
    version, _ = versions_of(scope.key).observe(names, name)
    pickler.require_names(scope, names, [name])
    content = (state, list(items or ()), list(pairs or ()), setter)
    return (
        recall,
        (scope.key, name, version, function, arguments),
        content,
        None,
        None,
        fill,
    )


def reduce_by_state(obj: Any) -> tuple[Any, ...]:
    """Reduce an instance as `object` does, whatever its class says."""
    return copyreg.__newobj__, (type(obj),), obj.__getstate__()  # type: ignore[attr-defined]  # missing in typeshed


def reduce_forwarding(obj: Any, kind: Any) -> Any:
    """Reduce an instance of a class with a ``__getattr__`` of its own, unless it says how.

    Unpickling asks an instance for its ``__setstate__`` while it is empty; one that looks for what
    it forwards to would do so without end.
    """
    if (
        kind.__reduce_ex__ is not object.__reduce_ex__
        or kind.__reduce__ is not object.__reduce__
        or any("__setstate__" in vars(base) for base in kind.__mro__)
    ):
        return NotImplemented
    reduced = obj.__reduce_ex__(5)
    return (*reduced[:5], set_state)


def is_by_its_place(kind: Any, name: str, value: Any) -> bool:
    """Return whether an attribute pickles as one of that name of its class, which is to get it."""
    own: Any = type(value).__reduce__
    if own is object.__reduce__:
        return False
    try:
        reduced = value.__reduce_ex__(5)
    except Exception:  # pickling it will tell
        return False
    arguments = reduced[1] if isinstance(reduced, tuple) else ()
    return isinstance(arguments, tuple) and arguments[:1] == (kind,) and name in arguments[1:]


class ByState:
    """Stands for an object that is pickled by its state, whatever its class says."""

    __slots__ = ("_of",)

    def __init__(self, obj: Any) -> None:
        self._of = obj

    def __reduce__(self) -> tuple[Any, ...]:
        return reduce_by_state(self._of)


_fresh: dict[int, Any] = {}


def recall(key: str, name: str, version: int, function: Any, arguments: tuple[Any, ...]) -> Any:
    """Return the object that has been received under this name, or a new one, to be filled."""
    made = _received(key, name, version)
    if made is None:
        made = at_home(key, name, function(*arguments))
        _fresh[id(made)] = made
    return made


def recall_whole(key: str, name: str, version: int, data: bytes) -> Any:
    """Return the container that has been received under this name, or a new one."""
    made = _received(key, name, version)
    return at_home(key, name, _pickle.loads(data)) if made is None else made


def _received(key: str, name: str, version: int) -> Any:
    names = namespace(key)
    if names is not None and name in names and is_written(key, name, version, names[name]):
        return names[name]
    return None


def make_attribute(kind: type, name: str, container: Callable[[], Any]) -> Any:
    """Return a new container; set it as the attribute of the class unless that has one."""
    made = container()
    _fresh[id(made)] = made
    if name not in vars(kind):
        type.__setattr__(kind, name, made)
    return made


def fill(obj: Any, content: tuple[Any, ...]) -> None:
    """Give a new object its contents; leave one that was received earlier as it is."""
    if _fresh.pop(id(obj), None) is not obj:
        return
    make_empty(obj)
    state, items, pairs, setter = content
    if items:
        _extend(obj, items)
    for key, value in pairs:
        obj[key] = value
    if setter is not None:
        setter(obj, state)
    elif state is not None:
        set_state(obj, state)
    note_contents(obj)


def _extend(obj: Any, items: Iterable[Any]) -> None:
    if type(obj) is set:
        obj.update(items)
    elif hasattr(obj, "extend"):
        obj.extend(items)
    else:
        for item in items:
            obj.append(item)


def set_state(obj: Any, state: Any) -> None:
    """Set the state as unpickling does, but without looking up attributes of the object.

    A ``__getattr__`` that forwards to a wrapped object would look for that object without end,
    while the instance is still empty.
    """
    if hasattr(type(obj), "__setstate__"):
        obj.__setstate__(state)
        return
    slots = None
    if isinstance(state, tuple) and len(state) == 2:
        state, slots = state
    if state:
        obj.__dict__.update(state)
    for name, value in (slots or {}).items():
        # Without a `__setattr__` of its class.
        object.__setattr__(obj, name, value)
