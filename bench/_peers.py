"""The contenders, each behind the same few verbs.

A peer that is not installed is left out. What a peer cannot do raises `Unsupported`. Nothing is
done to make any of them look better or worse than in the hands of its users: defaults stay, but for
the start method, which is the same for all that have a choice, and for helpers that only observe.
"""

from __future__ import annotations

import importlib.util
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from bench._work import OURS, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


class Session:
    """An open pool. Subclasses have what their library has."""

    def map(self, func: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        """Map as the library does by default."""
        raise Unsupported

    def map_single(self, func: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        """Map with one item a task."""
        raise Unsupported

    def imap(self, func: Callable[..., Any], items: Sequence[Any]) -> Iterable[Any]:
        """Iterate in order, one item a task."""
        raise Unsupported

    def imap_unordered(self, func: Callable[..., Any], items: Sequence[Any]) -> Iterable[Any]:
        """Iterate as results come, one item a task."""
        raise Unsupported

    def apply(self, func: Callable[..., Any], item: Any) -> Any:
        """Call once and wait."""
        raise Unsupported

    def submit_all(self, func: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        """Submit one call for each item, then wait for all."""
        raise Unsupported


class Peer:
    """A library that can open a session.

    Parameters
    ----------
    name : str
        As the table calls it.
    module : str
        Which must be importable.
    open_session : callable
        ``open_session(workers)`` is a context that gives a `Session`.
    program : str, optional
        The lines of a whole program that maps ``work`` over eight items, indented by eight.
    rounds : int, optional
        No more than so many, for a peer that takes seconds to start.
    """

    def __init__(
        self,
        name: str,
        module: str,
        open_session: Callable[[int], AbstractContextManager[Session]],
        program: str | None = None,
        rounds: int | None = None,
    ) -> None:
        self.name = name
        self.rounds = rounds
        self.module = module
        self.open = open_session
        self.program = program

    @property
    def present(self) -> bool:
        """Tell whether it is installed."""
        return importlib.util.find_spec(self.module) is not None

    def __repr__(self) -> str:
        return f"<Peer {self.name}>"


# ---------------------------------------------------------------- pools like the standard's


class PoolSession(Session):
    """Anything with the interface of `multiprocessing.Pool`."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool

    def map(self, func: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        return self.pool.map(func, items)

    def map_single(self, func: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        return self.pool.map(func, items, 1)

    def imap(self, func: Callable[..., Any], items: Sequence[Any]) -> Iterable[Any]:
        return self.pool.imap(func, items)

    def imap_unordered(self, func: Callable[..., Any], items: Sequence[Any]) -> Iterable[Any]:
        return self.pool.imap_unordered(func, items)

    def apply(self, func: Callable[..., Any], item: Any) -> Any:
        return self.pool.apply(func, (item,))

    def submit_all(self, func: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        handles = [self.pool.apply_async(func, (item,)) for item in items]
        return [handle.get() for handle in handles]


def _pool_like(name: str, module: str, method: str | None) -> Peer:
    @contextmanager
    def session(workers: int) -> Iterator[Session]:
        library: Any = importlib.import_module(module)
        make = library.get_context(method).Pool if method else library.Pool
        with make(workers) as pool:
            yield PoolSession(pool)

    chosen = f"get_context({method!r}).Pool" if method else "Pool"
    program = f"""\
        import {module} as library
        with library.{chosen}(2) as pool:
            print(sum(pool.map(work, range(8))))
    """
    return Peer(name, module, session, program)


@contextmanager
def _ray_session(workers: int) -> Iterator[Session]:
    import ray
    from ray.util.multiprocessing import Pool

    # Its helpers use CPU time while they idle, and its SIGTERM handler would be inherited by the
    # forks of others: so it does not stay between its turns.
    ray.init(num_cpus=workers, log_to_driver=False, include_dashboard=False)
    try:
        pool = Pool(workers)
        yield PoolSession(pool)
        pool.terminate()
    finally:
        ray.shutdown()


_RAY_PROGRAM = """\
        from ray.util.multiprocessing import Pool
        pool = Pool(2)
        print(sum(pool.map(work, range(8))))
        pool.terminate()
"""


# ---------------------------------------------------------------- executors


class ExecutorSession(Session):
    """Anything with the interface of `concurrent.futures.Executor`."""

    def __init__(self, executor: Any) -> None:
        self.executor = executor

    def map(self, func: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        return list(self.executor.map(func, items))

    # Its default is one item a task: there is no other to compare with.
    map_single = map

    def imap(self, func: Callable[..., Any], items: Sequence[Any]) -> Iterable[Any]:
        return self.executor.map(func, items)

    def apply(self, func: Callable[..., Any], item: Any) -> Any:
        return self.executor.submit(func, item).result()

    def submit_all(self, func: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        futures = [self.executor.submit(func, item) for item in items]
        return [future.result() for future in futures]


@contextmanager
def _futures_session(workers: int) -> Iterator[Session]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as executor:
        yield ExecutorSession(executor)


@contextmanager
def _loky_session(workers: int) -> Iterator[Session]:
    from loky import ProcessPoolExecutor

    with ProcessPoolExecutor(workers) as executor:
        yield ExecutorSession(executor)


def _executor_program(imports: str, arguments: str) -> str:
    return f"""\
        {imports}
        with ProcessPoolExecutor({arguments}) as executor:
            print(sum(executor.map(work, range(8))))
    """


# ---------------------------------------------------------------- others


class JoblibSession(Session):
    """`joblib.Parallel`, which sizes its batches by itself."""

    def __init__(self, parallel: Any) -> None:
        self.parallel = parallel

    def map(self, func: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        from joblib import delayed

        call = delayed(func)
        return self.parallel(call(item) for item in items)

    map_single = map

    def apply(self, func: Callable[..., Any], item: Any) -> Any:
        return self.map(func, [item])[0]


@contextmanager
def _joblib_session(workers: int) -> Iterator[Session]:
    if workers == 1:
        raise Unsupported("with one worker it runs everything in the program itself")
    from joblib import Parallel
    from joblib.externals.loky import get_reusable_executor

    try:
        with Parallel(n_jobs=workers) as parallel:
            yield JoblibSession(parallel)
    finally:
        # It keeps its workers for the next caller; here they would disturb the others.
        get_reusable_executor().shutdown(wait=True)


_JOBLIB_PROGRAM = """\
        from joblib import Parallel, delayed
        print(sum(Parallel(n_jobs=2)(delayed(work)(x) for x in range(8))))
"""


def _wrapped(items: Sequence[Any]) -> Sequence[Any]:
    """Keep mpire from unpacking arrays and frames into arguments."""
    return items if isinstance(items[0], int | float) else [(item,) for item in items]


class MpireSession(PoolSession):
    """`mpire.WorkerPool`: like the standard's pool, but for its maps."""

    def map(self, func: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        return self.pool.map(func, _wrapped(items), concatenate_numpy_output=False)

    def map_single(self, func: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        return self.pool.map(func, _wrapped(items), chunk_size=1, concatenate_numpy_output=False)


@contextmanager
def _mpire_session(workers: int) -> Iterator[Session]:
    from mpire.pool import WorkerPool

    with WorkerPool(n_jobs=workers, keep_alive=True) as pool:
        yield MpireSession(pool)


_MPIRE_PROGRAM = """\
        from mpire import WorkerPool
        with WorkerPool(n_jobs=2) as pool:
            print(sum(pool.map(work, range(8))))
"""


class PebbleSession(Session):
    """`pebble.ProcessPool`."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool

    def map(self, func: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        return list(self.pool.map(func, items).result())

    map_single = map

    def imap(self, func: Callable[..., Any], items: Sequence[Any]) -> Iterable[Any]:
        return self.pool.map(func, items).result()

    def apply(self, func: Callable[..., Any], item: Any) -> Any:
        return self.pool.schedule(func, args=[item]).result()

    def submit_all(self, func: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        futures = [self.pool.schedule(func, args=[item]) for item in items]
        return [future.result() for future in futures]


@contextmanager
def _pebble_session(workers: int) -> Iterator[Session]:
    import multiprocessing

    from pebble import ProcessPool

    with ProcessPool(max_workers=workers, context=multiprocessing.get_context("fork")) as pool:
        yield PebbleSession(pool)


_PEBBLE_PROGRAM = """\
        from pebble import ProcessPool
        with ProcessPool(max_workers=2) as pool:
            print(sum(pool.map(work, range(8)).result()))
"""


class DaskSession(Session):
    """`distributed.Client` of a local cluster."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def map(self, func: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        futures = self.client.map(func, items, pure=False)
        return self.client.gather(futures)

    map_single = map

    def apply(self, func: Callable[..., Any], item: Any) -> Any:
        return self.client.submit(func, item, pure=False).result()

    def submit_all(self, func: Callable[..., Any], items: Sequence[Any]) -> list[Any]:
        futures = [self.client.submit(func, item, pure=False) for item in items]
        return self.client.gather(futures)


@contextmanager
def _dask_session(workers: int) -> Iterator[Session]:
    from distributed import Client, LocalCluster

    with ExitStack() as stack:
        cluster = stack.enter_context(
            LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
        )
        yield DaskSession(stack.enter_context(Client(cluster)))


_DASK_PROGRAM = """\
        from distributed import Client
        with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
            print(sum(client.gather(client.map(work, range(8), pure=False))))
"""

PEERS = (
    _pool_like(OURS, "pool", None),
    _pool_like("multiprocessing fork", "multiprocessing", "fork"),
    _pool_like("multiprocessing forkserver", "multiprocessing", "forkserver"),
    _pool_like("multiprocessing spawn", "multiprocessing", "spawn"),
    Peer(
        "concurrent.futures",
        "concurrent.futures",
        _futures_session,
        _executor_program("from concurrent.futures import ProcessPoolExecutor", "2"),
    ),
    Peer(
        "loky",
        "loky",
        _loky_session,
        _executor_program("from loky import ProcessPoolExecutor", "2"),
    ),
    Peer("joblib", "joblib", _joblib_session, _JOBLIB_PROGRAM),
    Peer("mpire", "mpire", _mpire_session, _MPIRE_PROGRAM),
    Peer("pebble", "pebble", _pebble_session, _PEBBLE_PROGRAM),
    _pool_like("multiprocess", "multiprocess", "fork"),
    Peer("dask", "distributed", _dask_session, _DASK_PROGRAM, rounds=3),
    Peer("ray", "ray.util.multiprocessing", _ray_session, _RAY_PROGRAM, rounds=3),
)

#: What these leave in the process are threads: a pool that forks it afterwards may never return. So
#: they have their turns after the others, in a process of their own.
LINGERING = ("dask", "ray")

#: Enough to see where ours stands, for a short run.
USUAL = ("pool", "multiprocessing fork", "concurrent.futures")


def find_peers(names: Iterable[str] | None = None) -> list[Peer]:
    """Return the peers that are installed, ours first.

    Parameters
    ----------
    names : iterable of str, optional
        Only these.

    Raises
    ------
    ValueError
        If there is no peer of such a name.
    """
    known = {peer.name: peer for peer in PEERS}
    wanted = list(known) if names is None else list(names)
    for name in wanted:
        if name not in known:
            raise ValueError(f"no peer is called {name!r}; there are {', '.join(known)}")
    return [peer for peer in PEERS if peer.name in wanted and _present(peer)]


def _present(peer: Peer) -> bool:
    try:
        return peer.present
    except ModuleNotFoundError:
        return False  # of `ray.util.multiprocessing`, not even `ray` is there
