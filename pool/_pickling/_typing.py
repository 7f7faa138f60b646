"""Type parameters, aliases, new types and references to types that are defined later.

Most pickle as names of their module; those of the main module are made again. Since 3.12 Python
evaluates some of them only when their value is used, and may then miss names that are imported for
type checkers only. No task fails because of that.
"""

from __future__ import annotations

import _pickle
import sys
from types import CellType

from ._class_dicts import NAME
from ._functions import reduce_to_name
from ._origins import importable, scope_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._picklers import BasePickler


def reduce_type_parameter(pickler: BasePickler, parameter: Any) -> Any:
    """Reduce a type parameter."""
    return _known_name(pickler, parameter) or _reduced(parameter, {})


def reduce_type_variable(pickler: BasePickler, variable: Any) -> Any:
    """Reduce a type variable."""
    known = _known_name(pickler, variable)
    if known is not None:
        return known
    options = {
        "bound": _evaluated(variable, "__bound__"),
        "covariant": variable.__covariant__,
        "contravariant": variable.__contravariant__,
    }
    if getattr(variable, "__infer_variance__", False):
        options["infer_variance"] = True
    return _reduced(variable, options, *(_evaluated(variable, "__constraints__") or ()))


def _reduced(parameter: Any, options: dict[str, Any], *constraints: Any) -> tuple[Any, ...]:
    if hasattr(parameter, "has_default") and parameter.has_default():
        options["default"] = _evaluated(parameter, "__default__")
    arguments = (type(parameter), parameter.__name__, parameter.__module__, options)
    return new_type_parameter, (*arguments, *constraints)


def _evaluated(obj: Any, attribute: str) -> Any:
    """Return what may be evaluated only now, None if that fails."""
    try:
        return getattr(obj, attribute)
    except Exception:
        return None


def new_type_parameter(
    kind: Any, name: str, module: str, options: dict[str, Any], *constraints: Any
) -> Any:
    """Make a type parameter."""
    parameter = kind(name, *constraints, **options)
    parameter.__module__ = module
    return parameter


def reduce_new_type(pickler: BasePickler, new: Any) -> Any:
    """Reduce a new type."""
    return _known_name(pickler, new) or (
        new_new_type,
        (new.__qualname__, new.__supertype__, new.__module__),
    )


def new_new_type(name: str, supertype: Any, module: str) -> Any:
    """Make a new type."""
    from typing import NewType

    new = NewType(name, supertype)  # type: ignore[misc]  # made again, not declared
    new.__module__ = module
    return new


# ---------------------------------------------------------------- aliases


def reduce_type_alias(pickler: BasePickler, alias: Any) -> Any:
    """Reduce a type alias, which may be part of its own value."""
    known = _known_name(pickler, alias)
    if known is not None:
        return known
    from keyword import iskeyword

    name = alias.__name__
    if alias.__type_params__ or not name.isidentifier() or iskeyword(name):
        if pickler.aliases is None:
            pickler.aliases = {}
        if id(alias) in pickler.aliases:  # not finished, or pickle would know it
            raise _pickle.PicklingError(
                f"cannot pickle type alias {name!r}, which has parameters and is part of its value"
            )
        pickler.aliases[id(alias)] = alias
        value = _evaluated(alias, "__value__")
        arguments = (type(alias), name, str(alias.__module__), value, alias.__type_params__)
        return new_type_alias, arguments
    try:
        values = [alias.__value__]
    except Exception:
        values = []
    return new_lazy_alias, (name, str(alias.__module__)), values, None, None, fill_lazy_alias


def new_type_alias(
    kind: Any, name: str, module: str, value: Any, parameters: tuple[Any, ...]
) -> Any:
    """Make an alias of what is known already."""
    # Its module is that of the code that makes it.
    names = {"kind": kind, "name": name, "value": value, "parameters": parameters}
    exec("alias = kind(name, value, type_params=parameters)", names | {"__name__": module}, names)
    return names["alias"]


#: What aliases that are still without a value will take it from, by ``id``.
_values: dict[int, list[Any]] = {}


def new_lazy_alias(name: str, module: str) -> Any:
    """Make an alias whose value may refer to it; only a statement can."""
    values: list[Any] = []

    def evaluate() -> Any:
        if not values:
            raise NameError(f"the value of {name} could not be evaluated where it comes from")
        return values[0]

    names = {"evaluate": evaluate, "__name__": module}
    exec(f"type {name} = evaluate()", names)
    alias: Any = names[name]
    _values[id(alias)] = values
    return alias


def fill_lazy_alias(alias: Any, values: list[Any]) -> None:
    """Give an alias its value, if there is one."""
    _values.pop(id(alias)).extend(values)


# ---------------------------------------------------------------- forward references


def reduce_forward_reference(pickler: BasePickler, reference: Any) -> Any:
    """Reduce what Python 3.14 has in place of a name in an annotation that is not there yet.

    It keeps the globals of its class, all of them: receivers take their own, with what it names.
    """
    names = reference.__globals__
    where = names
    if type(names) is dict:
        scope = scope_of(names)
        where = pickler.nobodys(names) if scope is None else scope
        if scope is not None and not (scope.importable or pickler.up):
            pickler.require_names(scope, names, _named_by(reference, names))
    cells = reference.__cell__
    cells = cells if type(cells) is dict else {"": cells}
    cells = {name: cell for name, cell in cells.items() if type(cell) is CellType and name != NAME}
    contents = [
        (cell, pickler.captured(cell.cell_contents)) for cell in pickler.unfilled([*cells.values()])
    ]
    state = {
        "__arg__": reference.__forward_arg__,
        "__ast_node__": None,
        "__globals__": where,
        "__cell__": cells.get("", cells or None),
        **{name: getattr(reference, name) for name in _OF_REFERENCES},
    }
    return _new_reference, (type(reference),), (state, contents), None, None, _fill_reference


#: What else it keeps, but for what is found again when it is evaluated.
_OF_REFERENCES = (
    *("__forward_is_argument__", "__forward_is_class__", "__forward_module__"),
    *("__extra_names__", "__owner__"),
)


def _named_by(reference: Any, names: dict[str, Any]) -> list[str]:
    try:
        return [name for name in reference.__forward_code__.co_names if name in names]
    except SyntaxError:
        return []


def _new_reference(kind: Any) -> Any:
    return kind("None")  # filled later: it may be part of its owner


def _fill_reference(reference: Any, content: tuple[dict[str, Any], list[Any]]) -> None:
    state, contents = content
    for cell, value in contents:
        cell.cell_contents = value
    for name, value in state.items():
        setattr(reference, name, value)


def _known_name(pickler: BasePickler, obj: Any) -> Any:
    """Return how `obj` is reduced if its module can name it, else None."""
    name, module = obj.__name__, str(getattr(obj, "__module__", ""))
    if getattr(sys.modules.get(module), name, None) is not obj:
        return None
    if importable(module):
        return NotImplemented
    return None if pickler.inline else reduce_to_name(pickler, module, name)
