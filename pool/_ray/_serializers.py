"""Ray's way to say how instances of a class are pickled."""

from __future__ import annotations

import copyreg

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def register_serializer(
    cls: type, *, serializer: Callable[[Any], Any], deserializer: Callable[[Any], Any]
) -> None:
    """Pickle instances of a class, in this process, by two functions.

    It is an entry of `copyreg`, so it also counts for `pickle` and for a Pool. In Ray, it is known
    to the process that calls this; here, to workers that start later as well.

    Parameters
    ----------
    cls : type
        Not its subclasses.
    serializer : callable
        Is given an instance; returns what is sent in its place.
    deserializer : callable
        Is given that, where it arrives; returns an instance.
    """

    def reduce(instance: Any) -> tuple[Any, ...]:
        return deserializer, (serializer(instance),)

    copyreg.pickle(cls, reduce)


def deregister_serializer(cls: type) -> None:
    """Take back what `register_serializer` was told about a class, if anything."""
    copyreg.dispatch_table.pop(cls, None)


# Where users find them.
for _public in (register_serializer, deregister_serializer):
    _public.__module__ = "pool.util"
