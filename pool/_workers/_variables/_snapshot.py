"""Find the variables of the program's own modules that workers are to have as they are now."""

from __future__ import annotations

import os
import sys
from operator import is_
from types import FunctionType, ModuleType

from pool._pickling._origins import is_named
from pool._workers._carried._setting import packed

from ._data import (
    ATOMS,
    TooLarge,
    is_filled,
    is_of_program,
    is_plain,
    known_tops,
    may_be_data,
    module_of,
    noted_tops,
    pickled,
)
from ._spaces import namespaces_of, spaces_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ._assigned import Assigned
    from ._data import Named, Packed

    #: Of one module: what is sent of each space; and by space and variable, pickled: functions and
    #: classes that have no name in a module, and that the program has put there.
    Sent = tuple[dict[str, Packed], dict[tuple[str, str], bytes]]

#: So often variables are pickled that other threads change at the same time.
TRIES = 5


class Snapshots:
    """Takes snapshots; knows which modules are the program's own."""

    def __init__(self) -> None:
        #: Those that were there at the last look at `sys.modules`; and how that looked.
        self._own: dict[str, _Known] = {}
        self._seen = 0, "", 0
        self._object = ""

    def object_as_module(self) -> str:
        """Return the name of a module of the program's with an object in its place; "" if none is.

        ``sys.modules[__name__] = Settings()``, or ``sys.modules[__name__].__class__ = Lazy``: what
        of it are variables, only its class knows.
        """
        self._all()
        return self._object

    def take_all(self) -> tuple[dict[str, Sent], str]:
        """Return what is to be sent, with all of the program's own modules, or nothing.

        Those of which nothing is sent are there for `_views`.

        Returns
        -------
        sent : dict
        lost : str
            A variable that workers can only inherit; empty if there is none.
        """
        sent, lost = self.take()
        return ({**{name: ({}, {}) for name in self._own}, **sent} if sent else sent), lost

    def take(self) -> tuple[dict[str, Sent], str]:
        """Return what is to be sent, by module; and a variable that has to be inherited, or ""."""
        modules = self._modules()
        found: dict[str, dict[str, Any]] = {}
        for name, known in modules.items():
            try:
                found.update(spaces_in(name, known.module))
            except Exception:
                continue  # it has a class that may not be asked what it is
        named = _names(found, modules)
        sent: dict[str, Sent] = {}
        lost = ""
        for space, variables in found.items():
            name, _, kind = space.partition(":")
            definitions: dict[str, bytes] = {}
            data: Packed | None = None
            try:
                definitions = self._take_definitions(modules[name], variables)
                if not kind:
                    definitions.update(_take_objects(modules[name], variables, found))
                data = _pack(modules[name], space, variables, named)
            except _HasToBeInherited as error:
                lost = f"{space.replace(':', '.')}.{error}"
            except Exception:
                continue
            if data is not None or definitions:
                of_module = sent.setdefault(name, ({}, {}))
                of_module[1].update(((space, some), pickle) for some, pickle in definitions.items())
                if data is not None:
                    of_module[0][space] = data
        return sent, lost

    def namespaces(self) -> Iterator[dict[str, Any]]:
        """Yield copies of the names of the program's own modules, and of their classes."""
        for name, module in self.modules().items():
            yield from namespaces_of(module, name)

    def is_defined(self, name: str, kind: str, attribute: str) -> bool:
        """Return whether a class of a module has a `def`, without decorators, for an attribute."""
        known = self._all().get(name)
        assigned = None if known is None else known.assigned(kind)
        return assigned is not None and attribute in assigned.defined

    def modules(self) -> dict[str, ModuleType]:
        """Return the program's own modules, by name."""
        return {name: known.module for name, known in self._all().items()}

    def _modules(self) -> dict[str, _Known]:
        """Return those modules whose files were not written since they were first looked at.

        Workers import what the others say now, and variables from before are not to be mixed with
        that.
        """
        return {name: known for name, known in self._all().items() if not known.is_edited()}

    def _all(self) -> dict[str, _Known]:
        """Return the program's own modules; quick if none was imported since the last time."""
        modules = sys.modules
        seen = _look()
        if self._seen != seen:
            known_tops.clear()  # found anew, should a package have been replaced
            # What is known of others is forgotten: it keeps alive what they have defined. A copy,
            # not a list: while that is made, Python 3.11 may run finalizers, which may import.
            self._own = {
                name: self._own.get(name) or _Known(name, module)
                for name, module in modules.copy().items()
                if _is_own(name)
            }
            self._object = next(filter(_is_object, list(modules)), "")
            self._seen = seen
        own = self._own
        for name, known in own.items():
            module = modules.get(name)
            if type(module) is ModuleType and not known.is_about(module):
                own[name] = _Known(name, module)  # loaded anew
        return {name: known for name, known in own.items() if modules.get(name) is known.module}

    def _take_definitions(self, known: _Known, variables: dict[str, Any]) -> dict[str, bytes]:
        """Take the definitions that no worker finds by a name out of the variables of a space.

        They are functions that no module has under their own name (the inner one of a decorator, a
        lambda), and functions and classes of the main module, which workers do not run.

        Parameters
        ----------
        known : _Known
            The module.
        variables : dict
            Of the module, or of a class, but not its methods. Those that are left in it are to be
            sent as data.

        Returns
        -------
        dict
            By variable, pickled: those that the program has put there. The others are where the
            import leaves them, in workers too.
        """
        definitions = {}
        for variable, value in list(variables.items()):
            if not _has_no_name(value):
                continue
            if not self._is_left_by_import(known, variable, value):
                data = packed(value)
                if data is None:
                    continue  # it stays, so no data of the module is sent
                definitions[variable] = data
            del variables[variable]
        return definitions

    def _is_left_by_import(self, known: _Known, variable: str, value: Any) -> bool:
        """Return whether it was the import of a module that bound a variable to a definition.

        Parameters
        ----------
        known : _Known
            The module.
        variable : str
        value : function or class
            One that has no name, see `_take_definitions`.
        """
        home = module_of(value)
        if home == "__main__":
            return False
        if known.left.get(variable) is value:
            return True
        assigned = known.assigned()
        if assigned is None:
            left = True  # there is nothing to tell that it was the program
        elif variable in assigned.defined:
            # By `def`; otherwise the program has put another one in its place.
            left = home == known.name
        elif assigned.imported.get(variable) and is_of_program(home):
            # By `from ... import`, if one of the other modules has it under that name.
            origin = assigned.imported[variable]
            left = any(
                vars(other.module).get(origin) is value
                for other in list(self._own.values())
                if other is not known
            )
        else:
            left = variable in assigned.made
        if left:
            known.left[variable] = value  # even when the program replaces it where it comes from
        return left


class _Known:
    """What is known of one of the program's own modules, from when it was loaded.

    Parameters
    ----------
    name : str
    module : module

    Attributes
    ----------
    left : dict
        By variable, the definitions that its import was found to have left there.
    packed : dict
        By space, if it had nothing but atoms: these, and how they were packed.
    """

    __slots__ = ("_assigned", "_spec", "_written", "left", "module", "name", "packed")

    def __init__(self, name: str, module: ModuleType) -> None:
        self.name = name
        self.module = module
        self._spec: Any = getattr(module, "__spec__", None)
        self._written: float | None = None
        self._assigned: dict[str, Assigned] | None = None
        self.left: dict[str, Any] = {}
        self.packed: dict[str, tuple[dict[str, Any], Packed | None]] = {}

    def is_about(self, module: ModuleType) -> bool:
        """Return whether this module is that one, and was not loaded again: that makes a spec."""
        return module is self.module and getattr(module, "__spec__", None) is self._spec

    def is_edited(self) -> bool:
        """Return whether the file was written since this was asked for the first time."""
        try:
            written = os.stat(self._spec.origin).st_mtime
        except (AttributeError, TypeError, OSError):
            written = 0.0  # in an archive, or of a loader of the program's own
        if self._written is None:
            self._written = written
        return self._written != written

    def assigned(self, kind: str = "") -> Assigned | None:
        """Return what the code of the module, or of a class, binds; None if it cannot be had."""
        if self._assigned is None:
            from ._assigned import assigned_in

            try:
                self._assigned = assigned_in(self.module)
            except Exception:
                self._assigned = {}
        return self._assigned.get(kind)

    def is_made_by_import(self, space: str, variable: str) -> bool:
        """Return whether the import makes an object for a variable that only it can make."""
        assigned = self.assigned(space.partition(":")[2])
        return assigned is not None and variable in assigned.made | assigned.filled

    def is_constant(self, space: str, variable: str, value: Any) -> bool:
        """Return whether a text or the like is the one that the code has, however long it is."""
        assigned = self.assigned(space.partition(":")[2])
        constants = set() if assigned is None else assigned.constants.get(variable, set())
        try:
            return bool(constants) and hash(value) in constants
        except Exception:  # another tuple, of the program's own objects
            return False

    def is_bound_by_program(self, space: str, variable: str) -> bool:
        """Return whether it surely was not the import that has made what a variable has."""
        assigned = self.assigned(space.partition(":")[2])
        return assigned is not None and variable not in assigned.made and not assigned.takes_all

    def refuse(self, space: str, variable: str) -> None:
        """Have the pool forked for a variable that cannot be sent, if the program has bound it."""
        if self.is_bound_by_program(space, variable):
            raise _HasToBeInherited(variable)


class _HasToBeInherited(Exception):
    """The program has bound a variable to what cannot be sent."""


def _take_objects(
    known: _Known, variables: dict[str, Any], found: dict[str, dict[str, Any]]
) -> dict[str, bytes]:
    """Take out of the variables of a module what the program has put there, and pickle can carry.

    A model, a generator of random numbers, settings of a library: instances of classes that are not
    the program's own, or have a way of their own to be pickled.

    Returns
    -------
    dict
        By variable, pickled: each by itself, so only what no other variable has.
    """
    objects = {}
    for variable, value in list(variables.items()):
        if may_be_data(type(value)) or not known.is_bound_by_program(known.name, variable):
            continue
        if sum(value is other for some in found.values() for other in some.values()) == 1:
            data = _packed_if_plain(value)
            if data is not None:
                objects[variable] = data
                del variables[variable]
    return objects


def _packed_if_plain(value: Any) -> bytes | None:
    try:
        return packed(value) if is_plain(value) else None
    except TooLarge:
        return None


def _pack(known: _Known, space: str, variables: dict[str, Any], named: Named) -> Packed | None:
    """Return what is to be sent of one space's data; None if there is none, or if none may be.

    Raises
    ------
    _HasToBeInherited
        If the program has bound a variable to what cannot be sent.
    """
    data = {}
    for variable, value in variables.items():
        if may_be_data(type(value)):
            data[variable] = value
        elif not known.is_made_by_import(space, variable):
            known.refuse(space, variable)
            return None
    last, packed = known.packed.get(space, ({}, None))
    if list(last) == list(data) and all(map(is_, last.values(), data.values())):
        return packed
    packed = _pack_data(known, space, data, named) if data else None
    if all(type(value) in ATOMS for value in data.values()):
        known.packed[space] = data, packed  # for the next pool: these are what they are
    return packed


def _pack_data(known: _Known, space: str, data: dict[str, Any], named: Named) -> Packed | None:
    """Return the same for variables that may be data: what they hold is to be data as well."""
    try:
        return _pickled(space, data, named)
    except Exception:
        pass  # something in one of them is not data: which?
    sent = {}
    for variable, value in data.items():
        try:
            _pickled(space, {variable: value}, named)
        except Exception:
            made = known.is_made_by_import(space, variable)
            if not made and not known.is_constant(space, variable, value):
                known.refuse(space, variable)
                return None
        else:
            sent[variable] = value
    try:
        return _pickled(space, sent, named) if sent else None
    except Exception:
        return None


def _pickled(space: str, variables: dict[str, Any], named: Named) -> Packed:
    """Pickle variables; again if another thread has changed what they hold meanwhile."""
    for _ in range(TRIES):
        try:
            return pickled(space, variables, named)
        except RuntimeError:
            continue
    return pickled(space, variables, named)


def _names(found: dict[str, dict[str, Any]], modules: dict[str, _Known]) -> Named:
    """Return the variables that stand for objects that are to be filled, by ``id``."""
    places: dict[int, list[tuple[str, str]]] = {}
    for space, variables in found.items():
        for variable, value in variables.items():
            if _is_filled(type(value)):
                places.setdefault(id(value), []).append((space, variable))
    return {
        number: some[0] if len(some) == 1 else _origin(some, modules)
        for number, some in places.items()
    }


def _is_filled(kind: type) -> bool:
    try:
        return kind not in ATOMS and is_filled(kind, is_named)
    except Exception:
        return False


def _origin(places: list[tuple[str, str]], modules: dict[str, _Known]) -> tuple[str, str]:
    """Return which of several variables an object belongs to: not one that imported it."""
    for space, variable in places:
        name, _, kind = space.partition(":")
        assigned = modules[name].assigned(kind)
        if assigned is not None and variable in assigned.own:
            return space, variable
    return places[0]


def _has_no_name(value: Any) -> bool:
    """Return whether a variable's value is a definition that no worker finds by a name."""
    kind = type(value)
    if kind is FunctionType:
        return not is_named(value)
    return issubclass(kind, type) and module_of(value) == "__main__"


def _look() -> tuple[int, str, int]:
    """Return how many modules there are, which came last, and how many were noted."""
    while True:
        try:
            return len(sys.modules), next(reversed(sys.modules), ""), len(noted_tops)
        except RuntimeError:
            continue  # another thread has just imported one


def _is_own(name: str) -> bool:
    module = sys.modules.get(name)
    return (
        type(module) is ModuleType
        and name not in ("__main__", "__mp_main__")
        and is_of_program(name)
    )


def _is_object(name: str) -> bool:
    kind = type(sys.modules.get(name))
    return kind is not ModuleType and is_of_program(module_of(kind)) and is_of_program(name)


snapshots = Snapshots()
