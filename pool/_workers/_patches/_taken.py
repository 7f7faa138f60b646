"""Read and pack what the program has put into modules."""

from __future__ import annotations

import sys
from types import BuiltinFunctionType, FunctionType, ModuleType

from pool._pickling._originals import note_replaced
from pool._pickling._origins import is_by_value
from pool._workers._carried._setting import packed
from pool._workers._sooner import foreign_threads
from pool._workers._variables._contents import CONTAINERS, apart
from pool._workers._variables._data import (
    ATOMS,
    SIZE_MAX,
    is_of_program,
    is_plain,
    is_proxy,
    module_of,
)
from pool._workers._variables._snapshot import snapshots

from ._applied import CONTENTS, DELETED, IMPORT, MODULE, PICKLED, REFERRED, VALUE, received
from ._effects import due_with
from ._native import sets_natively
from ._places import CARRIED, called, find, looked_up, vars_of
from ._registered import registered
from ._setters import CONTAINER, VARIABLE, registered_by, set_by
from ._touched import touched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from ._applied import Patch
    from ._mentions import Calls, Mentions, Setters
    from ._places import Place

_ABSENT = object()

#: Classes of methods, as they are in a class.
_METHODS = frozenset({FunctionType, staticmethod, classmethod, property})


def take(
    texts: Iterable[tuple[dict[str, Any], Mentions]], siblings: Iterable[tuple[str, str]] = ()
) -> tuple[list[Patch], str]:
    """Return what is to be put into modules in workers.

    Parameters
    ----------
    texts : iterable of (dict, Mentions)
        The names of each module of the program, and what its text says.
    siblings : iterable of (str, str)
        Modules, and those that are to be imported with them.

    Returns
    -------
    patches : list of Patch
    lost : str
        One of the places that have what no pickle can carry, so that workers can only inherit it;
        empty if there are none.
    """
    texts = list(texts)
    found, lost = touched(texts)
    others, unsent = registered(texts)
    lost = lost or unsent
    found += others
    others, unsent = _names_of_modules(texts)
    found += [*others, *_set_by_calls(texts), *_imports_for_effect(texts)]
    found += [(module, (), other, IMPORT, None) for module, other in siblings]
    lost = lost or unsent or _set_natively(texts)
    for place, is_container in _places(texts).values():
        try:
            patch = _contents_of(place) if is_container else _patch(place)
        except _CannotBeSent:
            lost = ".".join(place.key)
            continue
        except Exception:
            continue  # objects of others are asked what they are; no pool is to fail for that
        if patch is not None:
            found.append(patch)
    found += _deleted(texts)
    if any(type(patch[4]) is bytes for patch in found):
        own = snapshots.modules().items()
        found += [(name, (), ".", REFERRED, None) for name, one in own if _has_spec(one)]
    # What this process was sent comes first: it may have been replaced since.
    patches = {(patch[0], patch[1], patch[2]): patch for patch in (*received, *found)}
    return list(patches.values()), lost


class _CannotBeSent(Exception):
    """The program has put something into a module that workers can only inherit."""


class _NotPlain(Exception):
    """It is left to the modules of a worker, as what cannot be told."""


def _names_of_modules(
    texts: Iterable[tuple[dict[str, Any], Mentions]],
) -> tuple[list[Patch], str]:
    """Return what the program has put into ``sys.modules``, and a name of what cannot be sent."""
    lazy = getattr(sys.modules.get("importlib.util"), "_LazyModule", None)
    names = {name for _, mentions in texts for name in mentions.modules}
    names.update(name for _, mentions in texts for name in filter(_stands_in, mentions.stand_ins))
    found: list[Patch] = []
    lost = ""
    for name in names & sys.modules.keys():
        module = sys.modules[name]
        if type(module) is lazy:
            continue  # to ask a lazy one anything is to load it
        data = None if _is_mock(module) else packed(module)
        if data is None:
            lost = name
        else:
            found.append((name, (), "", MODULE, data))
    return found, lost


def _stands_in(name: str) -> bool:
    """Return whether no import has left what there is in the place of a module."""
    module: Any = sys.modules.get(name)
    if type(module) is ModuleType:
        return name != "__main__" and not _has_spec(module)  # a script has none either
    return name in sys.modules and not issubclass(type(module), ModuleType)


def _imports_for_effect(texts: Iterable[tuple[dict[str, Any], Mentions]]) -> Iterator[Patch]:
    """Yield what is to be imported with other packages."""
    for _, mentions in texts:
        used = {full.partition(".")[0] for full in mentions.imported.values()}
        for package, module in due_with(mentions.unused, used):
            yield package, (), module, IMPORT, None


def _set_by_calls(texts: Iterable[tuple[dict[str, Any], Mentions]]) -> list[Patch]:
    """Return what the functions have set that the program calls to set up packages.

    All that a function sets, or nothing: ``_ready = True`` without the connection would be a state
    that no process ever had.
    """
    patches: list[Patch] = []
    for names, mentions in texts:
        for function, places in _setting_calls(names, mentions):
            try:
                some = [
                    _contents_of(place) if what == CONTAINER else _patch(place, what == VARIABLE)
                    for place, what in places
                ]
                if _registers(function):
                    some += map(_patch, registered_by(function))
            except Exception:
                continue  # what it is cannot be sent, or cannot be told
            patches += [patch for patch in some if patch is not None]
    return patches


def _setting_calls(names: dict[str, Any], mentions: Mentions) -> Calls:
    """Return the functions that a text calls and that may set something, with what they set.

    Of a large program they are some among thousands. The others are not looked for again until it
    has imported more.
    """
    count = len(sys.modules)
    if mentions.setting is None or mentions.setting[0] != count:
        mentions.setting = count, list(_found_calls(names, mentions))
    return mentions.setting[1]


def _found_calls(names: dict[str, Any], mentions: Mentions) -> Iterator[tuple[Any, Setters]]:
    for dotted in mentions.called:
        try:
            function, place = called(dotted, names, mentions)
            places = () if function is None else set_by(function, place)
        except Exception:
            continue  # what it is cannot be told
        if places or _registers(function):
            yield function, places


def _set_natively(texts: Iterable[tuple[dict[str, Any], Mentions]]) -> str:
    """Return a call that has set something in compiled code; empty if there is none.

    Nor if there are threads of such code, beside which a fork may hang.
    """
    for names, mentions in texts:
        if mentions.native is None or mentions.native[0] != len(sys.modules):
            found = [dotted for dotted in mentions.called if _is_native(dotted, names, mentions)]
            mentions.native = len(sys.modules), found
        for dotted in mentions.native[1]:
            try:
                return "" if foreign_threads() else dotted
            except (OSError, ValueError):
                return ""  # nothing is known of them
    return ""


def _is_native(dotted: str, names: dict[str, Any], mentions: Mentions) -> bool:
    try:
        return sets_natively(dotted, names, mentions)
    except Exception:
        return False  # what it is cannot be told


def _registers(function: Any) -> bool:
    return getattr(function, "__name__", "").startswith("register")


def _places(
    texts: Iterable[tuple[dict[str, Any], Mentions]],
) -> dict[tuple[str, str], tuple[Place, bool]]:
    """Return the places that the texts name, each with whether it is a container's."""
    found: dict[tuple[str, str], tuple[Place, bool]] = {}
    for names, mentions in texts:
        for dotted in (*mentions.changed, *mentions.assigned):
            place = find(dotted, names, mentions)
            if place is not None:
                found[place.key] = place, dotted not in mentions.assigned
    return found


def _has_spec(module: ModuleType) -> bool:
    return getattr(module, "__spec__", None) is not None


def _deleted(texts: Iterable[tuple[dict[str, Any], Mentions]]) -> Iterator[Patch]:
    """Yield what modules and classes have no more."""
    for names, mentions in texts:
        for dotted in mentions.deleted:
            place = find(dotted, names, mentions)
            if place is not None and not _is_of_instance(place):
                if place.name not in vars_of(place.owner):
                    yield place.module, place.path, place.name, DELETED, None


def _patch(place: Place, only_data: bool = False) -> Patch | None:
    """Return what is there, if the program has put it there."""
    value = vars_of(place.owner).get(place.name, _ABSENT)
    if _is_mock(value):
        raise _CannotBeSent  # a copy would not be what the test has set up, down to the last object
    if is_of_program(place.module) and not _is_method(place, value):
        return None  # see `pool._workers._variables`
    if value is _ABSENT:
        value = _computed(place)
    elif _is_at_home(place, value):
        return None
    if type(value) in ATOMS:
        return place.module, place.path, place.name, VALUE, value
    if value is _ABSENT or (_is_of_instance(place) and place.module.partition(".")[0] in CARRIED):
        return None
    if only_data and not is_plain(value):
        raise _NotPlain  # a connection or a thread, which belongs to this process
    note_replaced(*place.key)  # before that: what it calls may be what was there
    data = None if is_proxy(type(value)) else packed(value)
    if data is not None:
        return place.module, place.path, place.name, PICKLED, data
    if only_data or _is_of_instance(place):
        return None  # a connection, say: the instance makes it again, or fails with a reason
    raise _CannotBeSent


def _computed(place: Place) -> Any:
    """Return what a property says that the owner has; only numbers, texts and the like."""
    kind = type(place.owner)
    if issubclass(kind, type):
        return _ABSENT
    found = next(
        (vars(base)[place.name] for base in kind.__mro__ if place.name in vars(base)), None
    )
    if not hasattr(type(found), "__set__"):
        return _ABSENT
    value = getattr(place.owner, place.name)
    return value if type(value) in ATOMS else _ABSENT


def _is_mock(value: Any) -> bool:
    mock = sys.modules.get("unittest.mock")
    if type(value) is FunctionType:  # with `autospec=True`, it is one that has a mock
        value = vars(value).get("mock")
    return mock is not None and issubclass(type(value), mock.NonCallableMock)


def _is_method(place: Place, value: Any) -> bool:
    """Return whether it is a method of a class, or a property, that the program has put there.

    A decorator may have made what the import has left, from the function that is at home there.
    """
    kind = type(value)
    if kind not in _METHODS or not issubclass(type(place.owner), type):
        return False
    if snapshots.is_defined(place.module, ".".join(place.path), place.name):
        return True
    return not _decorates(place, _function_of(value), 3)


def _decorates(place: Place, function: Any, depth: int) -> bool:
    """Return whether a function of another module has that of a place in its closure."""
    if type(function) is not FunctionType or not depth or module_of(function) == "__main__":
        return False
    for cell in function.__closure__ or ():
        try:
            found = _function_of(cell.cell_contents)
        except ValueError:
            continue  # empty
        if type(found) is FunctionType and (module_of(found), found.__qualname__) == place.key:
            return True
        if _decorates(place, found, depth - 1):
            return True
    return False


def _function_of(value: Any) -> Any:
    while type(value) in (staticmethod, classmethod):
        value = value.__func__
    return value.fget if type(value) is property else value


def _is_of_instance(place: Place) -> bool:
    return not issubclass(type(place.owner), (ModuleType, type))


def _is_at_home(place: Place, value: Any) -> bool:
    """Return whether a definition is where it was defined."""
    value = _function_of(value)
    kind = type(value)
    if issubclass(kind, ModuleType):
        return sys.modules.get(f"{place.module}.{place.name}") is value
    if kind is not FunctionType and kind is not BuiltinFunctionType and not issubclass(kind, type):
        return False
    if kind is FunctionType and is_by_value(value.__globals__):
        return False  # the program's own, which has taken over the name by `functools.wraps`
    # Under another name, or in another module, it may be the program that has put it there.
    return (module_of(value), value.__qualname__) == place.key


def _contents_of(place: Place) -> Patch | None:
    """Return what a container of a module holds, if that is data."""
    container = looked_up(place.owner, place.name)
    if type(container) not in CONTAINERS or is_of_program(place.module):
        return None
    if place.module.partition(".")[0] in CARRIED:
        return None
    contents = apart(container)[1]
    parts: Iterable[Any] = contents
    if isinstance(contents, dict):
        parts = [*contents, *contents.values()]
    if not all(map(is_plain, parts)):
        raise _NotPlain
    data = packed(contents)
    if data is None or len(data) > SIZE_MAX:
        return None
    return place.module, place.path, place.name, CONTENTS, data
