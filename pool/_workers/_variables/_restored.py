"""Put the variables that the program has sent into a worker's modules."""

from __future__ import annotations

import _pickle
import sys
from _thread import _count as count_threads
from functools import partial
from io import BytesIO

from pool._pickling import _made
from pool._unraisable import report
from pool._workers._carried._setting import unpacked
from pool._workers._imports import Outermost, when_each_is_imported

from ._contents import apart, fill
from ._data import has_name, new, pickled
from ._views import Restored, claim

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import ModuleType
    from typing import Any

    from ._data import Named, Packed
    from ._snapshot import Sent


class _Importing(Outermost):
    """Imports such modules; puts the variables in at the end.

    That is the end of the outermost import: one module may refer to functions of another one that
    has only begun. And the code at the top of a module sees what it has seen in the program, where
    imports came first, see `_views`.
    """

    def __init__(self) -> None:
        self._hidden: list[Restored] = []

    def begin(self) -> None:
        # Threads of a task are not to see what the import shows.
        self._hidden = [] if count_threads() else list(_restored)
        for restored in self._hidden:
            restored.hide()

    def end(self) -> None:
        for restored in self._hidden:
            restored.show()
        self._hidden = []
        _put_in()


importing = _Importing()

#: What has been put into modules.
_restored: list[Restored] = []

#: Objects that get the contents of the program's, by space and variable; chosen before any of them
#: is filled, since two modules may refer to each other's. And by space, whether its import has made
#: all of them.
_targets: dict[tuple[str, str], Any] = {}
_prepared: dict[str, bool] = {}

#: What is to be put into modules that have been imported.
_due: dict[str, Sent] = {}


def take_over(sent: Mapping[str, Sent]) -> None:
    """Have each module get the program's variables as soon as this process has imported it."""
    _made.as_imported = importing
    steps = {name: partial(_note, name, sent[name]) for name in sent}
    importing(partial(when_each_is_imported, steps, importing))


def _note(name: str, sent: Sent, module: ModuleType) -> None:
    _due[name] = sent


def _put_in() -> None:
    """Put in what is due; report errors, and go on."""
    while _due:
        try:
            name, (spaces, definitions) = _due.popitem()
        except KeyError:
            return  # another thread took the last one
        try:
            for space, packed in spaces.items():
                _prepare(space, packed)
            for space, packed in spaces.items():
                _restore(space, packed)
            for (space, variable), data in definitions.items():
                setattr(_owner(space), variable, unpacked(data))
        except (Exception, SystemExit) as error:  # of modules that had to be imported for that
            report(error, f"raised while a worker took over the variables of {name}")


def _restore(space: str, packed: Packed) -> None:
    owner = _owner(space)
    names = vars(owner)
    variables, recipes, others = _pickle.loads(packed[0])
    known = {pid: _target(pid) for pid in others}
    known.update(((space, variable), _targets[space, variable]) for variable in recipes)
    named = {id(value): pid for pid, value in known.items()}
    if _prepared[space] and _is_unchanged(space, names, variables, packed, named):
        return  # so it stays as its import has left it, down to the last object
    contents = _Unpickler(packed[1], known).load()
    restored = Restored(space, owner, contents)
    for variable, content in contents.items():
        value = content
        present = names.get(variable)
        if variable in recipes:
            value = known[space, variable]
            if not _is_same(apart(value)[1], content, named):
                fill(value, content)
        elif _is_same(present, content, named):
            continue  # functions may compare it by `is`, and have it as a default
        if present is not value or variable not in names:
            setattr(owner, variable, value)
    restored.put_in()
    _restored.append(restored)


def _prepare(space: str, packed: Packed) -> None:
    """Choose the objects that get the contents: those that the import has made, or new ones."""
    if space in _prepared:
        return
    names = vars(_owner(space))
    _prepared[space] = True
    for variable, recipe in _pickle.loads(packed[0])[1].items():
        kind, arguments = recipe
        value = names.get(variable)
        if (
            type(value) is not kind
            or apart(value)[0] != recipe
            # Two variables that have one object here have two in the program.
            or not claim(value, (space, variable))
        ):
            value = kind(*arguments) if arguments else new(kind)
            claim(value, (space, variable))
            _prepared[space] = False
        _targets[space, variable] = value


def _target(pid: tuple[str, str]) -> Any:
    """Return the object of another space's variable, which may be due to be put in."""
    space, variable = pid
    owner = _owner(space)
    spaces, _ = _due.get(space.partition(":")[0], ({}, {}))
    if pid not in _targets and space in spaces:
        _prepare(space, spaces[space])
    return _targets[pid] if pid in _targets else vars(owner)[variable]


def _owner(space: str) -> Any:
    """Return the module, or the class, that has the variables of a space."""
    name, _, kind = space.partition(":")
    __import__(name)
    module = sys.modules[name]
    return vars(module)[kind] if kind else module


def _is_unchanged(
    space: str,
    names: Mapping[str, Any],
    variables: Iterable[str],
    packed: Packed,
    named: Named,
) -> bool:
    """Return whether the import has given a space what it has in the program."""
    try:
        own = {variable: names[variable] for variable in variables}
        return pickled(space, own, named, has_name) == packed
    except Exception:
        return False


def _is_same(one: Any, other: Any, named: Named) -> bool:
    """Return whether two objects have the same pickle."""
    if type(one) is not type(other):
        return False
    try:
        return pickled("", {"": one}, named, has_name) == pickled("", {"": other}, named, has_name)
    except Exception:
        return False


class _Unpickler(_pickle.Unpickler):
    """Unpickles, with the variables of modules in place of their names."""

    def __init__(self, data: bytes, known: Mapping[tuple[str, str], Any]) -> None:
        super().__init__(BytesIO(data))
        self._known = known

    def persistent_load(self, pid: tuple[str, str]) -> Any:
        return self._known[pid]
