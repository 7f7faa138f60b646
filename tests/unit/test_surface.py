"""The public surface: what `pool` offers, and that everything else is the standard module's."""

from __future__ import annotations

import importlib
import inspect
import multiprocessing
import multiprocessing.dummy
import multiprocessing.pool
import multiprocessing.util
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pool
import pool.actor
import pool.dummy
import pool.exceptions
import pool.pool
import pool.util
import store

ROOT = Path(pool.__file__).parents[1]

OURS = {
    "CannotSend",
    "InvalidTransition",
    "OutOfMemory",
    "Pool",
    "PoolError",
    "PoolTerminated",
    "ProgressEvent",
    "StartError",
    "TaskCancelled",
    "TaskTimeout",
    "ThreadPool",
    "WorkerDied",
    "WorkerLost",
    "active_children",
    "cpu_count",
    "get_context",
    "set_forkserver_preload",
    "set_start_method",
}

RAYS = {
    "ActorHandle",
    "ActorID",
    "ActorPool",
    "DynamicObjectRefGenerator",
    "JobID",
    "LoggingConfig",
    "NodeID",
    "ObjectID",
    "ObjectRef",
    "ObjectRefGenerator",
    "TaskID",
    "available_resources",
    "cancel",
    "cluster_resources",
    "get",
    "get_actor",
    "get_gpu_ids",
    "get_runtime_context",
    "init",
    "is_initialized",
    "kill",
    "method",
    "nodes",
    "put",
    "remote",
    "shutdown",
    "timeline",
    "wait",
}


def test_surface_is_the_standards_and_ours() -> None:
    assert set(pool.__all__) == set(multiprocessing.__all__) | OURS
    assert list(pool.__all__) == sorted(pool.__all__)


@pytest.mark.parametrize("name", sorted(set(pool.__all__) - OURS))
def test_every_other_name_is_the_standards(name: str) -> None:
    # Equal, not identical: the standard's functions are methods of its default context.
    assert getattr(pool, name) == getattr(multiprocessing, name)


@pytest.mark.parametrize("name", sorted(OURS))
def test_each_name_of_ours_can_be_had(name: str) -> None:
    assert callable(getattr(pool, name))
    assert name in dir(pool)


def test_homes_are_those_of_our_names() -> None:
    assert set(pool._HOMES) == OURS


@pytest.mark.parametrize("name", sorted(RAYS))
def test_each_word_of_rays_can_be_had(name: str) -> None:
    assert callable(getattr(pool, name))
    assert name in dir(pool)
    # A program for multiprocessing that imports everything does not get them.
    assert name not in pool.__all__
    assert not hasattr(multiprocessing, name)


def test_modules_of_rays() -> None:
    assert set(pool._RAY) == RAYS
    assert issubclass(pool.exceptions.GetTimeoutError, TimeoutError)
    assert pool.util.ActorPool is pool.ActorPool
    assert pool.util.multiprocessing.Pool is pool.Pool
    assert pool.util.multiprocessing.TimeoutError is multiprocessing.TimeoutError
    assert importlib.import_module("pool.util.multiprocessing.pool").Pool is pool.Pool
    assert callable(pool.actor.exit_actor)
    # What is not Ray's is the standard's.
    assert pool.util.Finalize is multiprocessing.util.Finalize


def test_modules_that_multiprocessing_has() -> None:
    from pool import connection, shared_memory

    assert shared_memory is sys.modules["multiprocessing.shared_memory"]
    assert connection is sys.modules["multiprocessing.connection"]


def test_a_patch_of_the_standard_module_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = pool.Queue
    monkeypatch.setattr(multiprocessing, "Queue", object)
    assert pool.Queue is object
    assert queue is not object


def test_name_that_neither_has() -> None:
    with pytest.raises(AttributeError, match="neither module 'pool' nor module 'multiprocessing'"):
        _ = pool.nonsense
    with pytest.raises(AttributeError, match="module 'pool' has no attribute '_nonsense'"):
        _ = pool._nonsense


def test_star_import() -> None:
    namespace: dict[str, object] = {}
    exec("from pool import *", namespace)
    assert namespace.keys() >= set(pool.__all__)
    assert namespace["Pool"] is pool.Pool


def test_submodule_spelling() -> None:
    assert pool.pool.Pool is pool.Pool
    assert pool.pool.ThreadPool is multiprocessing.pool.ThreadPool is pool.ThreadPool
    for name in ("RemoteTraceback", "MaybeEncodingError", "RUN", "CLOSE", "TERMINATE"):
        assert getattr(pool.pool, name) is getattr(multiprocessing.pool, name)
    assert set(dir(multiprocessing.pool)) <= set(dir(pool.pool))
    with pytest.raises(AttributeError):
        _ = pool.pool.nonsense


def test_submodule_names_of_results_are_ours() -> None:
    names = "AsyncResult", "ApplyResult", "MapResult", "IMapIterator", "IMapUnorderedIterator"
    for name in names:
        assert getattr(pool.pool, name).__module__.startswith("pool.")


# Names of the standard's classes that are parts of its machinery, of which there is none here.
MACHINERY = {
    "Pool": {
        "_get_sentinels",
        "_get_worker_sentinels",
        "_handle_results",
        "_handle_tasks",
        "_handle_workers",
        "_help_stuff_finish",
        "_join_exited_workers",
        "_maintain_pool",
        "_repopulate_pool_static",
        "_setup_queues",
        "_terminate_pool",
        "_wait_for_updates",
    },
    "ApplyResult": {"_set"},
    "MapResult": {"_set"},
    "IMapIterator": {"_set"},
    "IMapUnorderedIterator": {"_set"},
}
# What the interpreter puts into a class.
BUILT_IN = {"__firstlineno__", "__static_attributes__"}


@pytest.mark.parametrize("name", sorted(MACHINERY))
def test_classes_have_the_names_of_the_standards(name: str) -> None:
    theirs, ours = getattr(multiprocessing.pool, name), getattr(pool.pool, name)
    assert set(dir(theirs)) - set(dir(ours)) - BUILT_IN == MACHINERY[name]
    for public in dir(theirs):
        if not public.startswith("_"):
            assert inspect.getdoc(getattr(ours, public)), public


@pytest.mark.parametrize("name", sorted(MACHINERY))
def test_methods_take_the_arguments_of_the_standards(name: str) -> None:
    theirs, ours = getattr(multiprocessing.pool, name), getattr(pool.pool, name)
    methods = set(dir(theirs)) & set(dir(ours)) - set(dir(object)) - {"__del__"}
    if name == "Pool":
        methods.add("__init__")
    compared = []
    for method in sorted(methods):
        if not inspect.isroutine(getattr(theirs, method)) or method == "__class_getitem__":
            continue
        wanted, had = parameters(getattr(theirs, method)), parameters(getattr(ours, method))
        assert had[: len(wanted)] == wanted, method
        compared.append(method)
    assert {"get", "next", "apply"} & set(compared)


def parameters(method: Any) -> list[tuple[str, Any, Any]]:
    """Return name, kind and default of each parameter."""
    return [
        (each.name, each.kind, each.default)
        for each in inspect.signature(method).parameters.values()
    ]


def public_names() -> list[tuple[str, str]]:
    """Return (module, name) of all that is offered and ours.

    Not what only the submodules `pool.pool` and `pool.actor` offer: a class that bore their names
    could be sent as a name only where they are imported.
    """
    modules = [pool, pool.exceptions, pool.util, store]
    offered = [*((pool, name) for name in RAYS)]
    offered += [(module, name) for module in modules for name in module.__all__]
    return sorted(
        (module.__name__, name)
        for module, name in offered
        if getattr(getattr(module, name), "__module__", "").partition(".")[0] in ("pool", "store")
    )


@pytest.mark.parametrize(("module", "name"), public_names(), ids=".".join)
def test_what_is_public_says_where_it_is_found(module: str, name: str) -> None:
    offered = getattr(importlib.import_module(module), name)
    home = offered.__module__
    assert not any(part.startswith("_") for part in home.split("."))
    assert getattr(importlib.import_module(home), offered.__qualname__) is offered
    # By that name it is also pickled, here and by whoever reads it later.
    assert pickle.loads(pickle.dumps(offered)) is offered


def test_public_names_travel_as_names_before_anybody_asked_for_them(tmp_path: Path) -> None:
    # They are offered late: in the modules that they name they are missing until then.
    done = run(
        "import importlib, pool, store\n"
        "from pool._pickling._origins import is_named\n"
        "homes = {**pool._HOMES, **pool._RAY}\n"
        "homes |= {n: f'store.{h}' for h, names in store._HOMES.items() for n in names}\n"
        "for name, home in homes.items():\n"
        "    obj = getattr(importlib.import_module(home), name)\n"
        "    if hasattr(obj, '__module__') and name != 'ThreadPool':\n"
        # What was asked for before may have brought it along.
        "        vars(importlib.import_module(obj.__module__)).pop(name, None)\n"
        "        assert is_named(obj), name\n"
        "ref = store.put([1, 2])\n"
        "with pool.Pool(1) as p:\n"
        "    print(p.map(len, [ref]))\n",
        tmp_path,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["[2]"]), done.stderr


def test_nothing_public_was_left_out() -> None:
    found = {name for module, name in public_names() if module == "pool"}
    assert found == (OURS | RAYS) - {"ThreadPool"}
    assert {name for module, name in public_names() if module == "store"} == {
        name for name in store.__all__ if callable(getattr(store, name))
    }


def test_a_pool_shows_the_public_name_of_its_class() -> None:
    with pool.Pool(1) as p:
        assert repr(p) == "<pool.Pool state=RUN pool_size=1>"
    assert repr(pool.Pool) == "<class 'pool.Pool'>"


def test_dummy_is_the_standards() -> None:
    assert pool.dummy.Pool is multiprocessing.dummy.Pool
    assert set(multiprocessing.dummy.__all__) <= set(dir(pool.dummy))
    assert pool.dummy.threading is multiprocessing.dummy.threading
    with pool.dummy.Pool(2) as threads:
        assert threads.map(abs, [-1, -2]) == [1, 2]
    threads.join()


def test_version_is_a_plain_text() -> None:
    assert pool.__version__.count(".") == 2


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script from a file in `folder`, so that this folder comes first on sys.path."""
    (folder / "program.py").write_text(script)
    return subprocess.run(
        [sys.executable, "program.py"],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("name", ["store.py", "store/__init__.py"])
def test_foreign_store_is_named(tmp_path: Path, name: str) -> None:
    foreign = tmp_path / name
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("answer = 42\n")
    done = run("import pool", tmp_path)
    assert done.returncode == 1
    assert f"ImportError: 'import store' finds {foreign}" in done.stderr
    assert str(ROOT / "store") in done.stderr


def test_checkout_reached_by_a_link_is_our_own(tmp_path: Path) -> None:
    # The two packages are then found under two spellings of one folder.
    (tmp_path / "store").symlink_to(ROOT / "store")
    done = run("import store, pool; print(store.__path__[0])", tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "store")), done.stderr


def test_whole_module_swapped(tmp_path: Path) -> None:
    done = run(
        "import pool as multiprocessing\n"
        "multiprocessing.set_start_method('fork')\n"  # for it has no guard
        "q = multiprocessing.SimpleQueue()\n"
        "p = multiprocessing.Process(target=q.put, args=('hello',))\n"
        "p.start(); print(q.get()); p.join(); q.close()\n"
        "with multiprocessing.pool.ThreadPool(2) as t: print(t.map(abs, [-1]))\n",
        tmp_path,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["hello", "[1]"]), done.stderr
