"""Contexts of start methods whose ``Pool`` is that of this package, and the choice of a method.

A context wraps the standard one of the same name and passes every other attribute on to it, so
that locks, queues and processes made from it are the standard's.

Choosing a start method means the same as in the standard. If none is chosen, a Pool uses a method
of this package, "default": workers come from a clean server process and inherit nothing.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from multiprocessing.context import BaseContext
    from typing import Any

    from ._faces._pool import Pool as PoolType

METHODS = ("fork", "spawn", "forkserver")

# The standard context that `set_start_method` of this module chose last. Needed because the
# standard's state does not tell "fork was chosen" from "fork was taken because somebody made a
# lock": both leave the same object in the same place.
_chosen: Any = None

_contexts: dict[str, Context] = {}


class Context:
    """Stands for a standard context, with the Pool of this package in place of the standard's.

    Every attribute except `Pool`, `active_children`, `cpu_count` and `get_context` comes from the
    standard context of the same start method. Programs derive from ``type(get_context())`` to
    replace `Process` by a class of their own, so that workers may have children. Pools here start
    no `Process`, and their workers may have children anyway.
    """

    #: How the Pools made from this context start their workers.
    _method = "default"

    def __init__(self) -> None:
        import multiprocessing

        method = self._method
        self._standard: BaseContext = multiprocessing.get_context(
            None if method == "default" else method
        )

    # Callers that check for a standard context (torch's DataLoader does) find one.
    @property
    def __class__(self) -> type[Any]:
        return type(self._standard)

    @__class__.setter
    def __class__(self, value: type[Any]) -> None:
        raise TypeError("the class of a context cannot be changed")

    def Pool(  # the standard's spelling
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        **options: Any,
    ) -> PoolType:
        """Return a Pool that starts its workers by this context's method.

        Parameters
        ----------
        processes, initializer, initargs, maxtasksperchild
            As for `pool.Pool`.
        **options
            What `pool.Pool` takes beyond the standard.
        """
        from . import Pool

        return Pool(processes, initializer, initargs, maxtasksperchild, context=self, **options)

    def cpu_count(self) -> int:
        """Return how many CPUs the machine has."""
        from ._cpus import cpu_count

        return cpu_count()

    def active_children(self) -> list[Any]:
        """Return the processes that this one has started and that run, workers too."""
        from . import active_children

        return active_children()

    def get_context(self, method: str | None = None) -> Context:
        """Return this context, or the one of another start method."""
        return self if method is None else get_context(method)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            # copy and pickle look these up before `_standard` is set.
            raise AttributeError(name)
        return getattr(self._standard, name)

    def __reduce__(self) -> Any:
        if type(self) not in _CLASSES.values():
            return type(self), ()
        return get_context, (None if self._method == "default" else self._method,)

    def __repr__(self) -> str:
        return f"<pool context {self._method!r}>"


class ForkContext(Context):
    """The context of "fork"."""

    _method = "fork"


class SpawnContext(Context):
    """The context of "spawn"."""

    _method = "spawn"


class ForkServerContext(Context):
    """The context of "forkserver"."""

    _method = "forkserver"


_CLASSES: dict[str, type[Context]] = {
    kind._method: kind for kind in (Context, ForkContext, SpawnContext, ForkServerContext)
}


def get_context(method: str | None = None) -> Context:
    """Return the context of a start method, with the ``Pool`` of this package.

    Parameters
    ----------
    method : {"fork", "spawn", "forkserver"}, optional
        By default the one that `set_start_method` chose; if it chose none, "default" of this
        package.

    Raises
    ------
    ValueError
        If this platform has no such method.
    """
    name = method or start_method_for(None)
    context = _contexts.get(name)
    if context is None:
        if name not in _CLASSES:
            import multiprocessing

            multiprocessing.get_context(method)  # raises the standard's error
        context = _contexts[name] = _CLASSES[name]()
    return context


def set_start_method(method: str | None, force: bool = False) -> None:
    """Choose how processes are started from now on, Pools included.

    Parameters
    ----------
    method : {"fork", "spawn", "forkserver"} or None
        None (with `force`) takes an earlier choice back.
    force : bool
        Replace an earlier choice, instead of raising `RuntimeError`.
    """
    global _chosen
    import multiprocessing

    multiprocessing.set_start_method(method, force)
    _chosen = _actual_context()


def start_method_for(context: object) -> str:
    """Return the method by which a Pool is to start its workers.

    Parameters
    ----------
    context : Context, multiprocessing context, or None
        The Pool's `context` argument.

    Returns
    -------
    {"default", "fork", "spawn", "forkserver"}
        "default" if neither a context nor `set_start_method` named one.

    Raises
    ------
    ValueError
        If the context's method is none of these.
    """
    # `type`, not `isinstance`: a Context says that it is a standard one.
    kind = type(context)
    if issubclass(kind, Context):
        return kind._method
    if context is None or context is _standard_attribute("_default_context"):
        return _chosen_method()
    method = getattr(context, "get_start_method", lambda: None)()
    if method not in METHODS:
        if context in METHODS:
            reason, remedy = "the name of a start method is no context", f"get_context({context!r})"
        else:
            reason = f"its start method is {method!r}"
            remedy = f"a context made by get_context with one of {', '.join(METHODS)}, or none"
        raise ValueError(f"cannot start workers by context {context!r}: {reason}; give {remedy}")
    return str(method)


def _chosen_method() -> str:
    actual = _actual_context()
    if actual is None:
        return "default"
    initial = getattr(_standard_attribute("_default_context"), "_default_context", None)
    if actual is initial and actual is not _chosen:
        return "default"
    return str(actual.get_start_method())


def _actual_context() -> Any:
    return getattr(_standard_attribute("_default_context"), "_actual_context", None)


def _standard_attribute(name: str) -> Any:
    # If the standard module is not imported, nothing was chosen there; it is not imported only to
    # find that out.
    return getattr(sys.modules.get("multiprocessing.context"), name, None)


def set_forkserver_preload(module_names: list[str], *, on_error: str = "ignore") -> None:
    """Set the modules that the servers which fork workers import beforehand.

    Holds for Pools made from now on, and for the standard module's "forkserver" method.

    Parameters
    ----------
    module_names : list of str
        Importable names. "__main__" has no effect on Pools: workers never run the main module.
    on_error : {"ignore", "warn", "fail"}
        What the standard's server does if one cannot be imported, since Python 3.15. Those of Pools
        go on without it: a task that needs it says what is wrong.
    """
    import multiprocessing

    options = {} if on_error == "ignore" else {"on_error": on_error}
    multiprocessing.set_forkserver_preload(module_names, **options)


def preload_names() -> list[str]:
    """Return the modules that `set_forkserver_preload` named, without "__main__".

    Empty, without importing anything, if nobody has used the standard forkserver module.
    """
    server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    names = getattr(server, "_preload_modules", None) or ()
    return [name for name in names if name != "__main__"]


# Where users find them.
for _public in (get_context, set_start_method, set_forkserver_preload):
    _public.__module__ = "pool"
