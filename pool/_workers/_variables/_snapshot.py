"""Find the variables of the program's own modules that workers are to have as they are now."""

from __future__ import annotations

import os
import sys
from abc import ABCMeta
from operator import is_
from types import FunctionType, ModuleType

from pool._pickling._origins import is_named
from pool._workers._carried._setting import packed

from ._data import (
    ATOMS,
    DEFINITIONS,
    is_filled,
    is_of_program,
    may_be_data,
    module_of,
    of_program,
    pickled,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._assigned import Assigned
    from ._data import Named, Packed

    #: Of one module: what is sent of each space; and by variable, pickled: functions and classes
    #: that have no name in a module, and that the program has put there.
    Sent = tuple[dict[str, Packed], dict[str, bytes]]

#: Modules of classes whose instances are no data, though modules have them: `annotations`, `Any`.
_OF_CODE = frozenset({"__future__", "typing"})


class Snapshots:
    """Takes snapshots; knows which modules are the program's own, and what their code binds."""

    def __init__(self) -> None:
        self._own: dict[str, ModuleType] = {}
        self._seen = 0, ""
        #: By module: its spec, of which a reload makes another, and when its file was written.
        self._written: dict[str, tuple[Any, float]] = {}
        #: By module: that spec, and what its code binds.
        self._known: dict[str, tuple[Any, dict[str, Assigned]]] = {}
        #: Definitions that imports were found to have left where they are.
        self._left: dict[tuple[str, str], Any] = {}
        #: By space, if it has nothing but atoms: these, and how they were packed the last time.
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
                else issubclass(kind, type) and module_of(value) == "__main__"
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
        home = module_of(value)
        if home == "__main__":
            return False
        if self._left.get((name, variable)) is value:
            return True
        assigned = self._assigned(name)
        if assigned is None:
            left = True
        elif variable in assigned.defined:
            left = home == name
        elif assigned.imported.get(variable) and is_of_program(home):
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
            of_program.clear()  # found anew, should a package have been replaced
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
                if kind not in ATOMS and is_filled(kind, is_named):
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
            if may_be_data(type(value)):
                data[variable] = value
            elif not self._is_made_by_import(name, variable):
                return None  # the program has bound it since
        last, packed = self._packed.get(name, ({}, None))
        if list(last) == list(data) and all(map(is_, last.values(), data.values())):
            return packed
        try:
            packed = pickled(name, data, named) if data else None
            if all(type(value) in ATOMS for value in data.values()):
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


def _spaces(name: str, module: ModuleType) -> dict[str, dict[str, Any]]:
    """Return the variables of a module, and those of its classes, that may be data."""
    variables: dict[str, Any] = {}
    found = {name: variables}
    for variable, value in dict(vars(module)).items():
        kind = type(value)
        if variable.startswith("__"):
            continue
        if kind in ATOMS:
            variables[variable] = value
        elif issubclass(kind, DEFINITIONS):
            if not _bears_name(value, name, variable):
                variables[variable] = value
            elif kind in (type, ABCMeta) and module_of(value) == name:
                found[f"{name}:{variable}"] = _attributes(value)
        elif module_of(kind) not in _OF_CODE:
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
    home = module_of(value)
    if home == name:
        return getattr(value, "__qualname__", "") in (variable, "<lambda>")
    return home != "__main__" and vars(sys.modules.get(home, object)).get(variable) is value


def _is_own(name: str) -> bool:
    module = sys.modules.get(name)
    return (
        type(module) is ModuleType
        and name not in ("__main__", "__mp_main__")
        and is_of_program(name)
    )


snapshots = Snapshots()
