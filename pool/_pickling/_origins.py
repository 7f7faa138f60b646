"""Where functions and classes live, and whether a worker can import them from there.

A worker never runs the user's main module. So what is defined there cannot be named, nor
can what lives in a module that was loaded from a path, is still being imported, or is
gone from ``sys.modules``: all this travels by value. Everything else travels as a name.
"""

from __future__ import annotations

import functools
import sys
from _weakref import ref
from collections import deque
from os import path as os_path
from types import FunctionType, ModuleType

from ._facts import facts_of, is_usual
from ._slots import HEAPTYPE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from ._rewritten import Rewritten

LruType: Any = type(functools.lru_cache(int))

#: Verdicts, each with a weak reference to the module that it is about: a program may load plugins
#: one after the other.
_verdicts: dict[str, tuple[Callable[[], Any], bool]] = {}

#: Modules whose functions and classes were sent by value. They always are from then on: workers
#: have a namespace of that name, and importing the module would make a second copy of each class.
_by_value: set[str] = set()

#: Importable modules that their loaders have changed, by name; see `_rewritten`.
rewritten: dict[str, Rewritten] = {}

#: The global that marks a namespace of no registered module as a scope, and how many there were.
_MARKER = "__actorpool_scope__"
_marked = 0
#: By key, weak references to the marks of those that there are.
_marks: dict[str, ref[Mark]] = {}
#: Keys of those that were freed: the latest, which workers are told, and all that are still to be
#: forgotten here.
gone_scopes: deque[str] = deque(maxlen=64)
unforgotten: deque[str] = deque()


class Mark:
    """Marks a namespace, which is also its ``__dict__``, as a scope, and tells when it is freed.

    A program may load plugins again and again, each time into a new namespace.
    """

    __slots__ = ("__dict__", "__weakref__", "key")

    def __init__(self, key: str, names: dict[str, Any]) -> None:
        self.key = key
        self.__dict__ = names

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (self.key,)  # elsewhere it marks nothing


def mark_of(names: dict[str, Any]) -> Mark | None:
    """Return the mark of a namespace that has one."""
    found = names.get(_MARKER)
    return found if type(found) is Mark and found.__dict__ is names else None


def _mark(name: str, names: dict[str, Any]) -> Mark:
    global _marked
    _marked += 1
    key = f"{name}#{_marked}"
    mark = names[_MARKER] = Mark(key, names)
    _marks[key] = ref(mark, lambda _: _forget(key))
    return mark


def _forget(key: str) -> None:
    _marks.pop(key, None)
    _scopes.pop((key, False), None)
    _by_value.discard(key)
    gone_scopes.append(key)
    unforgotten.append(key)


class Scope:
    """The globals of a function, as a name that both sides know.

    Attributes
    ----------
    key : str
        Unique among the scopes of a program; the module's name if it is registered.
    importable : bool
        Whether the worker imports the module instead of getting names one by one.
    facts : bytes
        Its special globals, see `_facts`, if the worker has to make the module.
    package : Scope or None
        Its package, if the worker cannot import that either.
    """

    __slots__ = ("facts", "importable", "key", "name", "package")

    def __init__(
        self,
        key: str,
        name: str,
        importable: bool,
        facts: bytes = b"",
        package: Scope | None = None,
    ) -> None:
        self.key = key
        self.name = name
        self.importable = importable
        self.facts = facts
        self.package = package

    def __reduce__(self) -> tuple[Any, ...]:
        from ._namespaces import open_scope

        return open_scope, (self.key, self.name, self.importable, self.facts, self.package)


_scopes: dict[tuple[str, bool], Scope] = {}


def scope_of(names: dict[str, Any]) -> Scope | None:
    """Return the scope whose globals are `names`, or None if they belong to no module.

    That is so for generated code (``exec`` with a dict of its own); such globals are sent along
    with each function.
    """
    name = names.get("__name__")
    if not isinstance(name, str):
        return None
    if _names_of(name) is names:
        return _scope(canonical(name), name, names, importable(name))
    mark = mark_of(names)
    if mark is None:
        if name != "__main__" and "__file__" not in names and "__spec__" not in names:
            return None
        # A module that is registered nowhere, or no longer: only its own dict can tell
        # later that it is the same one (dicts cannot be weakly referenced).
        mark = _mark(name, names)
    return _scope(mark.key, name, names, False)


def _scope(key: str, name: str, names: dict[str, Any], by_name: bool) -> Scope:
    scope = _scopes.get((key, by_name))
    if scope is None:
        scope = Scope(key, name, True) if by_name else _by_value_scope(key, name, names)
        _scopes[key, by_name] = scope
        if not by_name:
            _by_value.add(key)
    return scope


def _by_value_scope(key: str, name: str, names: dict[str, Any]) -> Scope:
    if key == "__main__":
        return Scope(key, name, False)  # every worker has one
    package = names.get("__package__")
    if not isinstance(package, str) or _names_of(package) is names or _is_initializing(package):
        package = ""  # none, or it is one; or one being imported now, which workers can import
    above = None if not package or importable(package) else scope_of_module(package)
    return Scope(key, name, False, facts_of(names), above)


def scope_of_module(name: str | None) -> Scope | None:
    """Return the scope of the registered module called `name`."""
    names = _names_of(name or "")
    return None if names is None else scope_of(names)


def _names_of(name: str) -> dict[str, Any] | None:
    return getattr(sys.modules.get(name), "__dict__", None)


def canonical(name: str) -> str:
    """Return the name under which the main module is known.

    In a process that `multiprocessing` spawned, the user's main module is called
    ``__mp_main__`` and registered under both names.
    """
    return "__main__" if name == "__mp_main__" else name


def is_named(obj: Any) -> bool:
    """Return whether a function or class can be sent as a name."""
    if isinstance(obj, type) and not obj.__flags__ & HEAPTYPE:
        return True  # built in: pickle knows the names of these, and there is no other way
    name = obj.__module__
    if name == "__main__" or not isinstance(name, str) or not importable(name):
        return False
    names = sys.modules[name].__dict__
    found = resolve(names, obj.__qualname__)
    if found is None and "__getattr__" in names:
        found = _offered(sys.modules[name], obj.__qualname__)
    if found is not obj:
        return False
    if isinstance(obj, type):
        return True  # one may have a `__globals__` for its objects: `annotationlib.ForwardRef`
    own = getattr(innermost(obj), "__globals__", names)
    return own is names or not is_by_value(own)


def is_definition(value: Any) -> bool:
    """Return whether `value` is a function or a class.

    By `type` and not by `isinstance`: proxies claim to be of another class, and may raise.
    """
    kind = type(value)
    return kind is FunctionType or kind is LruType or issubclass(kind, type)


def innermost(obj: Any) -> Any:
    """Return the function under `functools.lru_cache`, or `obj`."""
    while type(obj) is LruType:
        obj = obj.__wrapped__
    return obj


def is_by_value(names: dict[str, Any]) -> bool:
    """Return whether a function with these globals travels by value, whatever its name.

    The program may have replaced a function of some installed module by one of its own that has
    taken over the name (`functools.wraps`). By that name a worker would find the original.
    """
    name = names.get("__name__")
    if not isinstance(name, str):
        return False  # generated code, by a decorator for instance
    module = sys.modules.get(name)
    if getattr(module, "__dict__", None) is names:
        return not importable(name)
    if module is None or canonical(name) == "__main__":
        return scope_of(names) is not None
    return _MARKER in names  # otherwise its module has replaced itself in `sys.modules`


def is_wrapped(obj: Any) -> bool:
    """Return whether a class was replaced in its module by an object that wraps it.

    A decorator does so; `__wrapped__` of that object is the class, as with `functools.wraps`.
    """
    name = obj.__module__
    if name == "__main__" or not isinstance(name, str) or not importable(name):
        return False
    found = resolve(sys.modules[name].__dict__, obj.__qualname__)
    try:
        return found is not None and found.__wrapped__ is obj
    except Exception:  # code of somebody else's, asked for nothing but its opinion
        return False


def wrapped_in(name: str, qualname: str) -> Any:
    """Return the wrapped class of a module, for which `is_wrapped` was true in another process."""
    __import__(name)
    return resolve(sys.modules[name].__dict__, qualname).__wrapped__


def real_module(kind: type) -> str | None:
    """Return the module that has a class which says that it is of another one, or None.

    Packages give a class the name of the module in which it is to be looked for in messages, and
    pytest says that its `Failed` and `Skipped` are built in. Then the functions of the class, or of
    one that it is derived from, tell where it was made.
    """
    name = kind.__module__
    if not isinstance(name, str) or canonical(name) == "__main__":
        return None
    claimed = getattr(sys.modules.get(name), "__dict__", {})
    if "<locals>" in kind.__qualname__ or resolve(claimed, kind.__qualname__) is not None:
        return None
    for value in [value for base in kind.__mro__ for value in vars(base).values()]:
        if type(value) is not FunctionType:
            continue
        names = value.__globals__
        real = names.get("__name__")
        if (
            isinstance(real, str)
            and real not in (name, "__main__")
            and importable(real)
            and sys.modules[real].__dict__ is names
            and resolve(names, kind.__qualname__) is kind
        ):
            return real
    return None


def found_in(name: str, qualname: str) -> Any:
    """Return the class of a module that was found by `real_module` in another process."""
    __import__(name)
    return resolve(sys.modules[name].__dict__, qualname)


def _offered(module: ModuleType, qualname: str) -> Any:
    """Return the object that a module's ``__getattr__`` (PEP 562) returns for a name, or None.

    Packages that import their modules late have one; their classes bear the package's name.
    """
    first = qualname.partition(".")[0]
    try:
        return resolve({first: getattr(module, first)}, qualname)
    except Exception:  # code of somebody else's, asked for nothing but its opinion
        return None


def resolve(names: Mapping[str, Any], qualname: str) -> Any:
    """Return the object that a dotted name has in a module's globals, or None."""
    if "." not in qualname:
        return names.get(qualname)
    first, *rest = qualname.split(".")
    found = names.get(first)
    try:
        for part in rest:
            found = getattr(found, part)
    except AttributeError:
        return None
    return found


def importable(name: str) -> bool:
    """Return whether importing `name` elsewhere gives the module that is registered here."""
    module = sys.modules.get(name)
    if module is None:
        return False
    known = _verdicts.get(name)
    if known is not None and known[0]() is module:
        return known[1]
    if name in ("__main__", "__mp_main__") or name in _by_value:
        return False
    if _is_initializing(name):
        return False  # not kept as a verdict, since it will change
    verdict = _is_importable(name, module)
    try:
        _verdicts[name] = ref(module), verdict
    except TypeError:  # no module, but an object of a kind that has no weak references
        _verdicts[name] = (lambda: module), verdict
    return verdict


def modules_by_value() -> list[str]:
    """Return the modules beside the main one that cannot be imported elsewhere.

    Those that lie where an import looks for them are not looked at any closer.
    """
    folders = {os_path.abspath(entry) for entry in map(str, sys.path)}
    return [
        name
        for name, module in sys.modules.copy().items()
        if _may_be_odd(name, getattr(module, "__dict__", {}), folders) and not importable(name)
    ]


def _may_be_odd(name: str, names: dict[str, Any], folders: set[str]) -> bool:
    if name in ("__main__", "__mp_main__") or name.partition(".")[0] in sys.stdlib_module_names:
        return False
    file = names.get("__file__")
    if type(file) is not str:
        return names.get("__spec__") is None
    return "-packages/" not in file and _entry(name, file) not in folders


def _entry(name: str, file: str) -> str:
    """Return the folder that has to be on `sys.path` for a module to be found in its file.

    Empty if it is called otherwise than that file.
    """
    folder, base = os_path.split(file)
    stem = base.partition(".")[0]
    if stem == "__init__":
        folder, stem = os_path.split(folder)
    if stem != name.rpartition(".")[2]:
        return ""
    for _ in range(name.count(".")):
        folder = os_path.dirname(folder)
    return folder


def folders_left() -> list[str]:
    """Return folders in which modules were found, and that are not on `sys.path` any more.

    What refers to these modules is sent by name, as long as this process lives. So the workers of
    later pools have to find them, too.
    """
    folders = {os_path.abspath(entry) for entry in map(str, sys.path)}
    left: dict[str, None] = {}
    for name, (_, verdict) in list(_verdicts.items()):
        names = getattr(sys.modules.get(name), "__dict__", {})
        if verdict and "." not in name and _may_be_odd(name, names, folders):
            file = names.get("__file__")
            entry = _entry(name, file) if type(file) is str else ""
            if entry and _find(name, None) is None:
                left[entry] = None
    return list(left)


def _is_initializing(name: str) -> bool:
    """Return whether the module, or a package that it is in, is being imported now.

    A worker that imported it would run its code, which in this process makes a Pool just now.
    """
    while name:
        spec = getattr(sys.modules.get(name), "__spec__", None)
        if getattr(spec, "_initializing", False):
            return True
        name = name.rpartition(".")[0]
    return False


def _is_importable(name: str, module: ModuleType) -> bool:
    spec = getattr(module, "__spec__", None)
    origin = getattr(spec, "origin", None) or getattr(module, "__file__", None)
    if origin in ("built-in", "frozen"):
        return True
    parent = name.rpartition(".")[0]
    if parent and not importable(parent):
        return False
    found = _find(name, getattr(sys.modules.get(parent), "__path__", None))
    if found is None:
        # Without a file: its package makes it when that is imported, as with `six.moves`.
        return spec is None and bool(parent)
    if not _same_file(found.origin, origin) and not _has_copied(module, spec):
        return False
    _note_rewritten(name, module, spec, origin)
    return True


def _has_copied(module: ModuleType, spec: Any) -> bool:
    """Return whether what a module says of itself, its file for one, is said of another one.

    As after ``globals().update(vars(version))`` in a package that has a module ``version``.
    """
    other = sys.modules.get(getattr(spec, "name", ""))
    return other is not None and other is not module and getattr(other, "__spec__", None) is spec


def _note_rewritten(name: str, module: ModuleType, spec: Any, file: Any) -> None:
    """Note how a loader that is not importlib's own has changed a module of the program's."""
    rewritten.pop(name, None)
    loader = getattr(spec, "loader", None)
    if loader is None or is_usual(loader) or type(file) is not str:
        return
    if {"site-packages", "dist-packages"} & set(file.split("/")):
        return  # of an installed package: too large to compare, and not the program's own code
    from ._rewritten import compare

    found = compare(module, file, _is_known_elsewhere)
    if found is not None:
        rewritten[name] = found


def _is_known_elsewhere(obj: Any) -> bool:
    if issubclass(type(obj), ModuleType):
        return importable(obj.__name__)
    return is_definition(obj) and is_named(obj)


def _find(name: str, path: Any) -> Any:
    """Search for a module as an import that finds nothing in ``sys.modules`` would."""
    for finder in list(sys.meta_path):
        try:
            found = finder.find_spec(name, path)
        except Exception:  # a finder of another library; its error does not matter here
            continue
        if found is not None:
            return found
    return None


def _same_file(one: str | None, other: str | None) -> bool:
    if one == other:
        return True
    return bool(one and other) and os_path.realpath(str(one)) == os_path.realpath(str(other))
