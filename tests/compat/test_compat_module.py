"""Check `import pool as multiprocessing`: every public name, and the submodule spellings."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from poolkit import Flavour
from poolscripts import environment, run_program
from pooltasks import square

import pool

if TYPE_CHECKING:
    from pathlib import Path

# Names that are ours; every other public name of the standard module is the standard's own.
REPLACED = {"Pool", "active_children", "cpu_count", "get_context", "pool", "dummy"}
# Ours may be a function around the standard's, so only its behaviour is compared.
WRAPPED = {
    "set_start_method",
    "get_start_method",
    "get_all_start_methods",
    "set_forkserver_preload",
}


@pytest.mark.parametrize("name", sorted(set(multiprocessing.__all__) - REPLACED - WRAPPED))
def test_other_names_are_the_standard_s(name: str) -> None:
    ours, theirs = getattr(pool, name), getattr(multiprocessing, name)
    # Bound methods of the default context are made anew at each access.
    assert ours == theirs


@pytest.mark.parametrize("name", sorted(REPLACED | WRAPPED))
def test_replaced_names_exist(name: str) -> None:
    assert hasattr(pool, name)
    assert name in dir(pool)


def test_star_import_brings_what_the_standard_s_does() -> None:
    assert set(multiprocessing.__all__) <= set(pool.__all__)
    assert set(multiprocessing.__all__) <= set(dir(pool))


def test_unknown_names_are_errors_that_name_the_module() -> None:
    with pytest.raises(AttributeError, match="pool.*no_such_name"):
        _ = pool.no_such_name
    with pytest.raises(ImportError):
        exec("from pool import no_such_name")  # the statement is the subject


@pytest.mark.parametrize(
    "name",
    [
        "connection",
        "context",
        "managers",
        "process",
        "queues",
        "reduction",
        "shared_memory",
        "sharedctypes",
        "synchronize",
    ],
)
def test_submodules_are_reached_as_attributes(name: str) -> None:
    importlib.import_module(f"multiprocessing.{name}")
    assert getattr(pool, name) is sys.modules[f"multiprocessing.{name}"]


def test_util_is_that_of_both_modules_which_are_swapped() -> None:
    theirs = importlib.import_module("multiprocessing.util")
    for name in ("Finalize", "register_after_fork", "get_logger", "get_temp_dir"):
        assert getattr(pool.util, name) is getattr(theirs, name)
    with pytest.raises(AttributeError):
        pool.util.no_such_name  # noqa: B018 - looking is the test


def test_submodule_spellings_of_the_pool() -> None:
    import pool.pool as ours  # the spelling is the subject

    # What is public but not in the type stubs is reached as a program without stubs would.
    theirs: Any = importlib.import_module("multiprocessing.pool")
    assert pool.pool is ours
    assert ours.Pool is pool.pool.Pool
    assert issubclass(ours.ThreadPool, theirs.ThreadPool)
    for name in ("MaybeEncodingError", "RemoteTraceback", "AsyncResult", "ThreadPool"):
        assert hasattr(ours, name)
    assert ours.MaybeEncodingError is theirs.MaybeEncodingError
    assert ours.RemoteTraceback is theirs.RemoteTraceback


def test_programs_can_ask_what_is_a_pool() -> None:
    ours: Any = pool.pool
    with pool.Pool(1) as made:
        assert isinstance(made, ours.Pool)
        result = made.apply_async(square, (2,))
        assert isinstance(result, ours.AsyncResult)
        assert result.get() == 4
    made.join()


def test_pool_can_be_subclassed() -> None:
    from pool.pool import Pool as Base  # the spelling is the subject

    class Counting(Base):
        """A pool that counts its maps."""

        maps = 0

        def map(self, *args: Any, **kwargs: Any) -> Any:
            self.maps += 1
            return super().map(*args, **kwargs)

    with Counting(1) as made:
        assert made.map(square, [2]) == [4]
        assert made.maps == 1
    made.join()


def test_thread_pools() -> None:
    from pool.dummy import Pool as DummyPool  # the spelling is the subject
    from pool.pool import ThreadPool

    for make in (ThreadPool, DummyPool, pool.dummy.Pool, pool.ThreadPool):
        with make(2) as threads:
            assert threads.map(lambda x: (x, os.getpid()), [1]) == [(1, os.getpid())]
        threads.join()


@pytest.mark.this_machine
@pytest.mark.every_method
@pytest.mark.ours_only
def test_contexts_give_our_pool_and_the_standard_s_rest(flavour: Flavour) -> None:
    context: Any = pool.get_context(flavour.method)
    theirs: Any = multiprocessing.get_context(flavour.method)
    assert context.get_start_method() == theirs.get_start_method()
    assert type(context.Lock()) is type(theirs.Lock())
    assert context.Process is theirs.Process
    with context.Pool(1) as made:
        assert isinstance(made, pool.pool.Pool)
        assert made.map(square, [3]) == [9]
    made.join()


def test_unknown_start_methods_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot find context"):
        pool.get_context("teleport")
    with pytest.raises(ValueError, match="cannot find context"):
        pool.set_start_method("teleport", force=True)


@pytest.mark.parametrize("library", ["multiprocessing", "pool"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_set_start_method(tmp_path: Path, library: str, method: str) -> None:
    source = f"""
        import {library} as multiprocessing
        if __name__ == "__main__":
            multiprocessing.set_start_method({method!r})
            print(multiprocessing.get_start_method())
            try:
                multiprocessing.set_start_method("fork")
            except RuntimeError as error:
                print(error)
            multiprocessing.set_start_method({method!r}, force=True)
            with multiprocessing.Pool(1) as p:
                print(p.map(abs, [-1]))
            print(multiprocessing.get_all_start_methods())
    """
    expected = f"{method}\ncontext has already been set\n[1]\n['fork', 'spawn', 'forkserver']\n"
    assert run_program(source, tmp_path).succeeded() == expected


@pytest.mark.parametrize("library", ["multiprocessing", "pool"])
def test_preloaded_modules(tmp_path: Path, library: str) -> None:
    (tmp_path / "heavy.py").write_text("import os\nloaded_in = os.getpid()\ndef f(x): return x\n")
    source = f"""
        import {library} as multiprocessing
        import sys
        if __name__ == "__main__":
            multiprocessing.set_forkserver_preload(["heavy"])
            context = multiprocessing.get_context("forkserver")
            with context.Pool(2) as p:
                print("heavy" in sys.modules)
                print(p.apply(eval, ("'heavy' in __import__('sys').modules",)))
    """
    assert run_program(source, tmp_path).succeeded() == "False\nTrue\n"


@pytest.mark.parametrize("library", ["multiprocessing", "pool"])
def test_the_rest_of_the_standard_module_works(tmp_path: Path, library: str) -> None:
    source = f"""
        import {library} as multiprocessing
        from {library} import Process, Queue, Lock, Value, current_process, TimeoutError

        def work(q, v, lock):
            with lock:
                v.value += 1
            q.put(current_process().name)

        if __name__ == "__main__":
            q, v, lock = Queue(), Value("i", 1), Lock()
            p = Process(target=work, args=(q, v, lock), name="worker")
            p.start()
            print(q.get(), p.join(), v.value, p.exitcode)
            with multiprocessing.Manager() as m:
                d = m.dict(a=1)
                print(d["a"])
            print(multiprocessing.cpu_count() >= 1, multiprocessing.active_children())
            print(issubclass(TimeoutError, multiprocessing.ProcessError))
            a, b = multiprocessing.Pipe()
            a.send("x")
            print(b.recv(), multiprocessing.current_process().name)
            with multiprocessing.Pool(1) as pool:
                r = pool.apply_async(__import__("time").sleep, (60,))
                try:
                    r.get(timeout=0.01)
                except multiprocessing.TimeoutError:
                    print("late")
    """
    expected = "worker None 2 0\n1\nTrue []\nTrue\nx MainProcess\nlate\n"
    assert run_program(source, tmp_path).succeeded() == expected


def test_cpu_count_is_what_the_process_may_use() -> None:
    assert 1 <= pool.cpu_count() <= multiprocessing.cpu_count()
    one = min(os.sched_getaffinity(0))
    source = (
        f"import os; os.sched_setaffinity(0, [{one}]); import pool; p = pool.Pool(); "
        "print(p.stats()['processes']); p.terminate(); p.join()"
    )
    done = subprocess.run(
        [sys.executable, "-c", source],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout == "1\n"
