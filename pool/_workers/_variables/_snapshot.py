"""Find the variables of the program's own modules that workers are to have as they are now."""

from __future__ import annotations

import _pickle
import os
import sys
from abc import ABCMeta
from operator import is_
from types import BuiltinFunctionType, FunctionType, GetSetDescriptorType, ModuleType

from pool._pickling._origins import is_named, resolve
from pool._workers._carried._setting import packed
from pool._workers._warmup import installed

from ._contents import CONTAINERS, apart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from ._assigned import Assigned
    from ._contents import Recipe

    HasName = Callable[[Any], bool]

    #: By ``id`` of an object: the space and the variable that stand for it. A *space* is a module,
    #: or one of its classes (``"config:Config"``).
    Named = Mapping[int, tuple[str, str]]

    #: What is sent of one space. Pickled: its variables; how to make those whose objects are to be
    #: filled; which variables of other spaces are met. And in a pickle of its own: by variable,
    #: the contents of its object, or the value.
    Packed = tuple[bytes, bytes]

    #: Of one module: what is sent of each space; and by variable, pickled: functions and classes
    #: that have no name in a module, and that the program has put there.
    Sent = tuple[dict[str, Packed], dict[str, bytes]]

#: Bytes of all variables of a space, pickled. What is larger was loaded, rather than set.
SIZE_MAX = 256 << 10

#: Classes of most variables; nothing has to be asked about their objects.
_ATOMS = frozenset({int, str, float, bool, bytes, type(None)})

#: Modules whose classes make plain data that cannot be changed, apart from these containers.
_OF_DATA = frozenset(
    {"builtins", "datetime", "decimal", "fractions", "uuid", "zoneinfo", "ipaddress", "re"}
)

#: Classes of Python's own whose instances are no more than their attributes.
_NAMESPACES = frozenset({"argparse.Namespace", "types.SimpleNamespace"})

#: What a class has under ``__dict__``.
_NAMES = vars(type("", (), {}))["__dict__"]

#: Modules of classes whose instances are no data, though modules have them: `annotations`, `Any`.
_OF_CODE = frozenset({"__future__", "typing"})


#: Classes of what modules mostly have from `def`, `class` and `import`.
_DEFINITIONS = (FunctionType, type, ModuleType, BuiltinFunctionType)


class _NotData(_pickle.PicklingError):
    """The object is not sent."""


class _Limited:
    """A file that takes `SIZE_MAX` bytes and no more."""

    def __init__(self) -> None:
        self._left = SIZE_MAX
        self._parts: list[bytes] = []

    def write(self, data: Any) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise _NotData("too large")
        self._parts.append(bytes(data))

    def content(self) -> bytes:
        return b"".join(self._parts)


class _Pickler(_pickle.Pickler):
    """Pickles data, with a name in place of each object that is a variable of a module.

    Parameters
    ----------
    file : _Limited
    named : dict
        By ``id``, the objects with names.
    has_name : callable
        ``has_name(function or class)`` tells whether it can be pickled by its own.

    Attributes
    ----------
    met : list of (str, str)
        Names that were written.
    """

    def __init__(self, file: _Limited, named: Named, has_name: HasName) -> None:
        super().__init__(file, 5)
        self._named = named
        self._has_name = has_name
        self.met: list[tuple[str, str]] = []

    def persistent_id(self, obj: Any) -> tuple[str, str] | None:
        name = self._named.get(id(obj))
        if name is not None:
            self.met.append(name)
        return name

    def reducer_override(self, obj: Any) -> Any:
        kind: Any = type(obj)
        if kind is FunctionType or issubclass(kind, type):
            if _module_of(obj) in ("", "__main__") or not self._has_name(obj):
                raise _NotData(f"{obj!r} has no name in a module")
        elif kind is ModuleType:
            name: str = obj.__name__
            if sys.modules.get(name) is not obj:
                raise _NotData(f"{name} cannot be imported")
            return _module, (name,)
        elif _is_fixed(kind):
            return NotImplemented
        elif _is_namespace(kind, self._has_name):
            # As `object` says, but nothing of the class is asked when it is made again: one with
            # `__getattr__` may not be ready for `__setstate__` while it has no attributes.
            return _new, (kind,), dict(vars(obj)), None, None, _set
        elif not _is_filled(kind, self._has_name):
            raise _NotData(f"instance of {kind!r}")
        return NotImplemented


def _module(name: str) -> ModuleType:
    __import__(name)
    return sys.modules[name]


def _new(kind: Any) -> Any:
    return object.__new__(kind)


def _set(instance: Any, attributes: dict[str, Any]) -> None:
    vars(instance).update(attributes)


def _module_of(definition: Any) -> str:
    # One that was made where there is no `__name__` has none.
    try:
        name = getattr(definition, "__module__", "")
    except Exception:  # code of somebody else's, asked for nothing but its opinion
        return ""
    return name if type(name) is str else ""


def _is_fixed(kind: type) -> bool:
    """Return whether objects of that type cannot be changed, so that a copy is as good."""
    if _module_of(kind) in _OF_DATA or "_member_map_" in vars(kind):
        return True  # those of an enumeration are pickled by name
    if issubclass(kind, tuple):
        return hasattr(kind, "_fields")
    numpy, logging = sys.modules.get("numpy"), sys.modules.get("logging")
    if numpy is not None and issubclass(kind, (numpy.generic, numpy.dtype)):
        return True
    return logging is not None and issubclass(kind, logging.Logger)  # also pickled by name


def _may_be_data(kind: type) -> bool:
    """Return whether an object of that type is data if what it holds is."""
    if kind in _ATOMS or kind in (tuple, frozenset) or issubclass(kind, _DEFINITIONS):
        return True
    return _is_fixed(kind) or _is_filled(kind, is_named)


def has_name(obj: Any) -> bool:
    """Return whether a function or class is what its module has under its name.

    Even if that module is being imported now, unlike `is_named`.
    """
    module = sys.modules.get(_module_of(obj))
    return module is not None and resolve(vars(module), obj.__qualname__) is obj


def _is_filled(kind: type, has_name: HasName) -> bool:
    """Return whether an object of that type stays, and gets the contents of the program's."""
    return kind in CONTAINERS or kind is object or _is_namespace(kind, has_name)


def _is_namespace(kind: Any, has_name: HasName) -> bool:
    """Return whether instances of a class are no more than the attributes in their ``__dict__``.

    That is so for classes of the program's own that are pickled as `object` says; of those of other
    packages nobody knows.
    """
    name = _module_of(kind)
    if f"{name}.{kind.__name__}" in _NAMESPACES:
        return True
    return (
        name not in ("", "__main__")
        and _is_of_program(name)
        and all(_adds_nothing(base) for base in kind.__mro__[:-1])
        and kind.__dictoffset__ != 0
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
        and getattr(kind, "__getstate__", None) is getattr(object, "__getstate__", None)
        and not hasattr(kind, "__setstate__")
        and has_name(kind)
    )


def _adds_nothing(base: type) -> bool:
    """Return whether instances have nothing else from a base class: no items, no slots.

    And whether their `__dict__` is what it is called: proxies show another object's.
    """
    names = vars(base)
    return (
        _module_of(base) != "builtins"
        and not names.get("__slots__")
        and isinstance(names.get("__dict__", _NAMES), GetSetDescriptorType)
    )


class Snapshots:
    """Takes snapshots; knows which modules are the program's own, and what their code binds."""

    def __init__(self) -> None:
        self._own: dict[str, ModuleType] = {}
        self._seen = 0, ""
        #: By module: its spec, of which a reload makes another, and when its file was written.
        self._written: dict[str, tuple[Any, float]] = {}
        self._known: dict[str, tuple[Any, dict[str, Assigned]]] = {}
        self._left: dict[tuple[str, str], Any] = {}
        self._packed: dict[str, tuple[dict[str, Any], Packed | None]] = {}

    def take(self) -> dict[str, Sent]:
        """Return what is to be sent, by module."""
        found: dict[str, dict[str, Any]] = {}
        modules = self._modules()
        for name, module in modules:
            found.update(_spaces(name, module))
        named = self._names(found)
        sent: dict[str, Sent] = {}
        for space, variables in found.items():
            functions = self._take_functions(space, variables)
            data = self._pack(space, variables, named)
            if data is not None or functions:
                of_module = sent.setdefault(space.partition(":")[0], ({}, {}))
                of_module[1].update(functions)
                if data is not None:
                    of_module[0][space] = data
        return sent

    def _take_functions(self, name: str, variables: dict[str, Any]) -> dict[str, bytes]:
        """Take the functions, and classes of the main module, from variables that have no name.

        Returns
        -------
        dict
            By variable, pickled: those that the program has put there.
        """
        functions = {}
        for variable, value in list(variables.items()):
            kind = type(value)
            if (
                not is_named(value)
                if kind is FunctionType
                else issubclass(kind, type) and _module_of(value) == "__main__"
            ):
                if not self._is_left_by_import(name, variable, value):
                    data = packed(value)
                    if data is None:
                        continue  # so nothing of the module is sent
                    functions[variable] = data
                del variables[variable]
        return functions

    def _is_left_by_import(self, name: str, variable: str, value: Any) -> bool:
        """Return whether the import of a module has bound a variable to this definition."""
        home = _module_of(value)
        if home == "__main__":
            return False
        if self._left.get((name, variable)) is value:
            return True
        assigned = self._assigned(name)
        if assigned is None:
            left = True
        elif variable in assigned.defined:
            left = home == name
        elif assigned.imported.get(variable) and _is_of_program(home):
            origin = assigned.imported[variable]
            others = [self._own[other] for other in self._own if other != name]
            left = any(vars(module).get(origin) is value for module in others)
        else:
            left = variable in assigned.made
        if left:
            self._left[name, variable] = value
        return left

    def take_all(self) -> dict[str, Sent]:
        """Return the same, with all of the program's own modules, for `_views`; or nothing."""
        sent = self.take()
        return {**{name: ({}, {}) for name in self._own}, **sent} if sent else sent

    def _modules(self) -> list[tuple[str, ModuleType]]:
        """Return the program's own modules; quick if none was imported since the last time."""
        modules = sys.modules
        seen = len(modules), next(reversed(modules), "")
        if self._seen != seen:
            self._own = {name: module for name, module in list(modules.items()) if _is_own(name)}
            self._seen = seen
            _of_program.clear()  # found anew, should a package have been replaced
        return [
            (name, module)
            for name, module in self._own.items()
            if modules.get(name) is module and not self._is_edited(name, module)
        ]

    def _is_edited(self, name: str, module: ModuleType) -> bool:
        """Return whether a module's file was written since the first look at it.

        Workers import what it says now; variables from before are not to be mixed with that.
        """
        spec = module.__spec__
        try:
            written = os.stat(spec.origin).st_mtime  # type: ignore[union-attr, arg-type]  # else raised
        except (AttributeError, TypeError, OSError):
            written = 0.0  # in an archive, or of a loader of the program's own
        known = self._written.get(name)
        if known is None or known[0] is not spec:
            known = self._written[name] = spec, written
        return known[1] != written

    def _names(self, found: dict[str, dict[str, Any]]) -> Named:
        """Return the variables that stand for objects that are to be filled, by ``id``."""
        places: dict[int, list[tuple[str, str]]] = {}
        for name, variables in found.items():
            for variable, value in variables.items():
                kind = type(value)
                if kind not in _ATOMS and _is_filled(kind, is_named):
                    places.setdefault(id(value), []).append((name, variable))
        return {
            number: some[0] if len(some) == 1 else self._origin(some)
            for number, some in places.items()
        }

    def _origin(self, places: list[tuple[str, str]]) -> tuple[str, str]:
        """Return which of several variables an object belongs to: not one that imported it."""
        for name, variable in places:
            assigned = self._assigned(name)
            if assigned is not None and variable in assigned.own:
                return name, variable
        return places[0]

    def _pack(self, name: str, variables: dict[str, Any], named: Named) -> Packed | None:
        """Return what is to be sent of one space, or None."""
        data = {}
        for variable, value in variables.items():
            if _may_be_data(type(value)):
                data[variable] = value
            elif not self._is_made_by_import(name, variable):
                return None  # the program has bound it since
        last, packed = self._packed.get(name, ({}, None))
        if list(last) == list(data) and all(map(is_, last.values(), data.values())):
            return packed
        try:
            packed = pickled(name, data, named) if data else None
            if all(type(value) in _ATOMS for value in data.values()):
                self._packed[name] = data, packed  # for the next pool: these are what they are
            return packed
        except Exception:
            pass  # something in one of them is not data: which?
        for variable, value in list(data.items()):
            try:
                pickled(name, {variable: value}, named)
            except Exception:
                if not self._is_made_by_import(name, variable):
                    return None
                del data[variable]
        try:
            return pickled(name, data, named) if data else None
        except Exception:
            return None  # another thread has changed it meanwhile

    def _is_made_by_import(self, name: str, variable: str) -> bool:
        assigned = self._assigned(name)
        return assigned is not None and variable in assigned.made

    def _assigned(self, space: str) -> Assigned | None:
        """Return what the code of a space binds; None if it cannot be had."""
        name, _, kind = space.partition(":")
        module = self._own[name]
        known = self._known.get(name)
        if known is None or known[0] is not module.__spec__:
            from ._assigned import assigned_in

            try:
                known = module.__spec__, assigned_in(module)
            except Exception:
                known = module.__spec__, {}
            self._known[name] = known
        return known[1].get(kind)


def pickled(
    name: str,
    variables: dict[str, Any],
    named: Named,
    has_name: HasName = is_named,
) -> Packed:
    """Pickle variables of a space.

    Parameters
    ----------
    name : str
        Of the space.
    variables : dict
    named : dict
        By ``id`` of an object, the space and the variable that stand for it.
    has_name : callable
        ``has_name(function or class)`` tells whether it can be pickled by its own.

    Raises
    ------
    Exception
        If one of them is not data, or they are more than `SIZE_MAX`.
    """
    recipes: dict[str, Recipe] = {}
    contents = {}
    for variable, value in variables.items():
        if named.get(id(value)) == (name, variable):
            recipes[variable], value = apart(value)
        contents[variable] = value
    body, head = _Limited(), _Limited()
    pickler = _Pickler(body, named, has_name)
    pickler.dump(contents)
    others = sorted({met for met in pickler.met if met[0] != name})
    _Pickler(head, {}, has_name).dump((list(variables), recipes, others))
    return head.content(), body.content()


def _spaces(name: str, module: ModuleType) -> dict[str, dict[str, Any]]:
    """Return the variables of a module, and those of its classes, that may be data."""
    variables: dict[str, Any] = {}
    found = {name: variables}
    for variable, value in dict(vars(module)).items():
        kind = type(value)
        if variable.startswith("__"):
            continue
        if kind in _ATOMS:
            variables[variable] = value
        elif issubclass(kind, _DEFINITIONS):
            if not _bears_name(value, name, variable):
                variables[variable] = value
            elif kind in (type, ABCMeta) and _module_of(value) == name:
                found[f"{name}:{variable}"] = _attributes(value)
        elif _module_of(kind) not in _OF_CODE:
            variables[variable] = value
    return {space: some for space, some in found.items() if some}


def _attributes(kind: type) -> dict[str, Any]:
    """Return the attributes of a class that are neither methods nor made by Python."""
    if issubclass(kind, tuple):
        return {}  # with names for its items
    return {
        name: value
        for name, value in dict(vars(kind)).items()
        if not (name.startswith(("__", "_abc_")) or hasattr(type(value), "__get__"))
        and not issubclass(type(value), type)
    }


def _bears_name(value: Any, name: str, variable: str) -> bool:
    """Return whether it seems to be `def`, `class` or `import` that bound a variable."""
    if isinstance(value, ModuleType):
        # Not by `getattr`, which would load a lazy module.
        full = object.__getattribute__(value, "__dict__").get("__name__")
        return type(value) is not ModuleType or str(full).rpartition(".")[2] == variable
    home = _module_of(value)
    if home == name:
        return getattr(value, "__qualname__", "") in (variable, "<lambda>")
    return home != "__main__" and vars(sys.modules.get(home, object)).get(variable) is value


def _is_own(name: str) -> bool:
    module = sys.modules.get(name)
    return (
        type(module) is ModuleType
        and name not in ("__main__", "__mp_main__")
        and _is_of_program(name)
    )


def _is_of_program(name: str) -> bool:
    """Return whether a module does not come with Python, was not installed, and is not of ours."""
    top = name.partition(".")[0]
    known = _of_program.get(top)
    if known is None:
        own = top not in sys.stdlib_module_names and top not in _THESE and not installed(top)
        known = _of_program[top] = own
    return known


#: What was found so, by top-level module.
_of_program: dict[str, bool] = {}

#: The packages of this distribution, which may be used without being installed.
_THESE = frozenset({__name__.partition(".")[0], "store"})

snapshots = Snapshots()
