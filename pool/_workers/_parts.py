"""The values of a long chunk, sent in parts while the rest is computed.

A chunk of a hundred thousand cheap items makes a list of as many objects. If the worker kept that
until it is complete, it would pay a page fault for every hundred numbers and pickle megabytes at
once, while the parent waits although it could unpickle.

Only plain numbers are sent early. Other values may be changed by later calls of the function, or be
the same object as a later value. That must show in the chunk's outcome, as with `multiprocessing`,
where a chunk is one pickle.
"""

from __future__ import annotations

import _pickle
from io import BytesIO
from itertools import islice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

#: Values in one part, which makes 40 to 80 KB: what a socket takes at one go.
PART = 8192

_PLAIN = frozenset({int, float, bool, type(None)})


def values_of(
    function: Callable[..., Any],
    items: Iterator[Any],
    unpack: bool,
    send: Callable[[bytes], object],
) -> list[Any]:
    """Call `function` with each item; return the values that were not sent.

    Parameters
    ----------
    function : callable
    items : iterator
        With a length hint.
    unpack : bool
        Whether each item is a tuple of arguments.
    send : callable
        ``send(data)`` is called with the pickle of a list of values, as often as needed; these
        values come before those that are returned.
    """
    values: list[Any] = []
    while not values and items.__length_hint__() > PART:  # type: ignore[attr-defined]  # said above
        values = _call(function, islice(items, PART), unpack)
        data = _plain_pickle(values)
        if data is not None:
            send(data)
            values = []
    values += _call(function, items, unpack)
    return values


def _call(function: Callable[..., Any], items: Iterator[Any], unpack: bool) -> list[Any]:
    if unpack:
        # Not `itertools.starmap`: a StopIteration of the function would end it early.
        return [function(*item) for item in items]
    return [function(item) for item in items]


def _plain_pickle(values: list[Any]) -> bytes | None:
    """Return the pickle of plain numbers; None if there is anything else among them."""
    if values[0].__class__ not in _PLAIN:
        return None
    file = BytesIO()
    pickler = _pickle.Pickler(file, 5)
    try:
        pickler.dump(values)
    except Exception:
        return None  # the error is made when the whole chunk is pickled
    # The pickler's memo holds every object that could be referred to again: of plain numbers there
    # is none, so it holds the list alone. To look at each value's type would take as long again.
    return file.getvalue() if len(pickler.memo.copy()) == 1 else None
