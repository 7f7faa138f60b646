"""How the workers of an engine are started: by which method, from which server, with what."""

from __future__ import annotations

import sys

from pool._pickling import inherits
from pool._pickling._shared import ALL
from pool._pickling._tables import tables_of_main
from pool._transport._messages import AWAITED
from pool._workers import _launcher, _patches
from pool._workers._sooner import (
    has_connections,
    is_alone,
    is_importing,
    may_have_foreign_threads,
)
from store._codec import OUT_OF_BAND_MIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from store._codec import Encoded


class HalfImported(Exception):
    """Workers would inherit half of a module, which makes the pool while it is imported."""


def plan_start(
    method: str,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
    limits: dict[str, str],
    preload: Sequence[str],
    pool: int,
    shares: bool,
    waits: bool,
    saves: bool,
) -> tuple[str, Callable[[int], _launcher.Launcher], Sequence[Any]]:
    """Pickle the initializer, and decide how workers get it. For the parameters see `LocalEngine`.

    Returns
    -------
    method : str
        ``"fork"`` in place of `method` if something can only be inherited.
    connect : callable
        ``connect(journal fd)`` returns the launcher that asks a forkserver for workers.
    initial : sequence of bytes-like or Block
        The payload of the initializer, if each worker is to be sent it; empty if the forkserver
        has it, or if there is none.

    Raises
    ------
    HalfImported
        If `waits`: workers that nobody asked to be forked would lack what the module defines
        below, and could not import it either.
    """
    payload: Any = None
    chosen = method
    variables: dict[str, Any] = {}
    if shares and method == "forkserver" and _has_shared_primitives():
        method = "fork"
    elif pool and method != "fork":
        variables, lost = _variables_of_modules(shares, saves)
        if lost and shares:
            method = "fork"
    if initializer is not None and method != "fork":
        payload = _pickled(initializer, initargs, shares)
        if payload is None:
            method = "fork"
    if method == "fork":
        if waits and chosen != "fork" and is_importing():
            raise HalfImported
        run = None if initializer is None else lambda: initializer(*initargs)
        return method, lambda journal: _launcher.fork(run, journal, limits, pool, shares), ()
    initial: Sequence[Any] = ()
    if payload is not None and (payload.buffers or len(payload.data) >= OUT_OF_BAND_MIN):
        from store._depot import stored
        from store._mappings import Block

        blobs = stored(payload.packet)
        if any(type(blob) is Block for blob in blobs):
            payload, initial = AWAITED, blobs
    variables["alike"] = shares
    return (
        method,
        lambda journal: _launcher.connect(
            method, payload, journal, limits, preload, pool, variables
        ),
        initial,
    )


def _pickled(
    initializer: Callable[..., object], initargs: tuple[Any, ...], shares: bool
) -> Encoded | None:
    """Pickle an initializer; return None if only a fork of the program can have what it takes.

    Locks of `multiprocessing`, open connections and the like cannot be pickled, only inherited.
    """
    from pool._pickling._initializers import dumps_initializer

    try:
        payload = dumps_initializer(initializer, initargs, ALL if shares else 0, shares)
    except Exception:
        return None
    return None if inherits(payload) else payload


def _has_shared_primitives() -> bool:
    """Return whether modules of the program have locks, queues or values of `multiprocessing`."""
    if "multiprocessing" not in sys.modules:
        return False
    from pool._workers._variables._primitives import to_be_inherited

    return to_be_inherited()


def _variables_of_modules(alike: bool, saves: bool) -> tuple[dict[str, Any], bool]:
    """Return what the program has in its own modules, and has put into others.

    Parameters
    ----------
    alike : bool
        Whether workers are to be like forks: with the variables of the program's own modules.
    saves : bool
        Whether they may be forks only to save time or memory.

    Returns
    -------
    settings : dict
        Under ``"variables"`` and ``"patches"``.
    lost : bool
        Whether there is something that workers can only inherit.
    """
    from pool._workers._variables._snapshot import snapshots

    try:
        sent, lost = snapshots.take_all() if alike else ({}, "")
        if alike and not lost:
            lost = _must_be_inherited()
            if saves and not lost and is_alone():
                lost = _had_better_be_inherited()
    except Exception:
        # Objects of the program's are asked what they are; no pool is to fail for that.
        sent, lost = {}, ""
    patches, unsent = _patches.take()
    return {"variables": sent, "patches": patches}, bool(lost or unsent)


def _must_be_inherited() -> str:
    """Return the name of something else that workers can only have by inheriting it, or ""."""
    from pool._workers._variables import _installed
    from pool._workers._variables._snapshot import snapshots

    found = _installed.to_be_inherited() or snapshots.object_as_module()
    if found or not snapshots.modules():
        return found
    from pool._workers._variables import _once

    return _once.to_be_inherited(_once.HARMFUL)


def _had_better_be_inherited() -> str:
    """Return the name of what costs workers time or memory, or is another one in them, or ""."""
    from pool._workers._variables import _caches

    found = _caches.to_be_inherited()
    if not found:
        found = _saves_time_or_memory()
        # In a fork of a program in which OpenMP has worked, its work waits for ever.
        if found and may_have_foreign_threads():
            return ""
    return found


def _saves_time_or_memory() -> str:
    """Return the name of what workers would only have later or twice otherwise, or ""."""
    from pool._workers._variables._snapshot import snapshots

    found = ""
    tables = tables_of_main()
    if tables and not has_connections():
        from pool._workers._variables import _large

        found = _large.used_in_main(tables)
    if found or not snapshots.modules():
        return found
    from pool._workers._variables import _large, _once

    return _large.to_be_inherited() or _once.to_be_inherited(_once.COSTLY)
