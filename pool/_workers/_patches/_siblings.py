"""Find modules of the program of whose classes a package keeps account together.

SQLAlchemy, peewee, mongoengine or marshmallow learn of each class when it is made, and look it up
by its name later: ``relationship("Order")``, ``fields.Nested("OrderSchema")``. A task refers to the
module of `User`, and maybe it is only the main module that has imported the one of `Order`. So
workers import all such modules as soon as they have imported one of them, or one that has an object
of such a package, as ``metadata`` is, or ``db``.

Such a package has a metaclass, or an ``__init_subclass__``. One that has them for something else
costs workers some imports, which each start of a process by "spawn" would do, too.

What no import brings is inherited: models of the main module, to which those of others may be
related, and classes that a call has mapped to tables.
"""

from __future__ import annotations

import sys
from types import ModuleType

from pool._pickling._classes import is_accounted_for
from pool._workers._variables._data import module_of
from pool._workers._variables._snapshot import snapshots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

#: Packages that have a hook for new classes, and do not look them up by name: pydantic and the like
#: look at the fields, Qt makes them.
_WITHOUT_ACCOUNT = frozenset(
    {"pydantic", "pydantic_settings", "pydantic_core", "typing_extensions", "zope", "django"}
    | {"attr", "attrs", "msgspec", "sklearn", "numpy", "pandas", "torch", "PyQt5", "PyQt6", "sip"}
    | {"PySide2", "PySide6", "Shiboken", "shiboken6", "traitlets", "pool"}
)

#: Full names of classes whose objects are accounted for by name, as classes are.
_TABLES = frozenset({"sqlalchemy.sql.schema.Table"})


class _Known:
    """What is known of a module of the program.

    Attributes
    ----------
    module : module
    count : int
        How many names it had.
    defined, used : frozenset of str
        Packages that keep account of its classes; and those of which it has other objects.
    """

    __slots__ = ("count", "defined", "module", "used")

    def __init__(self, name: str, module: ModuleType) -> None:
        self.module = module
        self.count = len(vars(module))
        self.defined, self.used = _packages_of(name, module)


_known: dict[str, _Known] = {}


def siblings() -> tuple[list[tuple[str, str]], str]:
    """Return which modules workers are to import with which, and a class that no import brings.

    Returns
    -------
    pairs : list of (str, str)
        A module, and one that is to be imported when that has been. With each of those that belong
        together it is the first one, and with the first one it is all of them.
    lost : str
        A class that workers can only inherit; empty if there is none.
    """
    global _known
    modules = snapshots.modules()
    # A site of Django is set up as a whole, in an order of its own.
    if not modules or "django.apps" in sys.modules:
        return [], ""
    before = _known
    # Made anew, since other threads may go through the one that there is.
    _known = found = {name: _looked_at(name, one, before) for name, one in modules.items()}
    packages = frozenset[str]().union(*(known.defined for known in found.values()))
    pairs = [pair for package in sorted(packages) for pair in _together(package, found)]
    return pairs, _mapped_by_calls(found) or (_models_of_main() if packages else "")


def _looked_at(name: str, module: ModuleType, before: dict[str, _Known]) -> _Known:
    known = before.get(name)
    if known is None or known.module is not module or known.count != len(vars(module)):
        known = _Known(name, module)
    return known


def _together(package: str, found: dict[str, _Known]) -> Iterator[tuple[str, str]]:
    """Yield such pairs of the modules of which a package keeps account."""
    first, *others = [name for name, known in found.items() if package in known.defined]
    for name, known in found.items():
        if name != first and (package in known.defined or package in known.used):
            yield name, first
    yield from ((first, other) for other in others)


def _mapped_by_calls(found: dict[str, _Known]) -> str:
    """Return a class that is like ``registry.map_imperatively(kind, table)`` leaves it, or ""."""
    for name, known in found.items():
        for value in _classes_of(name, known.module):
            names = type.__dict__["__dict__"].__get__(value)
            if "_sa_class_manager" in names and "__tablename__" not in names:
                if not hasattr(value, "_sa_registry"):
                    return f"{name}.{value.__qualname__}"
    return ""


def _models_of_main() -> str:
    """Return a class of the main module that others may find by its name, or ""."""
    main = sys.modules.get("__main__")
    if type(main) is ModuleType:
        for value in _classes_of("__main__", main):
            if is_accounted_for(value):
                return f"__main__.{value.__qualname__}"
    return ""


def _classes_of(name: str, module: ModuleType) -> Iterator[type]:
    for value in list(vars(module).values()):
        if issubclass(type(value), type) and module_of(value) == name:
            yield value


def _packages_of(name: str, module: ModuleType) -> tuple[frozenset[str], frozenset[str]]:
    """Return the packages that keep account of a module's classes; and those of its objects."""
    hooks: set[str] = set()
    used: set[str] = set()
    for value in list(vars(module).values()):
        kind = type(value)
        home = module_of(kind)
        if not issubclass(kind, type):
            used.add(_top(home))
            if f"{home}.{kind.__qualname__}" in _TABLES:
                hooks.add(home)
        elif module_of(value) == name:
            try:
                hooks.update(_hooks(value))
            except Exception:
                continue  # the program's own metaclass is asked; no pool is to fail for that
    return frozenset(filter(_keeps_account, map(_top, hooks))), frozenset(used)


def _hooks(kind: type) -> Iterator[str]:
    """Yield the modules of what is run when a class is derived from one, or was made."""
    yield from map(module_of, type.mro(type(kind)))
    for base in kind.__mro__:
        names = vars(base)
        if "__init_subclass__" in names:
            yield module_of(base)
        if "_sa_class_manager" in names:
            yield "sqlalchemy"  # by a decorator


def _top(name: str) -> str:
    return name.partition(".")[0]


def _keeps_account(top: str) -> bool:
    from pool._workers._warmup import installed

    if top in sys.stdlib_module_names or top in _WITHOUT_ACCOUNT:
        return False
    return bool(installed(top))
