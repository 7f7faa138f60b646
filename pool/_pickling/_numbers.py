"""The numbers by which cloudpickle knows classes that it has met.

A pickle that the program itself makes with cloudpickle, or that joblib makes, may mention a class
by such a number, and means the same class as our messages. So a class is sent with it, and
cloudpickle is told of the classes that came. Most programs do not import cloudpickle, which takes
longer than their first tasks may; they get numbers of ours, and if they import it later, it is told
then, before anybody can use it.
"""

from __future__ import annotations

import sys
from _weakref import ref

from . import _identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._identity import Entry

_CLOUDPICKLE = "cloudpickle.cloudpickle"

#: By number, classes that were sent or have arrived while cloudpickle was not imported.
_untold: dict[str, ref[Any]] = {}

_is_awaited = False


def number_of(kind: type, entry: Entry) -> str:
    """Return the number by which cloudpickle knows a class, or will know it."""
    module = _cloudpickle()
    if module is not None:
        _tell_all(module)  # another thread may be about to do so
        return str(module._get_or_create_tracker_id(kind))
    # The same in all threads, and in all processes that get this class.
    number = entry.number or _number_from(entry.token)
    _tell_later(number, kind)
    return number


def known_as(number: str, made: Any) -> Any:
    """Return the class of this number: one that cloudpickle has made here before, or `made`."""
    module = _cloudpickle()
    if module is not None:
        return module._lookup_class_or_track(number, made)
    _tell_later(number, made)
    return made


def _cloudpickle() -> Any:
    """Return cloudpickle's module if it is imported, or nobody could say when it is."""
    module: Any = sys.modules.get(_CLOUDPICKLE)
    if _identity.when_imported is not None and (
        module is None or hasattr(module, "_lookup_class_or_track")
    ):
        return module
    # Else another thread is importing it just now, and is waited for.
    import cloudpickle.cloudpickle

    return cloudpickle.cloudpickle


def _number_from(token: str) -> str:
    """Return a number of the form that cloudpickle's have: 32 digits."""
    prefix, _, count = token.partition("-")
    return prefix + count.rjust(16, "0")


def _tell_later(number: str, kind: Any) -> None:
    global _is_awaited
    if number not in _untold:
        _untold[number] = ref(kind, lambda _: _untold.pop(number, None))
    if not _is_awaited and _identity.when_imported is not None:
        _is_awaited = True
        _identity.when_imported(_CLOUDPICKLE, _tell_all)


def _tell_all(module: Any) -> None:
    """Tell cloudpickle, which has just been imported, of the classes that were met before."""
    for number, reference in list(_untold.items()):
        kind = reference()
        if kind is not None:
            module._lookup_class_or_track(number, kind)
        _untold.pop(number, None)
