"""Put into a worker's modules what the program has put into its own."""

from __future__ import annotations

import sys
from functools import partial

from pool._pickling._originals import keep_original
from pool._unraisable import report
from pool._workers._carried import Undisturbed
from pool._workers._carried._setting import unpacked
from pool._workers._imports import Outermost, when_each_is_imported
from pool._workers._variables._contents import CONTAINERS, fill

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType
    from typing import Any

    #: Module, attributes that lead to the owner, name there; how it is sent; the value, or data.
    Patch = tuple[str, tuple[str, ...], str, int, Any]

#: How it is sent: as it is; pickled; the pickled contents of the object that is there; what is in
#: ``sys.modules`` under the name, pickled. Not at all: a module of that name is to be imported. And
#: an object, pickled, whose state the one that is there gets. Nothing: it is to be deleted; or it
#: is a module to which what is pickled may refer, so nothing is put in while that is imported. And
#: what is to be registered with a generic function or an abstract class, pickled.
VALUE, PICKLED, CONTENTS, MODULE, IMPORT, STATE, DELETED, REFERRED, REGISTERED = range(9)

#: What this process was sent: for pools of its own.
received: list[Patch] = []


class _Importing(Outermost):
    """Imports such modules, and the packages that they are in; puts in what is due at the end.

    That is the end of the outermost import: what is put into ``registry`` may refer to other
    modules of its package, which only begins, and they may fill it first.
    """

    def end(self) -> None:
        _put_in()


_importing = _Importing()

#: What is to be put into modules that have been imported.
_due: list[Patch] = []


def take_over(patches: Iterable[Patch]) -> None:
    """Put it there, now or as soon as this process has imported the module."""
    received[:] = patches
    steps: dict[str, list[Patch]] = {}
    for patch in received:
        if patch[3] == MODULE:
            _due.append(patch)
            continue
        step = steps.setdefault(patch[0], [])
        if patch[3] != REFERRED:
            step.append(patch)
        package = patch[0].rpartition(".")[0]
        while package:
            steps.setdefault(package, [])
            package = package.rpartition(".")[0]
    notes = {name: partial(_note, some) for name, some in steps.items()}
    _importing(lambda: when_each_is_imported(notes, _importing))


def _note(patches: list[Patch], module: ModuleType) -> None:
    _due.extend(patches)


def _put_in() -> None:
    """Put in what is due; report errors, and go on."""
    while _due:
        try:
            name, path, attribute, how, data = _due.pop(0)
        except IndexError:
            return  # another thread took the last one
        if how != MODULE and name not in sys.modules:
            continue  # its import was interrupted in the end, so all of this comes again
        try:
            with Undisturbed(True):
                if how == MODULE:
                    sys.modules[name] = unpacked(data)
                elif how == IMPORT:
                    __import__(attribute)
                else:
                    _put(name, path, attribute, how, data)
        except (Exception, SystemExit) as error:
            what = ".".join((name, *path, attribute))
            report(error, f"raised while a worker took over what the program has put into {what}")


def _put(module: str, path: tuple[str, ...], name: str, how: int, data: Any) -> None:
    owner: Any = sys.modules[module]
    for part in path:
        owner = getattr(owner, part)
    if how == CONTENTS:
        container = getattr(owner, name, None)
        if type(container) in CONTAINERS:
            fill(container, unpacked(data))
    elif how == REGISTERED:
        _register(owner, name, unpacked(data))
    elif how == STATE:
        _give_state(owner, name, data)
    elif how == DELETED:
        if name in getattr(owner, "__dict__", {}):
            delattr(owner, name)
    else:
        value = data if how == VALUE else unpacked(data)
        names = getattr(owner, "__dict__", {})
        present = names.get(name)
        if how == VALUE and name in names and type(present) is type(value) and present == value:
            return
        keep_original(module, ".".join((*path, name)), present)
        setattr(owner, name, value)


def _give_state(owner: Any, name: str, data: bytes) -> None:
    present = getattr(owner, name, None)
    if _pickled(present) == data:
        return  # with the parts that it shares with other objects, and copies would not
    from ._state import become

    other = unpacked(data)
    if not become(present, other):
        setattr(owner, name, other)


def _pickled(value: Any) -> bytes:
    """Return a pickle in which classes are names, those too of a module that is being imported.

    To `packed` such a module is one that others cannot import: its classes would be sent along, and
    would be from then on.
    """
    import _pickle

    try:
        return _pickle.dumps(value, 5)
    except Exception:
        return b""


def _register(owner: Any, name: str, what: list[Any]) -> None:
    found = vars(owner)[name]
    register = getattr(found, "dispatcher", found).register  # of a method it is within
    for some in what:
        if type(some) is tuple:
            register(*some)
        else:
            register(some)
