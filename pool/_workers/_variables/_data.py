"""What is data, and can be sent as it is; everything else stays with the process that has it."""

from __future__ import annotations

import _pickle
import sys
from _contextvars import ContextVar
from itertools import count
from types import BuiltinFunctionType, FunctionType, GetSetDescriptorType, ModuleType

from pool._pickling._functions import import_module
from pool._pickling._newer import BARE
from pool._pickling._origins import is_named, resolve
from pool._pickling._slots import Open, native_base, reduced_as_object
from pool._workers._warmup import is_library

from ._contents import CONTAINERS, apart, fill

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from ._contents import Recipe

    HasName = Callable[[Any], bool]

    #: By ``id`` of an object: the space and the variable that stand for it. A *space* is a module,
    #: or one of its classes (``"config:Config"``).
    Named = Mapping[int, tuple[str, str]]

    #: What is sent of one space. Pickled: its variables; how to make those whose objects are to be
    #: filled; which variables are met that are not among these. And in a pickle of its own: by
    #: variable, the contents of its object, or the value.
    Packed = tuple[bytes, bytes]

#: Bytes of all variables of a space, pickled. What is larger was loaded, rather than set.
SIZE_MAX = 256 << 10

#: Classes of most variables; nothing has to be asked about their objects.
ATOMS = frozenset({int, str, float, bool, bytes, type(None)})

#: Classes of what modules mostly have from `def`, `class` and `import`.
DEFINITIONS = (FunctionType, type, ModuleType, BuiltinFunctionType)

#: Modules whose classes make plain data that cannot be changed, apart from these containers.
_OF_DATA = frozenset(
    {"builtins", "datetime", "decimal", "fractions", "uuid", "zoneinfo", "ipaddress", "re"}
    | {"pathlib", "pathlib._local"}
)

#: Modules whose classes make functions of others. In containers they are data if these are; as
#: variables they stay what the import has made, as functions do.
_OF_FUNCTIONS = frozenset({"functools", "operator"})

#: Classes of Python's own whose instances are no more than their attributes.
_NAMESPACES = frozenset(
    {"argparse.Namespace", "types.SimpleNamespace"}
    | {"collections.ChainMap", "collections.UserDict", "collections.UserList"}
)

#: Classes in C whose items can be put into instances of classes derived from them.
_WITH_ITEMS = (dict, list)

#: What a class has under ``__dict__`` if its instances have one. Not of a class that nobody holds:
#: the collector may come between two steps, and empties it.
_NAMES = vars(Open)["__dict__"]


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
        ``has_name(function or class)`` tells whether it can be pickled as a name.

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
    body, head = Limited(), Limited()
    pickler = _Pickler(body, named, has_name)
    pickler.dump(contents)
    # An object of this space is among them if it cannot be sent: the import has made one, too.
    others = sorted({met for met in pickler.met if met[0] != name or met[1] not in recipes})
    _Pickler(head, {}, has_name).dump((list(variables), recipes, others))
    return head.content(), body.content()


class _Plain(_pickle.Pickler):
    """Takes what pickle itself can carry, as no lock or connection; functions and classes, any."""

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if issubclass(kind, (FunctionType, type)):
            return len, ((),)
        if is_proxy(kind):
            raise _NotData(f"{kind!r} may do anything when it is asked")
        return NotImplemented


def is_plain(value: Any) -> bool:
    """Return whether pickle itself can carry an object.

    Raises
    ------
    TooLarge
        If that takes more than `SIZE_MAX` bytes.
    """
    if type(value) in ATOMS:
        return True
    try:
        _Plain(Limited(), 5).dump(value)
    except TooLarge:
        raise
    except Exception:
        return False
    return True


class _NotData(_pickle.PicklingError):
    """The object is not sent."""


class TooLarge(_pickle.PicklingError):
    """There are more than `SIZE_MAX` bytes."""


class Limited:
    """A file that takes `SIZE_MAX` bytes and no more."""

    def __init__(self) -> None:
        self._left = SIZE_MAX
        self._parts: list[bytes] = []

    def write(self, data: Any) -> None:
        self._left -= memoryview(data).nbytes  # an array's buffer has no `len`
        if self._left < 0:
            raise TooLarge
        self._parts.append(bytes(data))

    def content(self) -> bytes:
        return b"".join(self._parts)


class _Pickler(_pickle.Pickler):
    """Pickles data, with a name in place of each object that is a variable of a module.

    Parameters
    ----------
    file : Limited
    named : dict
        By ``id``, the objects with names.
    has_name : callable
        ``has_name(function or class)`` tells whether it can be pickled as a name.

    Attributes
    ----------
    met : list of (str, str)
        Names that were written.
    """

    def __init__(self, file: Limited, named: Named, has_name: HasName) -> None:
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
            if module_of(obj) in ("", "__main__") or not self._has_name(obj):
                raise _NotData(f"{obj!r} has no name in a module")
        elif kind is ModuleType:
            name: str = obj.__name__
            if sys.modules.get(name) is not obj:
                raise _NotData(f"{name} cannot be imported")
            return import_module, (name,)
        elif kind is count:
            return count, _numbers_of(obj)
        elif is_fixed(kind) or module_of(kind) in _OF_FUNCTIONS:
            return NotImplemented
        elif _is_namespace(kind, self._has_name):
            # As `object` says, but nothing of the class is asked when it is made again: one with
            # `__getattr__` may not be ready for `__setstate__` while it has no attributes.
            return new, (kind,), apart(obj)[1], None, None, fill
        elif not is_filled(kind, self._has_name):
            raise _NotData(f"instance of {kind!r}")
        return NotImplemented


def _numbers_of(counter: Any) -> tuple[int, ...]:
    """Return what `itertools.count` is to be called with: its own pickling is deprecated."""
    try:
        return tuple(map(int, repr(counter)[6:-1].split(", ")))
    except ValueError:
        raise _NotData(f"{counter!r} counts in other numbers") from None


# In workers, for what `_Pickler` has reduced.


def new(kind: Any) -> Any:
    """Return an empty object; a ``__new__`` of the program's may ask for arguments, or count."""
    return native_base(kind).__new__(kind)


def module_of(definition: Any) -> str:
    """Return the module that a function or class says it is of; empty if it says none.

    One that was made where there is no `__name__` has none.
    """
    try:
        name = getattr(definition, "__module__", "")
    except Exception:  # code of somebody else's, asked for nothing but its opinion
        return ""
    return name if type(name) is str else ""


def is_proxy(kind: type) -> bool:
    """Return whether instances of a class say that they are of another one.

    `LocalProxy`, `SimpleLazyObject`, references to objects of other machines: to pickle one is to
    connect to a database, or to have the object made that it stands for.
    """
    return any("__class__" in vars(base) for base in kind.__mro__[:-1])


def is_fixed(kind: type) -> bool:
    """Return whether objects of that type cannot be changed, so that a copy is as good."""
    if module_of(kind) in _OF_DATA:
        return not is_proxy(kind)  # classes written in C that say no module seem to be built in
    if "_member_map_" in vars(kind):
        return True  # those of an enumeration are pickled by name
    if issubclass(kind, tuple):
        return hasattr(kind, "_fields")
    numpy, logging = sys.modules.get("numpy"), sys.modules.get("logging")
    if numpy is not None and issubclass(kind, (numpy.generic, numpy.dtype)):
        return True
    return logging is not None and issubclass(kind, logging.Logger)  # also pickled by name


def may_be_data(kind: type) -> bool:
    """Return whether an object of that type is data if what it holds is."""
    if kind in ATOMS or kind in (tuple, frozenset, count) or issubclass(kind, DEFINITIONS):
        return True
    return is_fixed(kind) or is_filled(kind, is_named)


def has_name(obj: Any) -> bool:
    """Return whether a function or class is what its module has under its name.

    Even if that module is being imported now, unlike `is_named`.
    """
    module = sys.modules.get(module_of(obj))
    return module is not None and resolve(vars(module), obj.__qualname__) is obj


def is_filled(kind: type, has_name: HasName) -> bool:
    """Return whether an object of that type stays, and gets the contents of the program's."""
    known = kind in CONTAINERS or kind in BARE or kind is ContextVar
    return known or _is_namespace(kind, has_name)


def _is_namespace(kind: Any, has_name: HasName) -> bool:
    """Return whether instances of a class are no more than their attributes, and perhaps items.

    Those that are a `dict` or a `list` are, whatever they say when they are pickled; others only
    if they are of the program's own classes, and pickled as `object` says: of those of other
    packages nobody knows.
    """
    name = module_of(kind)
    if f"{name}.{kind.__name__}" in _NAMESPACES:
        return True
    return (
        name not in ("", "__main__")
        and (native_base(kind) in _WITH_ITEMS or (is_of_program(name) and _is_as_object(kind)))
        and all(base in _WITH_ITEMS or _adds_nothing(base) for base in kind.__mro__[:-1])
        and has_name(kind)
    )


def _is_as_object(kind: Any) -> bool:
    return (
        reduced_as_object(kind)
        and getattr(kind, "__getstate__", None) is getattr(object, "__getstate__", None)
        and not hasattr(kind, "__setstate__")
    )


def _adds_nothing(base: type) -> bool:
    """Return whether instances have nothing else from a base class.

    And whether their `__dict__` is what it is called: proxies show another object's.
    """
    names = vars(base)
    return module_of(base) != "builtins" and isinstance(
        names.get("__dict__", _NAMES), GetSetDescriptorType
    )


#: The packages of this distribution, which may be used without being installed.
_THESE = frozenset({__name__.partition(".")[0], "store"})

#: By top-level module, what `is_of_program` has found.
known_tops: dict[str, bool] = {}

#: Installed top-level modules that are the program's own nevertheless, see `pool._faces._makers`.
noted_tops: set[str] = set()


def note_program(top: str) -> None:
    """Have an installed top-level module be the program's own from now on."""
    noted_tops.add(top)
    known_tops.pop(top, None)


def is_of_program(name: str) -> bool:
    """Return whether a module is the program's own.

    So are those that do not come with Python, were not installed and are not of ours, and those
    that were noted.
    """
    top = name.partition(".")[0]
    known = known_tops.get(top)
    if known is None:
        known = top not in _THESE and (top in noted_tops or not is_library(top))
        if sys.modules.get(top) is not None:  # else no file tells, until it is imported again
            known_tops[top] = known
    return known


def is_programs(definition: Any) -> bool:
    """Return whether a function or class is of the main module, or another one of the program's."""
    home = module_of(definition)
    return home == "__main__" or is_of_program(home)
