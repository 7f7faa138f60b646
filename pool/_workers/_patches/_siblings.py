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
#: look at the fields, Cython and Qt make them; what Django knows is in `pool._workers._carried`.
_WITHOUT_ACCOUNT = frozenset(
    {"pydantic", "pydantic_settings", "pydantic_core", "typing_extensions", "zope", "django"}
    | {"attr", "attrs", "msgspec", "sklearn", "numpy", "pandas", "torch", "PyQt5", "PyQt6", "sip"}
    | {"PySide2", "PySide6", "Shiboken", "shiboken6", "traitlets", "ctypes", "cython", "pool"}
)

#: Full names of classes whose objects are accounted for by name, as classes are.
_TABLES = frozenset({"sqlalchemy.sql.schema.Table"})

#: By name of a module: it, and how many names it had; packages that keep account of its classes;
#: and those of which it has other objects.
_known: dict[str, tuple[ModuleType, int, frozenset[str], frozenset[str]]] = {}


def imported_together() -> Iterator[tuple[str, str]]:
    """Yield which modules workers are to import when they have imported which: one, the other.

    With each of those that belong together it is the first one, and with that it is all of them.
    """
    modules = snapshots.modules()
    if not modules:
        return
    for gone in _known.keys() - modules.keys():
        del _known[gone]
    for name, module in modules.items():
        known = _known.get(name)
        if known is None or known[0] is not module or known[1] != len(vars(module)):
            _known[name] = module, len(vars(module)), *_packages_of(name, module)
    packages = frozenset().union(*(defined for _, _, defined, _ in _known.values()))
    for package in sorted(packages):
        defining = [name for name, known in _known.items() if package in known[2]]
        first, *others = defining
        for name, (_, _, defined, used) in _known.items():
            if name != first and package in defined | used:
                yield name, first
        yield from ((first, other) for other in others)


def to_be_inherited() -> str:
    """Return the name of a class that is known to others as no import would have it, or ""."""
    for name, known in _known.items():
        for value in _classes_of(name, known[0]):
            if _is_mapped_by_call(value):
                return f"{name}.{value.__qualname__}"
    main = sys.modules.get("__main__")
    if any(known[2] for known in _known.values()) and type(main) is ModuleType:
        for value in _classes_of("__main__", main):
            if is_accounted_for(value):
                return f"__main__.{value.__qualname__}"
    return ""


def _classes_of(name: str, module: ModuleType) -> Iterator[type]:
    for value in list(vars(module).values()):
        if issubclass(type(value), type) and module_of(value) == name:
            yield value


def _is_mapped_by_call(kind: type) -> bool:
    """Return whether it is like ``registry.map_imperatively(kind, table)`` leaves it."""
    names = type.__dict__["__dict__"].__get__(kind)
    return "_sa_class_manager" in names and not (
        "__tablename__" in names or hasattr(kind, "_sa_registry")
    )


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
