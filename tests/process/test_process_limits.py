"""Run pools where something is scarce or odd: descriptors, processes, directories, streams."""

from __future__ import annotations

import errno
import pickle
import textwrap
from typing import TYPE_CHECKING

import pytest
from poolscripts import run_program

from pool import StartError

if TYPE_CHECKING:
    from pathlib import Path

HEAD = """
import gc, os, resource, signal, sys
from pool import Pool, StartError, get_context, PoolError

def square(n):
    return n * n

def server_of(_=None):
    # The pid of a worker's forkserver, which `os.getppid` does not tell.
    with open("/proc/self/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])

def limit(descriptors):
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

def open_files():
    return len(os.listdir("/proc/self/fd"))

class NoDescriptor:
    # Have none free within this block.

    def __enter__(self):
        self.taken = []
        try:
            while True:
                self.taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            return self

    def __exit__(self, *exc_info):
        for fd in self.taken:
            os.close(fd)
"""


def run(body: str, folder: Path) -> str:
    """Run a program with these helpers."""
    return run_program(HEAD + textwrap.dedent(body), folder).succeeded()


@pytest.mark.parametrize("method", ["", "fork", "spawn", "forkserver"])
def test_few_descriptors_are_enough(tmp_path: Path, method: str) -> None:
    body = f"""
        limit(48)
        with get_context({method or None!r}).Pool(4) as p:
            print(p.map(square, range(8), 1))
        p.join()
    """
    assert run(body, tmp_path) == "[0, 1, 4, 9, 16, 25, 36, 49]\n"


def test_pools_give_their_descriptors_back(tmp_path: Path) -> None:
    body = """
        with Pool(2) as p:
            p.map(square, range(8))
        p.join()
        before = open_files()
        limit(48)
        for n in range(60):
            with Pool(2) as p:
                assert p.map(square, range(8)) == [k * k for k in range(8)]
            p.join()
        print(open_files() == before)
    """
    assert run(body, tmp_path) == "True\n"


def test_a_fork_that_is_refused_leaves_no_descriptor(tmp_path: Path) -> None:
    body = """
        def refused():
            raise BlockingIOError(11, "Resource temporarily unavailable")

        context, fork = get_context("fork"), os.fork
        with context.Pool(1) as p:
            p.apply(square, (3,))
        p.join()
        before = open_files()
        os.fork = refused
        for _ in range(3):
            try:
                context.Pool(1)
            except StartError:
                print("refused")
        os.fork = fork
        print(open_files() - before)
    """
    assert run(body, tmp_path) == "refused\n" * 3 + "0\n"


@pytest.mark.parametrize("room", [0, 2])
def test_a_kernel_that_watches_no_more_descriptors_leaves_none_open(
    tmp_path: Path, room: int
) -> None:
    # Without room for the pool itself; or without any for its worker.
    body = f"""
        from pool._local import _driver

        class Full:
            def __init__(self):
                self.epoll, self.room = made(), {room}

            def register(self, *args):
                self.room -= 1
                if self.room < 0:
                    raise OSError(28, "No space left on device")
                self.epoll.register(*args)

            def __getattr__(self, name):
                return getattr(self.epoll, name)

        with Pool(1) as p:
            p.apply(square, (3,))
        p.join()
        before = open_files()
        made, _driver.epoll_above_streams = _driver.epoll_above_streams, Full
        gc.disable()
        for _ in range(3):
            try:
                Pool(1)
            except OSError:
                print("refused")
        if {room}:
            print(open_files() - before)  # the connections that tell when the workers have ended
        gc.collect()
        print(open_files() - before)
    """
    assert run(body, tmp_path) == "refused\n" * 3 + ("3\n" if room else "") + "0\n"


def test_large_results_give_their_descriptors_back(tmp_path: Path) -> None:
    body = """
        limit(48)
        p = Pool(2)
        blocks = p.map(bytes, [2_000_000] * 100, 1)
        print(sum(map(len, blocks)))
        print(sum(map(len, p.imap(bytes, [2_000_000] * 100))))
        handles = [p.apply_async(bytes, (2_000_000,)) for _ in range(100)]
        print(sum(len(h.get()) for h in handles))
        print(sum(p.map(len, blocks, 1)), sum(p.map(len, blocks, 50)))
        p.terminate()
        p.join()
    """
    total = 200_000_000
    assert run(body, tmp_path) == f"{total}\n{total}\n{total}\n{total} {total}\n"


def test_more_workers_than_descriptors_is_an_error(tmp_path: Path) -> None:
    body = """
        limit(40)
        try:
            with Pool(64) as p:
                print(p.map(square, range(8), 1))
        except StartError as error:
            print("cannot start one more worker" in str(error), "ulimit" in str(error))
        limit(40)
        with Pool(2) as p:
            print(p.map(square, range(3)))
    """
    assert run(body, tmp_path) == "True True\n[0, 1, 4]\n"


@pytest.mark.parametrize("nbytes", [200_000, 2_000_000])  # by a file; by reference
def test_large_result_without_a_descriptor_to_receive_it(tmp_path: Path, nbytes: int) -> None:
    body = f"""
        nbytes = {nbytes}
        limit(64)
        with Pool(2) as p:
            p.map(square, range(8), 1)
            for call in (
                lambda: p.apply(bytes, (nbytes,)),
                lambda: p.apply_async(bytes, (nbytes,)).get(),
                lambda: p.map(bytes, [10, nbytes, 20], 1),
            ):
                with NoDescriptor():
                    try:
                        call()
                    except OSError as error:
                        print(error.errno, "ulimit" in str(error))
                    kept = p.map(bytes, [3, nbytes], 1, return_exceptions=True)
                    print(kept[0], type(kept[1]).__name__)
            print(len(p.apply(bytes, (nbytes,))), p.stats()["restarts"])
    """
    lost = "24 True\nb'\\x00\\x00\\x00' OSError\n"
    assert run(body, tmp_path) == lost * 3 + f"{nbytes} 0\n"


def test_results_that_were_lost_do_not_stay_in_the_worker(tmp_path: Path) -> None:
    body = """
        import numpy, store

        def make(count):
            return numpy.ones(count)

        def held():
            return store.stats()["objects"]

        limit(64)
        with Pool(1) as p:
            p.apply(make, (1_000_000,))
            p.apply(held)
            before = p.apply(held)
            for _ in range(3):
                # The worker's memory was seen here; new memory needs a descriptor again.
                with NoDescriptor():
                    try:
                        p.apply(make, (40_000_000,))
                    except OSError as error:
                        print(error.errno)
            p.apply(held)
            print(p.apply(held) - before, p.apply(make, (10,)).sum())
    """
    assert run(body, tmp_path).endswith("0 10.0\n")


@pytest.mark.parametrize("store", ["auto", "off"])
def test_a_task_that_no_worker_has_the_room_to_receive_fails(tmp_path: Path, store: str) -> None:
    body = f"""
        from pool import WorkerDied

        def take_all():
            globals()["taken"] = NoDescriptor().__enter__()

        os.environ["POOL_STORE"] = {store!r}
        limit(64)
        with Pool(2, take_all) as p:
            for call in [
                lambda: p.apply(len, (bytes(200_000),)),
                lambda: p.map(len, [[bytes(200_000)], [1]], 1, return_exceptions=True)[0],
            ]:
                try:
                    error = call()
                except WorkerDied as raised:
                    error = raised
                print(error.cause)
            print(p.map(square, range(4)))
    """
    ended = run_program(HEAD + textwrap.dedent(body), tmp_path)
    why = "there was no memory or no descriptor to receive it with"
    assert ended.out.splitlines() == [why, why, "[0, 1, 4, 9]"]


def test_too_few_descriptors_for_a_forkserver(tmp_path: Path) -> None:
    body = """
        from pool._workers._servers import shutdown_forkservers
        with Pool(1) as p:
            p.map(square, [1])
        p.join()
        shutdown_forkservers()  # all modules are imported, and the next pool needs another one
        limit(64)
        said = set()
        with NoDescriptor() as none:
            for _ in range(6):  # with so many descriptors left
                try:
                    Pool(2)
                except StartError as error:
                    said.add("cannot start" in str(error) and "ulimit" in str(error))
                os.close(none.taken.pop())
        print(said)
        with Pool(2) as p:
            print(p.map(square, [3]))
    """
    assert run(body, tmp_path) == "{True}\n[9]\n"


def test_no_descriptor_left_at_all(tmp_path: Path) -> None:
    body = """
        with Pool(1) as p:
            p.map(square, [1])
        p.join()
        limit(64)
        with NoDescriptor():
            try:
                p = Pool(2)
                print(p.map_async(square, [3]).get(90))
            except StartError as error:
                print("cannot start a pool of 2 workers" in str(error), "ulimit" in str(error))
        with Pool(2) as p:
            print(p.map(square, [3]))
    """
    assert run(body, tmp_path) == "True True\n[9]\n"


def test_no_descriptor_to_look_after_memory_by(tmp_path: Path) -> None:
    body = """
        limit(64)
        with Pool(1) as p:
            driver = p._engine.driver
            driver.memory_due = None  # not before
            p.apply(square, (1,))
            with NoDescriptor():
                driver.locked(driver._look_at_memory)
                print(p.apply(square, (3,)), driver.guard)
            driver.locked(driver._look_at_memory)
            print(p.apply(square, (4,)), driver.guard is not None)
    """
    assert run(body, tmp_path) == "9 None\n16 True\n"


@pytest.mark.parametrize(
    ("imports", "before", "told"),
    [
        ("", "", "by its other workers"),
        (
            "numpy, store",
            "assert p.apply(len, (numpy.ones(100_000),)) == 100_000",
            " 1 by memory that it shares with others",
        ),
    ],
)
def test_what_uses_up_the_descriptors_is_named_when_a_worker_cannot_start(
    tmp_path: Path, imports: str, before: str, told: str
) -> None:
    body = f"""
        import {imports or "sys"}
        from pool import StartError
        limit(40)
        with Pool(1, maxtasksperchild=1) as p:
            {before or "pass"}
            try:
                with NoDescriptor():
                    for _ in range(5):
                        p.apply(square, (2,))
            except StartError as error:
                print(error)
    """
    said = run(body, tmp_path)
    assert said.startswith("cannot start one more worker (")
    assert "All 40 descriptors" in said
    assert told in said


@pytest.mark.parametrize("method", ["forkserver", "fork", "spawn"])
def test_workers_that_the_kernel_does_not_let_be_asked_for(tmp_path: Path, method: str) -> None:
    # Too many descriptors are on their way, for example: nothing tells of such a worker's end.
    body = f"""
        import errno
        from pool import StartError
        from pool._workers._launcher import Launcher
        def refuse(self, workers):
            raise OSError(errno.ETOOMANYREFS, "Too many references: cannot splice")
        launch = Launcher.launch
        with get_context({method!r}).Pool(1, maxtasksperchild=1) as p:
            print(p.apply(square, (2,)))
            Launcher.launch = refuse
            try:
                for _ in range(3):
                    p.apply(square, (2,))
            except StartError as error:
                print("Too many references" in str(error))
            Launcher.launch = launch
            print(p.apply(square, (3,)))
    """
    assert run(body, tmp_path) == "4\nTrue\n9\n"


def test_no_descriptor_for_another_forkserver(tmp_path: Path) -> None:
    body = """
        limit(40)
        with Pool(1) as p:
            server = p.apply(server_of)
            with NoDescriptor():
                running = p.apply_async(signal.pause)
                waiting = p.apply_async(square, (2,))
                os.kill(server, signal.SIGKILL)
                try:
                    # This thread drives, and so meets the error itself, too.
                    waiting.get()
                except StartError as error:
                    print("All 40 descriptors" in str(error))
            print(running.ready(), p.apply(square, (3,)))
    """
    assert run(body, tmp_path) == "True\nTrue 9\n"


def test_no_workers_stay_of_a_pool_for_which_no_thread_can_be_started(tmp_path: Path) -> None:
    body = """
        import gc, threading
        from pool._local._engine import engines

        def refuse(self):
            raise RuntimeError("can't start new thread")

        threading.Thread.start = refuse
        gc.disable()
        try:
            Pool(1, square, (1,))
        except RuntimeError as error:
            print(error, len(engines))
    """
    assert run(body, tmp_path) == "can't start new thread 0\n"


def test_a_forkserver_stays_when_this_process_is_short_of_something(tmp_path: Path) -> None:
    body = """
        import errno
        from pool import StartError
        from pool._transport._channel import Channel
        from pool._transport._messages import CONNECT
        def refuse(self, head, *rest, **options):
            if head[0] == CONNECT:
                raise OSError(errno.ENOBUFS, "No buffer space available")
            return send(self, head, *rest, **options)
        with Pool(1) as p:
            server = p.apply(server_of)
        send, Channel.send = Channel.send, refuse
        try:
            Pool(1).apply(square, (1,))
        except StartError as error:
            print("No buffer space" in str(error))
        Channel.send = send
        with Pool(1) as p:
            print(p.apply(server_of) == server)
    """
    assert run(body, tmp_path) == "True\nTrue\n"


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_closed_standard_streams(tmp_path: Path, closed: tuple[int, ...]) -> None:
    # A daemon's program: new descriptors get the numbers of streams.
    body = f"""
        for fd in {closed!r}:
            os.close(fd)
        with Pool(2) as p:
            got = p.map(square, range(4), 1)
        p.join()
        with open("answer", "w") as file:
            file.write(repr(got))
        os._exit(0)
    """
    outcome = run_program(HEAD + textwrap.dedent(body), tmp_path)
    assert outcome.returncode == 0, outcome
    assert (tmp_path / "answer").read_text() == "[0, 1, 4, 9]"


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_the_one_stream_that_is_open_has_its_own_number(tmp_path: Path, method: str) -> None:
    body = f"""
        Pool = get_context({method!r}).Pool
        with Pool(1) as p:
            p.map(square, [1])
        os.dup2(os.open("err", os.O_WRONLY | os.O_CREAT), 2)
        os.close(1)
        with Pool(1) as p:
            p.starmap(os.write, [(fd, b"to %d\\n" % fd) for fd in (1, 2)])
    """
    assert run(body, tmp_path) == "to 1\n"
    assert (tmp_path / "err").read_text() == "to 2\n"


@pytest.mark.parametrize("closed", [(1,), (2,), (1, 2)], ids=str)
@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_nothing_of_a_worker_has_the_number_of_a_closed_stream(
    tmp_path: Path, method: str, closed: tuple[int, ...]
) -> None:
    body = f"""
        def look(fd):
            return os.readlink(f"/proc/self/fd/{{fd}}")
        for fd in {closed!r}:
            os.close(fd)
        p = get_context({method!r}).Pool(1)
        got = p.map(look, {closed!r})
        # Nor is anything of the pool's where this program prints to.
        here = [os.path.exists(f"/proc/self/fd/{{fd}}") for fd in {closed!r}]
        with open("answer", "w") as file:
            file.write(repr((got, here)))
        os._exit(0)
    """
    outcome = run_program(HEAD + textwrap.dedent(body), tmp_path)
    assert outcome.returncode == 0, outcome
    count = len(closed)
    assert (tmp_path / "answer").read_text() == repr((["/dev/null"] * count, [False] * count))


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_tasks_print_though_the_program_was_started_without_streams(
    tmp_path: Path, method: str
) -> None:
    # As by `python program.py >&- 2>&-`.
    program = f"""
        def show(n):
            os.write(1, b"shown")
            os.write(2, b"shown")
            return n * n
        p = get_context({method!r}).Pool(1)
        with open("answer", "w") as file:
            for _ in range(3):
                file.write(repr(p.map(show, range(3), 1)))
    """
    (tmp_path / "bare.py").write_text(HEAD + textwrap.dedent(program))
    body = """
        for fd in (1, 2):
            os.set_inheritable(fd, False)
        print(os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "bare.py"]))
    """
    assert run(body, tmp_path) == "0\n"
    assert (tmp_path / "answer").read_text() == "[0, 1, 4]" * 3


def test_streams_that_are_none(tmp_path: Path) -> None:
    body = """
        keep = sys.stdout
        sys.stdin = sys.stdout = sys.stderr = None
        with Pool(2) as p:
            got = p.map(square, range(4), 1)
        sys.stdout = keep
        print(got)
    """
    assert run(body, tmp_path) == "[0, 1, 4, 9]\n"


def test_streams_without_a_descriptor(tmp_path: Path) -> None:
    # What notebooks, test runners and GUIs put there.
    body = """
        import io
        keep = sys.stdout
        sys.stdout = sys.stderr = io.StringIO()
        with Pool(2) as p:
            got = p.map(square, range(4), 1)
        sys.stdout = keep
        print(got)
    """
    assert run(body, tmp_path) == "[0, 1, 4, 9]\n"


def test_a_directory_that_is_gone(tmp_path: Path) -> None:
    body = """
        os.mkdir("gone")
        os.chdir("gone")
        os.rmdir("../gone")
        with Pool(2) as p:
            print(p.map(square, range(4)))
    """
    assert run(body, tmp_path) == "[0, 1, 4, 9]\n"


def test_ignored_and_blocked_signals(tmp_path: Path) -> None:
    # SIGCHLD ignored: the kernel reaps, and no exit code can be had. SIGPIPE by default: kills.
    body = """
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])
        p = Pool(2)
        print(p.map(square, range(4), 1))
        try:
            p.apply(os._exit, (3,))
        except PoolError as error:
            print(type(error).__name__)
        print(p.map(square, range(4), 1))
        p.terminate()
        p.join()
    """
    assert run(body, tmp_path) == "[0, 1, 4, 9]\nWorkerDied\n[0, 1, 4, 9]\n"


def test_ignored_ends_of_children_with_a_package_that_has_threads(tmp_path: Path) -> None:
    # A forkserver that finds threads forks once to see whether they end by that.
    body = """
        import numpy
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        with Pool(1) as p:
            print(p.map(square, range(4)), p.map(signal.getsignal, [signal.SIGCHLD]))
    """
    assert run(body, tmp_path) == "[0, 1, 4, 9] [<Handlers.SIG_DFL: 0>]\n"


def test_handlers_of_the_program_are_not_run_in_workers(tmp_path: Path) -> None:
    body = """
        def handler(*_):
            os.write(1, b"handler\\n")
        signal.signal(signal.SIGTERM, handler)
        signal.signal(signal.SIGUSR1, handler)
        with Pool(2) as p:
            print(p.map(square, range(4), 1))
        p.join()
        print(signal.getsignal(signal.SIGTERM) is handler)
    """
    assert run(body, tmp_path) == "[0, 1, 4, 9]\nTrue\n"


def test_signals_to_the_program_while_it_waits(tmp_path: Path) -> None:
    # Waiting must go on after a handler that returns, and run the handler meanwhile.
    body = """
        ticks = []
        def until_ticked(path):
            with open(path, "rb", buffering=0) as fifo:
                return fifo.read(6)
        os.mkfifo("fifo")
        gate = os.open("fifo", os.O_RDWR)  # so that the handler waits for nobody
        def tick(*_):
            ticks.append(1)
            if len(ticks) == 5:
                signal.setitimer(signal.ITIMER_REAL, 0)
                os.write(gate, b"ticked")
        signal.signal(signal.SIGALRM, tick)
        with Pool(2) as p:
            p.map(square, range(4))
            signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
            print(p.apply(until_ticked, ("fifo",)), len(ticks))
    """
    assert run(body, tmp_path) == "b'ticked' 5\n"


def test_recursion_and_switch_interval_do_not_matter(tmp_path: Path) -> None:
    body = """
        sys.setswitchinterval(1e-6)
        deep = []
        for _ in range(400):
            deep = [deep]
        with Pool(2) as p:
            print(p.map(len, [deep] * 3), p.apply(square, (3,)))
    """
    assert run(body, tmp_path) == "[1, 1, 1] 9\n"


def test_no_descriptor_to_import_by_what_serves_tasks_that_use_their_pool(tmp_path: Path) -> None:
    body = """
        class NoFile:
            def find_spec(self, name, *args):
                if name == "pool._local._relay":
                    raise OSError(24, "Too many open files", name)

        def use(p, n):
            return p.apply(square, (n,))

        with Pool(2) as p:
            p.map(square, range(2), 1)
            sys.meta_path.insert(0, NoFile())
            started = p._engine
            try:
                print(p.apply(use, (p, 3)))
            except (WorkerDied, BrokenPipeError):
                print("lost")
            print(p.apply(square, (4,)), p._engine is started)
            del sys.meta_path[0]
            print(p.apply(use, (p, 5)))
    """
    body = "from pool import WorkerDied\n" + textwrap.dedent(body)
    assert run(body, tmp_path) == "lost\n16 True\n25\n"


def test_nested_outcome_that_cannot_be_sent_reaches_its_task_as_an_error(tmp_path: Path) -> None:
    body = """
        from pool._transport._channel import Channel
        from pool._transport._messages import OUTCOME
        send = Channel.send
        def send_small_ones(self, head, blobs=(), fds=(), flags=0):
            if head[0] == OUTCOME and sum(map(len, blobs)) > 100_000:
                raise OSError(28, "No space left on device")
            send(self, head, blobs, fds, flags)
        def outer(p, size):
            try:
                return len(p.apply(bytes, (size,)))
            except OSError as error:
                return error.errno
        if __name__ == "__main__":
            with Pool(2) as p:
                Channel.send = send_small_ones
                print(p.map(lambda size: outer(p, size), [200_000, 5]))
    """
    assert run(body, tmp_path) == "[28, 5]\n"


def test_nested_outcomes_that_cannot_be_sent_fail_alone(tmp_path: Path) -> None:
    # What its worker could pickle, this program cannot: it is in between, and has to do it again.
    body = """
        from pool._transport._channel import Channel
        from pool._transport._messages import OUTCOME
        program = os.getpid()
        class Odd:
            def __reduce__(self):
                if os.getpid() == program:
                    raise LookupError("not here")
                return Odd, ()
        def make(what):
            return Odd() if what == "odd" else bytes(what)
        send = Channel.send
        def send_small_ones(self, head, blobs=(), fds=(), flags=0):
            if head[0] == OUTCOME and sum(map(len, blobs)) > 100_000:
                raise OSError(28, "No space left on device")
            send(self, head, blobs, fds, flags)
        def outer(p, items):
            got = p.map(make, items, return_exceptions=True)
            return [len(each) if isinstance(each, bytes) else str(each) for each in got]
        with Pool(1) as p:
            Channel.send = send_small_ones
            for each in p.apply(outer, (p, [1, "odd", 3, 200_000, 5])):
                print(each)
    """
    assert run(body, tmp_path) == "1\nnot here\n3\n[Errno 28] No space left on device\n5\n"


def test_a_limit_of_processes_is_named(tmp_path: Path) -> None:
    """Of the user's or a container's: the forkserver meets it, and tells."""
    body = """
        import errno
        from pool._workers import _forkserver
        def fork():
            raise BlockingIOError(errno.EAGAIN, "no more processes")
        _forkserver.fork = fork
        p = get_context("fork").Pool(2)
        try:
            p.map(square, range(4))
        except OSError as error:  # what the standard's pool raises
            print(type(error) is StartError, error.errno == errno.EAGAIN, "ulimit -u" in str(error))
    """
    assert run(body, tmp_path) == "True True True\n"


def test_errors_of_a_start_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(StartError("no room", errno.EMFILE)))
    assert (str(error), error.errno) == ("no room", errno.EMFILE)
    assert isinstance(error, OSError)
    assert str(StartError("no room")) == "no room"


def test_others_go_on_while_no_descriptor_is_left_for_another_worker(tmp_path: Path) -> None:
    body = """
        import time

        def worker(_=None):
            time.sleep(0.05)
            return os.getpid()

        filled = [os.dup(0) for _ in range(20)]
        with Pool(2) as p:
            before = set(p.map(worker, range(20), 1))
            print(p.imap_unordered(square, [3]).next(30))  # all is imported
            # Not even those that are closed can be used again.
            resource.setrlimit(resource.RLIMIT_NOFILE, (16, 64))
            try:
                p.apply(os._exit, (1,))
            except PoolError as error:
                print(type(error).__name__)
            there = set(p.map(worker, range(20), 1))
            print(len(there), there < before)
            print(p.imap_unordered(square, [3]).next(30), p.apply(square, (4,)))
            limit(64)
            # As soon as there is room for it, there is a second one again.
            while len(set(p.map(worker, range(4), 1))) < 2:
                pass
            print(p.stats()["restarts"])
    """
    assert run(body, tmp_path) == "9\nWorkerDied\n1 True\n9 16\n1\n"


def test_others_go_on_while_a_limit_allows_no_more_processes(tmp_path: Path) -> None:
    body = """
        import errno, time
        from pool._workers import _forkserver

        def fork():
            if os.path.exists("full"):
                raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
            return forked()

        def worker(_=None):
            time.sleep(0.05)
            return os.getpid()

        # In the server that the workers are forked by, a fork of this process.
        forked, _forkserver.fork = _forkserver.fork, fork
        with get_context("fork").Pool(3) as p:
            before = set(p.map(worker, range(30), 1))
            open("full", "w").close()
            for _ in range(2):
                try:
                    p.apply(os._exit, (1,))
                except PoolError as error:
                    print(type(error).__name__)
            there = set(p.map(worker, range(20), 1))
            print(len(there), there < before)
            os.unlink("full")
            while len(set(p.map(worker, range(6), 1))) < 3:
                pass
            print(p.stats()["restarts"])
            # Nobody goes on here, and nobody will end: to wait would be for ever.
            open("full", "w").close()
            said = p.map(os._exit, [1] * 3, 1, return_exceptions=True)
            try:
                p.apply(square, (3,))
            except StartError as error:
                print("Resource temporarily unavailable" in str(error))
    """
    assert run(body, tmp_path) == "WorkerDied\nWorkerDied\n1 True\n2\nTrue\n"
