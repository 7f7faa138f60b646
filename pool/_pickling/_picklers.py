"""The picklers: what goes as a name, as a token, or as a definition.

`FastPickler` pickles the body of a message. For a function or class that travels by value and has
a token, it writes the token and notes that a definition is needed. The definitions precede the
body in a prelude, which is pickled once for many messages (see `_preludes`). A function without a
token, such as a lambda, is defined in the body itself.

`_reach.ReachPickler`, on top of cloudpickle, does the same and can pickle more; it is
imported when `FastPickler` has failed.
"""

from __future__ import annotations

import _pickle
import sys
from copyreg import dispatch_table as _dispatch_table
from types import (
    CellType,
    FunctionType,
    MethodType,
    ModuleType,
)

from store._codec import WATCHED, reduce_large

from ._builtin_types import reduce_type
from ._class_dicts import ClassDict, dict_of
from ._constants import constants_of, reduce_constant
from ._descriptors import KINDS, reduce_described
from ._functions import (
    reduce_function,
    reduce_lru,
    resolve_token,
    token_of,
)
from ._identity import introduce
from ._namespaces import new_globals
from ._originals import is_replaced, reduce_original
from ._origins import (
    LruType,
    canonical,
    found_in,
    is_named,
    is_wrapped,
    real_module,
    rewritten,
    wrapped_in,
)
from ._reducers import find, find_late
from ._shared import captured, is_primitive
from ._slots import reduced_as_object
from ._special import BY_TYPE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from ._descriptors import Offer
    from ._identity import Entry
    from ._notes import Notes
    from ._origins import Scope
    from ._shared import Sharing

    #: What a message needs: the object of each token, the globals of each (scope, name), and,
    #: by bytes, what loaders have made of modules.
    Needs = dict[str | tuple[str, str] | bytes, Any]

#: Modules for whose types `_reducers` may have a reducer. Their types themselves are not listed,
#: since that would import the modules.
_WATCHED = frozenset(
    {
        *WATCHED,
        "__main__",
        "_io",
        "_queue",
        "_thread",
        "_weakrefset",
        "annotationlib",
        "boto3.resources.factory",
        "boto3.session",
        "botocore.client",
        "botocore.session",
        "concurrent.futures.thread",
        "dataclasses",
        "functools",
        "io",
        "multiprocessing.pool",
        "queue",
        "ray",
        "store",
        "tempfile",
        "threading",
        "toolz.functoolz",
        "typing",
        "weakref",
    }
)

#: Reducers by exact type: those of `_special`, and of others that were found.
_SPECIAL: dict[type, Any] = dict(BY_TYPE)


class _Nobodys:
    """Globals that belong to no module, within one pickle."""

    __slots__ = ("_name", "names")

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names  # kept alive: the pickler knows it by its id
        name = names.get("__name__")
        self._name = name if isinstance(name, str) else None

    def __reduce__(self) -> tuple[Any, ...]:
        return new_globals, (self._name,)


class BasePickler:
    """Base of the picklers: decides how objects are pickled, and takes notes for one pickle.

    Attributes
    ----------
    up : bool
        Whether the pickle goes from a worker to its parent, which has what it has sent.
    inline : bool
        Whether definitions are written into this pickle: it is a prelude.
    annotations : bool
        Whether functions keep their annotations.
    implicit : bool
        Whether functions bring globals that they may use without naming them; see `_implicit`.
    needs : dict
        What a prelude has to define.
    notes : Notes or None
        What the pickle depends on, if it is to be used again.
    named, containers : dict
        In a prelude: objects that are known by their names, see `_named`.
    sharing : Sharing or None
        How arrays on shared memory are sent; None: as copies.
    throughout : bool
        Whether arrays of the pickled object itself are shared too, not only globals.
    offers : list or None
        Collects the descriptors that are offered to the one process which will read the pickle;
        None: several may read it, see `_descriptors`.
    deferred : list or None
        Collects attributes of classes that are set only after simple globals; None: set at once.
    later : list or None
        Likewise the values that functions hold, as defaults for instance.
    late : bool
        Whether reducers are tried that are for objects which could not be pickled otherwise. In a
        prelude they always are.
    """

    up = False
    inline = False
    annotations = True
    implicit = True
    needs: Needs | None = None
    filled: dict[int, CellType] | None = None
    notes: Notes | None = None
    named: dict[int, tuple[Scope, str, dict[str, Any]]] | None = None
    containers: dict[int, Any]
    sharing: Sharing | None = None
    throughout = False
    offers: list[Offer] | None = None
    deferred: list[Any] | None = None
    later: list[Any] | None = None
    late = False
    known_nobodys: dict[int, _Nobodys] | None = None
    #: By ``id``, type aliases with parameters that were met.
    aliases: dict[int, Any] | None = None
    #: By ``id`` of its namespace, each class whose definition is in this pickle.
    class_dicts: dict[int, type] | None = None
    #: By class, instances that its module has, see `_constants`.
    constants: dict[type, dict[int, str]] | None = None

    def reducer_override(self, obj: Any) -> Any:
        """Decide how `obj` is pickled; pickle calls it for all but some built-in types."""
        if self.named is not None and id(obj) in self.named:
            from ._named import reduce_named

            return reduce_named(self, obj, *self.named[id(obj)])
        return self.reduce_unnamed(obj)

    def reduce_unnamed(self, obj: Any) -> Any:
        """Reduce an object that is not in `named`."""
        kind = type(obj)
        if kind is FunctionType:
            return self._function(obj)
        if kind is type:
            return self.reduce_class(obj)
        registered = _registered(kind, obj)
        if registered is not None:
            return self._as_registered(obj, kind, registered)
        special = _SPECIAL.get(kind)
        if special is not None:
            return special(self, obj)
        # Not isinstance: proxies claim to be of another class, and may raise.
        if issubclass(kind, type):
            return self.reduce_class(obj)
        if kind.__module__ in _WATCHED:
            return self._watched(obj, kind)
        return self.reduce_other(obj, kind)

    def _as_registered(self, obj: Any, kind: type, registered: Any) -> Any:
        if (kind.__module__, kind.__qualname__) in KINDS:
            return reduce_described(self, obj, registered)
        if self.throughout and self.sharing is not None and is_primitive(obj):
            reduced = self.sharing.inherit(obj)
            if reduced is not NotImplemented:
                return reduced
        return registered(obj)

    def reduce_other(self, obj: Any, kind: type) -> Any:
        """Reduce an object of a type for which there is no reducer."""
        reducer = None
        if self.inline or self.late:
            if issubclass(kind, ModuleType):
                from ._modules import reduce_by_value

                return reduce_by_value(self, obj)
            reducer = find_late(obj, kind)
        reduced = self._reduce_usually(obj, kind) if reducer is None else reducer(self, obj)
        if reduced is NotImplemented and self.inline:
            if type(kind.__new__) is FunctionType:
                from ._classes import reduce_instance

                return reduce_instance(obj, kind)
            if any("__getattr__" in vars(base) for base in kind.__mro__):
                from ._named import reduce_forwarding

                return reduce_forwarding(obj, kind)
        return reduced

    def _reduce_usually(self, obj: Any, kind: type) -> Any:
        if issubclass(kind, BaseException):
            from ._exceptions import reduce_exception

            return reduce_exception(obj)
        if self.throughout and self.sharing is not None:
            reduced = self.sharing.reduce(obj)
            if reduced is not NotImplemented:
                return reduced
        if self.inline or self.throughout:
            constants = self._constants_of(kind)
            if id(obj) in constants:
                reduced = reduce_constant(obj, kind, constants[id(obj)])
                if reduced is not NotImplemented:
                    return reduced
        if type(kind.__new__) is FunctionType and _cannot_be_made(kind):
            # Plain pickle would write it, and fail to read it.
            raise _pickle.PicklingError(
                f"cannot pickle {kind.__qualname__!r} object: its __new__ takes arguments, and "
                "without __getnewargs__ nobody knows which"
            )
        return NotImplemented

    def _constants_of(self, kind: type) -> dict[int, str]:
        if self.constants is None:
            self.constants = {}
        found = self.constants.get(kind)
        if found is None:
            found = self.constants[kind] = constants_of(kind)
        return found

    # ------------------------------------------------------------ functions, classes

    def _function(self, func: FunctionType) -> Any:
        if is_named(func):
            return self._by_name(func)
        if is_replaced(func) and not self.up:
            return reduce_original(func)
        entry = token_of(func)
        if entry is not None and self._is_bare(entry):
            return self._bare(entry, func)
        return reduce_function(self, func, entry)

    def cached(self, obj: Any) -> Any:
        """Reduce a function under `functools.lru_cache`."""
        if is_named(obj):
            return self._by_name(obj)
        entry = token_of(obj)
        if entry is not None and self._is_bare(entry):
            return self._bare(entry, obj)
        return reduce_lru(self, obj, entry)

    def reduce_class(self, kind: Any) -> Any:
        """Reduce a class."""
        if is_named(kind):
            return reduce_type(kind) if kind.__module__ == "builtins" else self._by_name(kind)
        if is_wrapped(kind):
            # The worker imports the module, whose functions use the class: no second copy of it.
            return wrapped_in, (kind.__module__, kind.__qualname__)
        real = real_module(kind)
        if real is not None:
            return found_in, (real, kind.__qualname__)
        if is_replaced(kind) and not self.up:
            return reduce_original(kind)
        entry = introduce(kind)
        if self._is_bare(entry):
            return self._bare(entry, kind)
        return self.define_class(kind, entry)

    def define_class(self, kind: type, entry: Entry) -> Any:
        """Reduce a class to its definition."""
        from ._classes import reduce_definition

        return reduce_definition(self, kind, entry)

    def _by_name(self, obj: Any) -> Any:
        """Leave it to pickle, which writes a name."""
        if rewritten:
            self.require_module(obj.__module__)
        return NotImplemented

    def _is_bare(self, entry: Entry) -> bool:
        return not self.inline or (self.up and entry.above)

    def _bare(self, entry: Entry, obj: Any) -> Any:
        if self.up and entry.above:
            # With the name, under which the parent may have a new object if this one is gone.
            return resolve_token, (entry.token, canonical(obj.__module__), obj.__qualname__)
        self.require(entry.token, obj)
        return resolve_token, (entry.token,)

    # ------------------------------------------------------------ notes

    def require(self, key: str | tuple[str, str] | bytes, what: Any) -> None:
        """Note that the receiver must have a token, a name of a scope, or a module as it is."""
        if self.needs is None:
            self.needs = {}
        self.needs[key] = what

    def require_names(self, scope: Scope, names: dict[str, Any], required: Iterable[str]) -> None:
        """Note which names of a scope the receiver must have."""
        for name in required:
            self.require((scope.key, name), names)

    def require_module(self, name: str) -> None:
        """Note that the receiver must have the functions of a module as they are here."""
        what = rewritten.get(name)
        if what is not None and not self.up:
            self.require(what.key, what)

    def unfilled(self, cells: Sequence[CellType]) -> list[CellType]:
        """Return the cells whose contents are still to be pickled; note them as pickled."""
        filled = self.filled
        if filled is None:
            filled = self.filled = {}
        fresh = [cell for cell in cells if id(cell) not in filled]
        filled.update((id(cell), cell) for cell in fresh)
        return [cell for cell in fresh if not _is_empty(cell)]

    def add_class_dict(self, kind: type) -> None:
        """Note that a class is pickled, in case functions have captured its namespace."""
        if self.class_dicts is None:
            self.class_dicts = {}
        self.class_dicts[id(dict_of(kind))] = kind

    def captured(self, value: Any) -> Any:
        """Return what is to be pickled for a variable that a function has captured."""
        if type(value) is dict and self.class_dicts is not None:
            kind = self.class_dicts.get(id(value))
            if kind is not None:
                return ClassDict(kind)
        return captured(self, value)

    def nobodys(self, names: dict[str, Any]) -> _Nobodys:
        """Return what stands for globals that belong to no module."""
        if self.known_nobodys is None:
            self.known_nobodys = {}
        return self.known_nobodys.setdefault(id(names), _Nobodys(names))

    # ------------------------------------------------------------ the rest

    def _watched(self, obj: Any, kind: type) -> Any:
        if kind.__module__ in WATCHED:
            if self.throughout and self.sharing is not None:
                reduced = self.sharing.reduce(obj)
                if reduced is not NotImplemented:
                    return reduced
            return reduce_large(obj)
        reducer = find(kind)
        if reducer is None:
            return self.reduce_other(obj, kind)
        if kind.__module__ != "__main__":
            _SPECIAL[kind] = reducer
        return reducer(self, obj)


def _cannot_be_made(kind: Any) -> bool:
    """Return whether instances are reduced as `object` does it, and `__new__` needs more than that.

    Parameters
    ----------
    kind : type
        Its ``__new__`` is written in Python.
    """
    new = kind.__new__
    needed: int = new.__code__.co_argcount - len(new.__defaults__ or ())
    return (
        needed > 1
        and reduced_as_object(kind)
        and not hasattr(kind, "__getnewargs__")
        and not hasattr(kind, "__getnewargs_ex__")
    )


def _registered(kind: type, obj: Any) -> Any:
    """Return the reducer that other code has registered for a type, in the standard's order.

    For connections, sockets, tensors: plain pickle would send their descriptors as numbers, which
    are invalid or something else in a worker. The reducer that multiprocessing registers for a
    type of ctypes, with the first shared value of it, is used for shared values only.
    """
    reduction = sys.modules.get("multiprocessing.reduction")
    # Not for methods: its reducer for these is no better than pickle's own.
    if reduction is not None and kind is not MethodType:
        found = reduction.ForkingPickler._extra_reducers.get(kind)
        if found is not None and not (
            getattr(found, "__module__", "") == "multiprocessing.sharedctypes"
            and not hasattr(obj, "_wrapper")
        ):
            return found
    return _dispatch_table.get(kind)


class FastPickler(BasePickler, _pickle.Pickler):
    """Pickles without cloudpickle."""


def _is_empty(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - the only way to ask
    except ValueError:
        return True
    return False


_SPECIAL[LruType] = BasePickler.cached
