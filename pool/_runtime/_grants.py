"""Which actors and tasks hold which CPUs, GPUs and other resources, and which wait for them."""

from __future__ import annotations

from pool._clock import monotonic
from pool._objects._requests import Requests
from pool._objects._resources import Grant, Resources
from pool._workers._thread_limits import thread_limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from pool._local._driver import Driver


#: Seconds for which all CPUs are granted, and something waits for one, before that is told.
CLAIMED = 10.0


class Grants:
    """Grant resources, each in the order of the requests for it. Under the driver's lock.

    Tasks that ask for one CPU, as most do, are not counted here: they take turns on the workers of
    the engine, of which there are as many as CPUs that are not granted here.

    Parameters
    ----------
    driver : Driver
    books : Resources
    given : dict
        Environment variables that the program gives to all of them.
    tell : callable
        ``tell(text)`` prints a message to the program.
    """

    def __init__(
        self,
        driver: Driver,
        books: Resources,
        given: dict[str, str],
        tell: Callable[[str], None],
    ) -> None:
        self._driver = driver
        self.books = books
        self.given = given
        self._tell = tell
        self._requests = Requests(books)
        #: Since when all CPUs are granted, on the monotonic clock; None: some are free.
        self._claimed: float | None = None
        #: Whether a look at that is due, or will never be again.
        self._looks = False

    def unschedulable(self, resources: Any, title: str) -> Exception | None:
        """Return an error if a request can never be met, else None.

        Parameters
        ----------
        resources : dict or None
            None: one CPU, on a worker of the engine.
        title : str
            Of the task or actor.
        """
        why = self.books.impossible({"CPU": 1.0} if resources is None else resources)
        if not why:
            return None
        from pool.exceptions import TaskUnschedulableError

        return TaskUnschedulableError(
            f"{title} can never run: {why}; give init() what this machine has, or ask for less"
        )

    def ask(self, request: Mapping[str, float], granted: Callable[[Grant | None], None]) -> None:
        """Call ``granted(grant)`` as soon as the request can be met; with None if it is empty."""
        if not any(request.values()):
            granted(None)
            return
        self._requests.add(granted, request)
        self._serve()

    def withdraw(
        self, request: Mapping[str, float], granted: Callable[[Grant | None], None]
    ) -> None:
        """Forget a request that was not met yet: its actor is gone."""
        self._requests.withdraw(granted, request)
        self._serve()

    def _serve(self) -> None:
        while (found := self._requests.take()) is not None:
            granted, grant = found
            self._resize()
            granted(grant)

    def give_back(self, grant: Grant) -> None:
        """Take a grant back."""
        self.books.give_back(grant)
        self._resize()
        self._serve()

    def lend(self, grant: Grant) -> None:
        """Let others have the CPUs of a task, which waits for them, until `take_again`."""
        self.books.lend(grant)
        self._resize()
        self._serve()

    def take_again(self, grant: Grant) -> None:
        """Count them as held again: the task goes on."""
        self.books.take_again(grant)
        self._resize()

    def _resize(self) -> None:
        """Let the engine have as many workers as there are CPUs that are not granted."""
        from pool._local import _events as ev

        free = int(self.books.amounts(free=True).get("CPU", 0.0))
        self._driver.inbox.append(ev.ProcessesChanged(max(0, free)))
        if free > 0:
            self._claimed = None
        elif self._claimed is None:
            self._claimed = monotonic()
            self._look_after(CLAIMED)

    def _look_after(self, seconds: float) -> None:
        if not self._looks:
            self._looks = True
            self._driver.after(seconds, self._look)

    def _look(self) -> None:
        """Tell, once, that something may wait for ever; without a word it would seem to hang."""
        self._looks = False
        if self._claimed is None:
            return
        left = self._claimed + CLAIMED - monotonic()
        if left > 0.0 or not (self._driver.scheduler.queued or self._requests.wait_for("CPU")):
            self._look_after(left if left > 0.0 else CLAIMED)
            return
        self._looks = True
        cpus = self.books.amounts().get("CPU", 0.0)
        self._tell(
            f"All {cpus:g} CPUs are held by actors, or by tasks that ask for several, and others "
            f"have waited for one for {CLAIMED:g} s. An actor holds its num_cpus until it ends: "
            "leave that out, or give init() more CPUs"
        )

    def free(self, workers: Iterable[Any]) -> dict[str, float]:
        """Return how much is free by name; `workers` of the engine have a CPU each as they run."""
        free = self.books.amounts(free=True)
        running = sum(bool(worker.messages) and not worker.blocked for worker in workers)
        if "CPU" in free:
            free["CPU"] = max(0.0, free["CPU"] - running)
        return free

    def names_of(self, grant: Grant | None) -> list[str]:
        """Return the names of the GPUs of a grant."""
        return [] if grant is None else self.books.names_of(grant)

    def environ(self, request: Mapping[str, float], gpus: Sequence[str]) -> dict[str, str]:
        """Return the variables by which libraries see what was granted."""
        environ: dict[str, str] = {}
        if request.get("CPU", 0) > 1:
            environ |= thread_limits(int(request["CPU"])) | self.given
        if "GPU" in request or self.books.devices:
            # A process without a grant must see no GPU: it would take the memory of another one's.
            environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        return environ
