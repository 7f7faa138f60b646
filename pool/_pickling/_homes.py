"""Objects that a program has imported by name from modules of its own or of packages.

After ``from config import settings`` the main module's `settings` and that of `config` are one
object. They have to be one in a worker too, where `config` may be imported after the main module's
`settings` has arrived. Then the contents that have arrived are put into the module's object, since
the import may have handed that on (as a default, to a decorator, as an attribute), and the name is
bound to the module's object. An object is left as it is if the worker has changed it by then, or
had imported its module before.

For an object without any state, made only to be compared with, the module's is taken.
"""

from __future__ import annotations

import copyreg
import sys
from _operator import is_
from collections import OrderedDict, defaultdict, deque
from functools import partial
from types import SimpleNamespace

from ._origins import importable
from ._slots import native_base, slot_names, slot_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

_new: Any = copyreg.__newobj__  # type: ignore[attr-defined]  # missing in typeshed

#: Types in C whose objects can be emptied and filled, with the methods that do so even for
#: subclasses that override them. None: they have only attributes.
_FILLED: dict[type, tuple[Callable[[Any], object], Callable[[Any, Any], object]] | None] = {
    object: None,
    SimpleNamespace: None,
    list: (list.clear, list.extend),
    set: (set.clear, set.update),
    bytearray: (bytearray.clear, bytearray.extend),
    deque: (deque.clear, deque.extend),
    dict: (dict.clear, dict.update),
    defaultdict: (dict.clear, dict.update),
    OrderedDict: (OrderedDict.clear, OrderedDict.update),
}

#: Containers with more items are not watched for changes.
_WATCHED_MAX = 100_000

# ---------------------------------------------------------------- in the program


def home_of(name: str, value: Any) -> tuple[str, str] | None:
    """Return the module, other than the main one, that has an object, and its name there.

    A module in which it has the same name comes first. Other names are searched only in modules
    of the program's own (``from config import SETTINGS as settings``).

    None for objects that cannot be filled anew, and for those of the standard library, which
    represent something of each process.
    """
    if not _can_be_filled(value):
        return None
    for module_name, module in sys.modules.copy().items():
        if (
            getattr(module, "__dict__", {}).get(name) is value
            and _is_beside(module_name)
            and importable(module_name)
        ):
            return module_name, name
    for module_name in _own_modules():
        names: dict[str, Any] = getattr(sys.modules.get(module_name), "__dict__", {})
        for other, content in list(names.items()):
            if content is value and importable(module_name):
                return module_name, other
    return None


def _is_beside(module_name: str) -> bool:
    return module_name.partition(".")[0] not in sys.stdlib_module_names


#: The program's own modules, which are not installed, and how many modules there were when they
#: were found. Kept, since to go through thousands for each object takes longer than to send it.
_own: tuple[int, list[str]] = (0, [])


def _own_modules() -> list[str]:
    global _own
    if _own[0] != len(sys.modules):
        modules = sys.modules.copy().items()
        _own = (len(modules), [name for name, module in modules if _is_own(name, module)])
    return _own[1]


def _is_own(module_name: str, module: ModuleType) -> bool:
    file = getattr(module, "__dict__", {}).get("__file__")
    return (
        type(file) is str
        and "-packages/" not in file
        and _is_beside(module_name)
        and module_name.partition(".")[0] not in ("pool", "store", "__main__", "__mp_main__")
    )


def _can_be_filled(value: Any) -> bool:
    kind: Any = type(value)
    base = native_base(kind)
    return (
        base in _FILLED
        and kind.__reduce__ is base.__reduce__
        and kind.__reduce_ex__ is base.__reduce_ex__
        and (_FILLED[base] is None or base.__len__(value) <= _WATCHED_MAX)
    )


def is_stateless(reduced: str | tuple[Any, ...]) -> bool:
    """Return whether an object has nothing but its identity.

    Parameters
    ----------
    reduced : str or tuple
        From `object.__reduce_ex__`.

    Returns
    -------
    bool
    """
    if isinstance(reduced, str):
        return False
    function, arguments, *rest = reduced
    return function is _new and len(arguments) == 1 and not any(rest)


# ---------------------------------------------------------------- in a worker

#: Calls a function when a module is imported; set where workers start.
when_imported: Callable[[str, Callable[[ModuleType], object]], object] | None = None

#: For modules that are not imported yet, by name: the objects that arrived for them, with the
#: functions to call with the modules' objects.
_awaited: dict[str, dict[str, tuple[Any, list[Callable[[Any], object]]]]] = {}

#: For modules that were awaited: their objects, and what each held when the module was imported.
_as_imported: dict[str, dict[str, tuple[Any, Any]]] = {}


#: Objects of the message that is being unpickled, by ``id``, and the modules' objects that have
#: replaced them: more names of the same objects may follow in it. None between messages.
_brought: dict[int, tuple[Any, Any]] | None = None

#: Modules that were awaited, and are imported by this message.
_arrived: dict[str, ModuleType] = {}

#: Objects of theirs that have got what came, by ``id``, and what that is.
_settled: dict[int, tuple[Any, Any]] = {}

#: For names of scopes, as far as this message tells: the module, and the name of the object there.
_places: dict[tuple[str, str], tuple[str, str]] = {}


def begin_message() -> bool:
    """Begin to unpickle a message; return whether it is no part of another one.

    What is imported by it may change objects of modules that came before: add to a registry, say.
    That was done in the program before it went on from there. So what came holds, whatever was
    there when it did and whatever comes after it. From the end of the message on it counts if
    somebody has changed them.
    """
    global _brought
    if _brought is not None:
        return False
    _brought = {}
    return True


def end_message() -> None:
    """Give objects what came for them, if modules have changed them since."""
    global _brought
    try:
        for found, contents in list(_settled.values()):
            if not _is_same(_parts(contents), _held_by(found)):
                _put(found, contents)
        for name, module in list(_arrived.items()):
            _as_imported[name] = _objects_of(module)
    finally:
        _brought = None
        for table in (_arrived, _settled, _places):
            table.clear()


def await_modules(places: dict[tuple[str, str], tuple[str, str]]) -> None:
    """Await those modules that are not imported yet: the rest of the message may import them.

    Parameters
    ----------
    places : dict
        For names, with the keys of their scopes: a module, and the name that it has there.
    """
    _places.update(places)
    for name, _ in places.values():
        if name not in sys.modules and name not in _awaited and when_imported is not None:
            _awaited[name] = {}
            when_imported(name, partial(_imported, name))


def attribute_of(home: str, name: str) -> Any:
    """Import a module and return what it has under a name."""
    __import__(home)
    return vars(sys.modules[home])[name]


def bring_home(home: str, name: str, value: Any, rebind: Callable[[Any], object]) -> None:
    """Replace an object that has arrived by that of its module, now or when it is imported.

    Parameters
    ----------
    home : str
        The module.
    name : str
        Of the object, in that module.
    value : object
        The object that has arrived.
    rebind : callable
        Called with the object of the module, which takes the place of `value`.
    """
    if _brought is not None and id(value) in _brought:
        rebind(_brought[id(value)][1])
        return
    awaited = _awaited.get(home)
    if awaited is not None:
        known = awaited.get(name)
        if known is not None and known[0] is value:
            known[1].append(rebind)
        else:
            awaited[name] = (value, [rebind])
        return
    _bring(home, name, value, [rebind])


def _bring(home: str, name: str, value: Any, rebinds: list[Callable[[Any], object]]) -> None:
    found = _take(home, name, type(value))
    if found is None or found is value:
        return
    if not _fill(found, value):
        return
    if _brought is not None:
        _brought[id(value)] = (value, found)
    for rebind in rebinds:
        rebind(found)


def _take(home: str, name: str, kind: type) -> Any:
    """Return the object that a module has had since its import, if unchanged; only once."""
    if home in _arrived:
        found = vars(_arrived[home]).get(name)
        if type(found) is not kind or id(found) in _settled:
            return None
        _settled[id(found)] = (found, _contents(found))
        return found
    found, held = _as_imported.get(home, {}).pop(name, (None, None))
    return found if type(found) is kind and _is_same(_held_by(found), held) else None


def _fill(found: Any, value: Any) -> bool:
    """Give `found` the contents of `value`; return False if such objects cannot have any."""
    kind = type(value)
    base = native_base(kind)
    methods = _FILLED[base]
    if methods is not None:
        empty, fill = methods
        empty(found)
        fill(found, value)
    for name, content in slot_values(value).items():
        object.__setattr__(found, name, content)
    if base is SimpleNamespace:
        vars(found).clear()
        vars(found).update(vars(value))
    elif kind.__dictoffset__:
        # Both get the same dict: there may be other references to the object that has arrived.
        object.__setattr__(found, "__dict__", vars(value))
    note_contents(found)
    return bool(methods or kind.__dictoffset__ or slot_names(kind))


def at_home(key: str, name: str, value: Any) -> Any:
    """Return the object of an imported module in place of one that has just been unpickled.

    Done before anything else in the message refers to the new object, such as an instance that has
    it as an attribute. Not done for objects that can share one ``__dict__``, see `_fill`.
    """
    place = _places.get((key, name))
    kind = type(value)
    if place is None or (native_base(kind) is object and kind.__dictoffset__):
        return value
    found = _take(*place, kind)
    return found if found is not None and _fill(found, value) else value


def make_empty(obj: Any) -> None:
    """Take out of a container what modules have put there since `at_home`: its items come now.

    Those of a set, or a bytearray, were what it was made of, and came by then.
    """
    base = native_base(type(obj))
    methods = _FILLED[base] if id(obj) in _settled else None
    if methods is not None:
        methods[0](obj)
        if base is set or base is bytearray:
            methods[1](obj, _settled[id(obj)][1][0])


def note_contents(obj: Any) -> None:
    """Note what an object contains, if it is that of a module which came with this message."""
    if id(obj) in _settled:
        _settled[id(obj)] = (obj, _contents(obj))


def _imported(name: str, module: ModuleType) -> None:
    # By the name under which it was awaited: a module may put another one in its place.
    if _brought is not None:
        _arrived[name] = module
    else:
        _as_imported[name] = _objects_of(module)
    for key, arguments in _awaited.pop(name).items():
        _bring(name, key, *arguments)


def _objects_of(module: ModuleType) -> dict[str, tuple[Any, Any]]:
    """Return the objects of a module that can be filled, and what they hold."""
    objects = {}
    for key, value in list(vars(module).items()):
        try:
            if id(value) not in _settled and _can_be_filled(value):
                objects[key] = value, _held_by(value)
        except Exception:
            continue  # a property of its own fails: no import is to fail for that
    return objects


def _contents(value: Any) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Return the items, slots and attributes of an object; what these hold is not looked at."""
    kind = type(value)
    base: Any = native_base(kind)
    items: Any = ()
    if issubclass(base, dict):
        items = dict(base.items(value))
    elif _FILLED[base] is not None:
        items = [*base.__iter__(value)]
    return items, slot_values(value), dict(vars(value)) if kind.__dictoffset__ else {}


def _put(obj: Any, contents: tuple[Any, dict[str, Any], dict[str, Any]]) -> None:
    items, slots, attributes = contents
    methods = _FILLED[native_base(type(obj))]
    if methods is not None:
        empty, fill = methods
        empty(obj)
        fill(obj, items)
    for name, content in slots.items():
        object.__setattr__(obj, name, content)
    if type(obj).__dictoffset__:
        vars(obj).clear()
        vars(obj).update(attributes)


def _held_by(value: Any) -> list[Any]:
    return _parts(_contents(value))


def _parts(contents: tuple[Any, dict[str, Any], dict[str, Any]]) -> list[Any]:
    found: list[Any] = []
    for part in contents:
        found += (*part, *part.values()) if type(part) is dict else part
    return found


def _is_same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(map(is_, one, other))
