"""Which variables of a module may be data, and those of its classes and functions."""

from __future__ import annotations

import sys
from abc import ABCMeta
from types import FunctionType, ModuleType

from pool._pickling._newer import LAZY

from ._data import ATOMS, DEFINITIONS, has_name, module_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

#: Modules of classes whose instances are passed over, being part of the code that is imported in
#: workers too: ``from __future__ import annotations``, type variables.
_OF_CODE = frozenset({"__future__", "typing"})


def spaces_in(name: str, module: ModuleType) -> dict[str, dict[str, Any]]:
    """Return the variables of a module, and those of its classes, that may be data."""
    variables: dict[str, Any] = {}
    found = {name: variables}
    for variable, value in dict(vars(module)).items():
        kind = type(value)
        if type(variable) is not str or variable.startswith("__"):
            continue
        if kind in ATOMS:
            variables[variable] = value
        elif issubclass(kind, DEFINITIONS):
            if not _bears_name(value, name, variable):
                variables[variable] = value
            elif kind in (type, ABCMeta) and module_of(value) == name:
                found[f"{name}:{variable}"] = _attributes(value)
            elif kind is FunctionType and value.__dict__ and module_of(value) == name:
                found[f"{name}:{variable}"] = {
                    attribute: some
                    for attribute, some in value.__dict__.items()
                    if not (attribute.startswith("__") or type(some) is FunctionType)
                }
        elif module_of(kind) not in _OF_CODE and kind is not LAZY:
            variables[variable] = value
    return {space: some for space, some in found.items() if some}


def namespaces_of(module: ModuleType, name: str) -> Iterator[dict[str, Any]]:
    """Yield copies of the names of a module, and of the classes that it has defined."""
    names = dict(vars(module))
    yield names
    for value in names.values():
        kind = type(value)
        if (kind is type or kind is ABCMeta) and module_of(value) == name:
            yield dict(vars(value))


def _attributes(kind: type) -> dict[str, Any]:
    """Return the attributes of a class that are neither methods nor made by Python.

    Nor classes that are a part of it; but those that it has chosen (``backend = Fast``).
    """
    if issubclass(kind, tuple):
        return {}  # with names for its items
    return {
        name: value
        for name, value in dict(vars(kind)).items()
        if not (name.startswith(("__", "_abc_")) or hasattr(type(value), "__get__"))
        and not (issubclass(type(value), type) and _is_made_there(value, kind, name))
    }


def _is_made_there(value: type, kind: type, name: str) -> bool:
    """Return whether an attribute of a class is a class that seems to be made for it.

    Parameters
    ----------
    value : type
        Is made within the other one, or by a call: no module has it under its name.
    kind : type
        The class whose attribute it is.
    name : str
        Of the attribute.
    """
    if not has_name(value):
        return True
    home = module_of(kind), f"{kind.__qualname__}.{name}"
    return (module_of(value), value.__qualname__) == home


def _bears_name(value: Any, name: str, variable: str) -> bool:
    """Return whether it seems to be `def`, `class` or `import` that bound a variable.

    Parameters
    ----------
    value : function, class or module
    name : str
        Of the module whose variable it is.
    variable : str
    """
    if isinstance(value, ModuleType):
        # Not by `getattr`, which would load a lazy module.
        full = object.__getattribute__(value, "__dict__").get("__name__")
        return type(value) is not ModuleType or str(full).rpartition(".")[2] == variable
    home = module_of(value)
    if home == name:
        return getattr(value, "__qualname__", "") in (variable, "<lambda>")
    # Imported, if it is still what it is called there.
    at_home = getattr(sys.modules.get(home), "__dict__", {})
    return home != "__main__" and at_home.get(variable) is value
