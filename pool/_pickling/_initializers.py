"""The initializer and its arguments: what the program has a name for arrives under that name.

``Pool(2, init, (cache,))`` hands a global to `init` that tasks read by its name. In forked
workers both are one object; so they are here. The arguments of tasks are copies instead,
as everywhere.
"""

from __future__ import annotations

import sys
from io import BytesIO

from store._codec import Encoded, collector, dump

from ._encoding import attempt, completed, share
from ._named import NamedValues, loading, looking_for_containers
from ._origins import scope_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


def dumps_initializer(
    initializer: Callable[..., object],
    initargs: Sequence[Any],
    inherited: int | None = None,
    throughout: bool = False,
) -> Encoded:
    """Pickle an initializer and its arguments, as one tuple, for new workers.

    Parameters
    ----------
    initializer, initargs
        As for a pool.
    inherited, throughout
        As for `_encoding.dumps_to_worker`.

    Raises
    ------
    Exception
        If that is not possible: they have to be inherited.
    """
    whole = (initializer, tuple(initargs))
    return attempt(lambda pickler_class: _encode(whole, pickler_class, inherited, throughout))


def _encode(
    whole: tuple[Any, Any],
    pickler_class: Callable[..., Any],
    inherited: int | None,
    throughout: bool,
) -> Encoded:
    named = _named_in_main()
    if named.containers:
        pickler_class = looking_for_containers(pickler_class)
    file = BytesIO()
    buffers: list[memoryview] = []
    pickler = pickler_class(file, 5, buffer_callback=collector(buffers))
    pickler.named = named.instances
    pickler.containers = named.containers
    share(pickler, inherited, throughout)
    dump(pickler, file, whole)
    data = file.getvalue()
    if named.met:
        data = loading(data, len(buffers))
    return completed(pickler, data, buffers, inherited)


def _named_in_main() -> NamedValues:
    found = NamedValues()
    names = vars(sys.modules["__main__"])
    scope = scope_of(names)
    if scope is not None:
        for name in list(names):
            if not name.startswith("__"):
                found.add(scope, name, names)
    return found
