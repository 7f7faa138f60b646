"""The store as a user sees it: put, get, share, and arrays made in place."""

from __future__ import annotations

import sys
from math import prod
from operator import index

from store._children import notice_fork
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
        once; later changes to `obj` are not seen. Buffers that live in the store already, see
        `share`, are not copied.

    Returns
    -------
    ObjectRef
        The object lives as long as there is a reference to it, or a view of what `get` returned.

    Raises
    ------
    StoreFull
        If neither memory nor disk has room.
    """
    notice_fork()
    return ObjectRef.of(*encoded(obj))


def get(refs: Any, timeout: float | None = None, copy: str = "cow") -> Any:
    """Return the object that a reference names, or a list of objects for a list.

    Parameters
    ----------
    refs : ObjectRef or list of ObjectRef
        Also references to results of tasks and actors: anything with a method ``future()``.
    timeout : float, optional
        Seconds to wait for each result of a task or actor; objects that were put need no wait.
    copy : {"cow", "readonly", "copy"}
        ``"cow"``: large buffers are mapped; what is written to them stays private, page
        by page. ``"readonly"``: mapped, and arrays refuse to be written to. ``"copy"``:
        copied, which is faster if everything is going to be overwritten.

    Returns
    -------
    object or list
        A new object at each call, independent of all others; for a list, the list of objects.

    Raises
    ------
    ObjectFreed
        If `free` was called for the object in this process.
    TimeoutError
        If the result of a task or actor was not there in time.
    TypeError
        If `refs` is something else.
    ValueError
        If `copy` is something else.
    """
    notice_fork()
    if isinstance(refs, ObjectRef):
        return load(refs, copy)
    if isinstance(refs, list):
        return [get(ref, timeout, copy) for ref in refs]
    if hasattr(refs, "future"):
        # A promise of a task's or an actor's result, which knows how to wait for it.
        future = refs.future()
        try:
            return future.result(timeout)
        except TimeoutError:
            if future.done():  # the task has raised it, or was done just now
                return future.result()
            raise TimeoutError(
                f"the value of {refs!r} was not there within {timeout} s; the task goes on"
            ) from None
    raise TypeError(
        f"get() takes an ObjectRef or a list of them, not {type(refs).__name__}; "
        "what put() returned is one"
    )


def wait(
    refs: Sequence[ObjectRef], num_returns: int = 1, timeout: float | None = None
) -> tuple[list[ObjectRef], list[ObjectRef]]:
    """Split references into those whose objects are there and the rest.

    Objects that were put are there at once, so this never blocks.

    Parameters
    ----------
    refs : sequence of ObjectRef
    num_returns : int
        How many to return as there.
    timeout : float, optional
        Seconds; not needed.

    Returns
    -------
    ready, rest : list of ObjectRef
        The first `num_returns` references, and the others.

    Raises
    ------
    ValueError
        If `num_returns` is not positive, or larger than the number of references, or if one of
        them is given twice.
    """
    if len(set(refs)) != len(refs):
        raise ValueError("wait() was given the same reference twice")
    if not 0 < num_returns <= len(refs):
        raise ValueError(f"num_returns={num_returns} of {len(refs)} references")
    return list(refs[:num_returns]), list(refs[num_returns:])


def free(refs: Any) -> None:
    """Give up objects early, in this process: `get` then raises `ObjectFreed`.

    Views that exist stay valid, and keep their memory. References that other processes hold stay
    valid too; one that arrives from there later has the object again.

    Parameters
    ----------
    refs : ObjectRef or iterable of ObjectRef

    Raises
    ------
    TypeError
        If something else is among them, such as a reference to the result of a task, which is freed
        with its last reference.
    """
    for ref in [refs] if isinstance(refs, ObjectRef) else refs:
        if not isinstance(ref, ObjectRef):
            raise TypeError(
                f"free() takes what store.put() returned, not {type(ref).__module__}."
                f"{type(ref).__qualname__}; results of tasks are freed with their last reference"
            )
        ref._object.free()


def share(obj: T) -> T:
    """Return a copy of an array, frame or other object whose buffers live in the store.

    Parameters
    ----------
    obj : object
        Anything that can be pickled; copied once.

    Returns
    -------
    object
        Of the same type, writable and private. Sent to a pool, as a whole or in contiguous slices,
        it is not copied, unless it was written to.

    Raises
    ------
    StoreFull
        If neither memory nor disk has room.
    """
    notice_fork()
    shared: T = load(put(obj))
    return shared


def empty(
    shape: SupportsIndex | Sequence[SupportsIndex],
    dtype: Any = float,
    order: Literal["C", "F"] = "C",
) -> np.ndarray[Any, Any]:
    """Return a new array that lives in the store, with arbitrary contents.

    For results: an array that is filled in place need not be copied when it is sent. Once it was
    sent it is private: receivers do not see what is written to it later.

    Parameters
    ----------
    shape, dtype, order
        As for ``numpy.empty``; `dtype` without Python objects.

    Returns
    -------
    ndarray
        An ordinary one if it is too small for a block, or if no memory is shared.

    Raises
    ------
    TypeError
        If `dtype` has Python objects.
    StoreFull
        If neither memory nor disk has room.
    """
    notice_fork()
    import numpy as np

    kind = np.dtype(dtype)
    if kind.hasobject:
        raise TypeError(f"cannot have {kind} in the store: Python objects live in one process")
    # numpy itself interprets the shape; items without a size take no memory, however many.
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
    """Return a new array of zeros that lives in the store; as `empty` in everything else."""
    array = empty(shape, dtype, order)
    array.reshape(-1, order="A").view("u1").fill(0)
    return array


def prefault(nbytes: int) -> None:
    """Make memory ready for objects of `nbytes` in all, so that putting them is quick.

    Parameters
    ----------
    nbytes : int
        Bytes.

    Raises
    ------
    TypeError, ValueError
        If `nbytes` is not an integer, or negative.
    StoreFull
        If neither memory nor disk has room.
    """
    notice_fork()
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
    notice_fork()
    from store._html import Stats

    return Stats(depot().stats())


# Shown as members of the package, where users import them from.
for _public in (put, get, wait, free, share, empty, zeros, prefault, stats):
    _public.__module__ = "store"
