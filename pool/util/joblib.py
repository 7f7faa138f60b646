"""joblib on workers of this package, and all that takes ``n_jobs`` by joblib, as scikit-learn does.

>>> import joblib
>>> from pool.util.joblib import register
>>> register()
>>> with joblib.parallel_config(backend="pool", n_jobs=2):
...     joblib.Parallel()(joblib.delayed(lambda x: x * x)(n) for n in range(4))
[0, 1, 4, 9]

Arrays go to the workers and come back without being pickled, and are private there; joblib's own
backends hand out large ones as read-only maps of files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from joblib.parallel import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
    register_parallel_backend,
)

from pool import Pool
from pool._cpus import usable_cpus

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pool import AsyncResult

__all__ = ["PoolBackend", "register", "register_ray"]

#: Options that `Parallel` passes to every backend, and that mean nothing to this one.
_OF_OTHERS = frozenset({"context", "max_nbytes", "mmap_mode", "temp_folder", "verbose"})


class PoolBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib ships no annotations
    """Run each `joblib.Parallel` on a `Pool` of its own; used through joblib, by name.

    Parameters
    ----------
    nesting_level : int, optional
        The number of parallel calls of joblib around this one.
    inner_max_num_threads : int, optional
        Threads of numerical libraries in each worker.
    **options
        Further arguments of `Pool`, as in ``parallel_config("pool", maxtasksperchild=100)``.
        Arguments of `Parallel` that it does not know itself are passed to `Pool` too.
    """

    supports_inner_max_num_threads = True
    supports_retrieve_callback = True
    supports_return_generator = True

    _pool: Pool | None = None
    #: The number of calls that use the Pool. joblib keeps one backend for each ``parallel_config``,
    #: and within it another call may be made while the results of a generator are read.
    _users = 0

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return the number of workers for `n_jobs`: -1 one for each usable CPU, -2 one less.

        Raises
        ------
        ValueError
            If it is 0.
        """
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning; give 1 or more, or -1")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(usable_cpus() + 1 + n_jobs, 1)

    def configure(
        self,
        n_jobs: int | None = 1,
        parallel: Any = None,
        prefer: str | None = None,
        require: str | None = None,
        **options: Any,
    ) -> int:
        """Start the workers; called by joblib.

        Parameters
        ----------
        n_jobs : int
        parallel : joblib.Parallel
        prefer, require : str
            Ignored here: joblib uses them to choose the backend.
        **options
            Further arguments of `Parallel`.
        """
        number = self.effective_n_jobs(n_jobs)
        if number == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        if self._pool is None:
            own = {name: value for name, value in options.items() if name not in _OF_OTHERS}
            self._arguments = {"processes": number, "blas_threads": self.inner_max_num_threads}
            self._arguments |= {**self.backend_kwargs, **own}
            self._pool = Pool(**self._arguments)
        self._users += 1
        return int(self._arguments["processes"])

    def submit(
        self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None
    ) -> AsyncResult[Any]:
        """Run a batch of calls; `callback` gets their results, or the exception."""
        if self._pool is None:
            raise RuntimeError(
                "these workers were ended by the error of another call within the same "
                "parallel_config; give each its own"
            )
        return self._pool.apply_async(func, callback=callback, error_callback=callback)

    def retrieve_result_callback(self, out: Any) -> Any:
        """Return the result that the callback got, or raise it if it is an exception.

        The result of a batch is a list, so that an exception is never a result.
        """
        if isinstance(out, BaseException):
            raise out
        return out

    def terminate(self) -> None:
        """End the workers unless another call uses them; joblib calls this at the end of each."""
        self._users = max(0, self._users - 1)
        if not self._users:
            self._end()
        self.reset_batch_stats()

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.terminate()
            self._pool.join()
            self._pool = None

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """End the workers after an error; start new ones if `ensure_ready`."""
        self._end()
        # Drop batches that joblib has not submitted: otherwise they would run in its next call.
        while not self.parallel._ready_batches.empty():
            self.parallel._ready_batches.get_nowait()
        if ensure_ready:
            self._pool = Pool(**self._arguments)


def register(name: str = "pool", make_default: bool = False) -> None:
    """Register workers of this package as a backend of joblib.

    Parameters
    ----------
    name : str
        Of the backend: ``joblib.parallel_config(backend=name)``.
    make_default : bool
        Whether joblib uses it if no backend is named.
    """
    register_parallel_backend(name, PoolBackend, make_default=make_default)


def register_ray() -> None:
    """Register the backend under the name that Ray gives to its own: ``"ray"``."""
    register("ray")
