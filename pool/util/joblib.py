"""joblib on workers of this package, and with it whatever takes ``n_jobs``: scikit-learn, for one.

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

#: What `Parallel` tells every backend: how others write large arrays to files, for the most part.
_OF_OTHERS = frozenset({"context", "max_nbytes", "mmap_mode", "temp_folder", "verbose"})


class PoolBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib ships no annotations
    """Run each `joblib.Parallel` on a `Pool` of its own; used through joblib, by name.

    Parameters
    ----------
    nesting_level : int, optional
        Of joblib: inside of how many other parallel calls this is.
    inner_max_num_threads : int, optional
        Of joblib: threads of numerical libraries in each worker.
    **options
        Further arguments of `Pool`, as in ``parallel_config("pool", maxtasksperchild=100)``; those
        of `Parallel` that it does not know itself are, too.
    """

    supports_inner_max_num_threads = True
    supports_retrieve_callback = True
    supports_return_generator = True

    _pool: Pool | None = None
    #: How many calls have it: joblib keeps one backend for each ``parallel_config``, and within it
    #: another call may be made while a generator is read.
    _users = 0

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many workers `n_jobs` means: -1 one for each usable CPU, -2 one less.

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
            Were looked at when this backend was chosen.
        **options
            What `Parallel` was given beside.
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
        """Return what the callback got, or raise it.

        A batch that has succeeded returns a list, so an exception is no result.
        """
        if isinstance(out, BaseException):
            raise out
        return out

    def terminate(self) -> None:
        """End the workers, unless another call has them; called by joblib at the end of one."""
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
        """End what is running, after an error; start anew if there is more to come."""
        self._end()
        # Batches that joblib had cut and not submitted would be part of its next call.
        while not self.parallel._ready_batches.empty():
            self.parallel._ready_batches.get_nowait()
        if ensure_ready:
            self._pool = Pool(**self._arguments)


def register(name: str = "pool", make_default: bool = False) -> None:
    """Have joblib know workers of this package as a backend.

    Parameters
    ----------
    name : str
        As which it is asked for: ``joblib.parallel_config(backend=name)``.
    make_default : bool
        Use it where no backend is named.
    """
    register_parallel_backend(name, PoolBackend, make_default=make_default)


def register_ray() -> None:
    """Register the backend under the name that Ray gives to its own: ``"ray"``."""
    register("ray")
