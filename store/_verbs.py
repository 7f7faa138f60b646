"""The store as a user sees it: put, get, share, and arrays made in place."""

from __future__ import annotations

import sys
from math import prod
from operator import index

from store._depot import depot
from store._pickling import encoded
from store._refs import ObjectRef, load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal, SupportsIndex, TypeVar

    import numpy as np

    T = TypeVar("T")


def put(obj: object) -> ObjectRef:
    """Copy an object into the store and return a reference to it.

    Parameters
    ----------
    obj : object
        Anything that can be pickled. Arrays, frames and other large buffers are copied
        once; later changes to `obj` are not seen. What lives in the store already, see
        `share`, is not copied.

    Returns
    -------
    ObjectRef
        The object lives as long as it, or anything that `get` returned.

    Raises
    ------
    StoreFull
        If neither memory nor disk has room.
    """
    return ObjectRef.of(*encoded(obj))


def get(refs: Any, timeout: float | None = None, copy: str = "cow") -> Any:
    """Return the object that a reference names, or a list of objects for a list.

    Parameters
    ----------
    refs : ObjectRef or list of ObjectRef
        Or of a task or actor: anything whose ``future()`` has the value.
    timeout : float, optional
        Seconds to wait for a task; what was put is there.
    copy : {"cow", "readonly", "copy"}
        ``"cow"``: large buffers are mapped; what is written to them stays private, page
        by page. ``"readonly"``: mapped, and arrays refuse to be written to. ``"copy"``:
        copied, which pays for who overwrites everything.

    Returns
    -------
    object
        A new one at each call, independent of all others.

    Raises
    ------
    ObjectFreed
    """
    if isinstance(refs, ObjectRef):
        return load(refs, copy)
    if isinstance(refs, list):
        return [get(ref, timeout, copy) for ref in refs]
    if hasattr(refs, "future"):
        # Of a task or an actor: it promises what will be there, and knows how to wait for it.
        return refs.future().result(timeout)
    raise TypeError(
        f"get() takes an ObjectRef or a list of them, not {type(refs).__name__}; "
        "what put() returned is one"
    )


def wait(
    refs: Sequence[ObjectRef], num_returns: int = 1, timeout: float | None = None
) -> tuple[list[ObjectRef], list[ObjectRef]]:
    """Split references into those whose objects are there and the rest.

    What was put is there at once, so this never blocks.

    Raises
    ------
    ValueError
        If more are asked for than given, or one is given twice.
    """
    if len(set(refs)) != len(refs):
        raise ValueError("wait() was given the same reference twice")
    if not 0 < num_returns <= len(refs):
        raise ValueError(f"num_returns={num_returns} of {len(refs)} references")
    return list(refs[:num_returns]), list(refs[num_returns:])


def free(refs: Any) -> None:
    """Give up objects early, in this process: `get` then raises `ObjectFreed`.

    Views that exist stay valid, and their memory with them. So do references that other
    processes hold; one that arrives from there later on has the object again.
    """
    for ref in [refs] if isinstance(refs, ObjectRef) else refs:
        ref._object.free()


def share(obj: T) -> T:
    """Return a copy of an array, frame or other object whose buffers live in the store.

    It is of the same type, writable and private; sent to a pool, as a whole or in
    contiguous slices, it travels without being copied, unless it was written to.
    """
    shared: T = load(put(obj))
    return shared


def empty(
    shape: SupportsIndex | Sequence[SupportsIndex],
    dtype: Any = float,
    order: Literal["C", "F"] = "C",
) -> np.ndarray[Any, Any]:
    """Return a new array that lives in the store, with arbitrary contents.

    For results: what is written to it need not be copied when it is sent. From its first
    sending on it is private; what is written later is not seen by who got it.

    Parameters
    ----------
    shape, dtype, order
        As for ``numpy.empty``; `dtype` without Python objects.

    Raises
    ------
    TypeError
        If `dtype` has Python objects.
    StoreFull
    """
    import numpy as np

    kind = np.dtype(dtype)
    if kind.hasobject:
        raise TypeError(f"cannot have {kind} in the store: Python objects live in one process")
    # As numpy understands it: items without a size take no memory, however many they are.
    shape = np.empty(shape, np.dtype([])).shape
    nbytes = prod(shape) * kind.itemsize
    if not depot().least <= nbytes <= sys.maxsize or not depot().usable():
        return np.empty(shape, kind, order)
    return np.ndarray(shape, kind, depot().canvas(nbytes), order=order)


def zeros(
    shape: SupportsIndex | Sequence[SupportsIndex],
    dtype: Any = float,
    order: Literal["C", "F"] = "C",
) -> np.ndarray[Any, Any]:
    """Return a new array of zeros that lives in the store; see `empty`."""
    array = empty(shape, dtype, order)
    array.reshape(-1, order="A").view("u1").fill(0)
    return array


def prefault(nbytes: int) -> None:
    """Have memory ready for objects of `nbytes` in all, so that putting them is quick.

    Raises
    ------
    TypeError, ValueError
        If it is no whole number of bytes.
    StoreFull
    """
    nbytes = index(nbytes)
    if nbytes < 0:
        raise ValueError(f"nbytes must not be negative, not {nbytes}")
    if nbytes and depot().usable():
        depot().prefault(nbytes)


def stats() -> dict[str, Any]:
    """Return what the store of this process holds; sizes in bytes.

    Returns
    -------
    dict
        ``mode``: how memory is shared. ``live``, ``free``, ``peak``, ``resident``,
        ``spilled``, ``budget``: bytes. ``objects``: held in this process's memory.
        ``held``: counts by holder, ``"local"`` for this process, or ``"connection 1"``.
        ``pinned``: kept for children of this process.
        ``puts``, ``copied``, ``referred``: objects and bytes copied into the store, and
        bytes sent that were there already. A table in notebooks.
    """
    from store._html import Stats

    return Stats(depot().stats())


# Where users find them.
for _public in (put, get, wait, free, share, empty, zeros, prefault, stats):
    _public.__module__ = "store"
