"""Start-method contexts: ours wrap the standard's, and tell what a Pool is to do."""

from __future__ import annotations

import copy
import multiprocessing
import multiprocessing.context
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pool
from pool import _context

METHODS = ["fork", "spawn", "forkserver"]


def script(text: str) -> list[str]:
    """Run `text` in an interpreter where nobody has chosen anything, and return its words."""
    done = subprocess.run(
        [sys.executable, "-c", text],
        env={**os.environ, "PYTHONPATH": str(Path(pool.__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("method", METHODS)
def test_context_is_the_standards_but_for_the_pool(method: str) -> None:
    ours, standard = pool.get_context(method), multiprocessing.get_context(method)
    assert ours.get_start_method() == method
    assert ours.Process is standard.Process
    assert ours.Queue == standard.Queue
    assert ours.TimeoutError is multiprocessing.TimeoutError
    assert ours.cpu_count() == pool.cpu_count()
    assert isinstance(ours, multiprocessing.context.BaseContext)
    assert isinstance(ours, type(standard))
    assert repr(ours) == f"<pool context '{method}'>"


@pytest.mark.parametrize("method", METHODS)
def test_context_is_one_object_whatever_is_done_with_it(method: str) -> None:
    ours = pool.get_context(method)
    assert pool.get_context(method) is ours
    assert pickle.loads(pickle.dumps(ours)) is ours
    assert copy.deepcopy(ours) is ours
    assert ours.get_context() is ours
    assert ours.get_context("spawn") is pool.get_context("spawn")


def test_pool_of_a_context_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def record(*args: Any, **options: Any) -> None:
        made.append((args, options))

    monkeypatch.setattr(pool, "Pool", record)
    context = pool.get_context("spawn")
    context.Pool(2, print, ("x",), 5, blas_threads=1)
    context.Pool(processes=3)
    assert made == [
        ((2, print, ("x",), 5), {"context": context, "blas_threads": 1}),
        ((3, None, (), None), {"context": context}),
    ]


def test_unknown_method_is_refused_as_in_the_standard() -> None:
    with pytest.raises(ValueError, match="cannot find context for 'nonsense'"):
        pool.get_context("nonsense")


@pytest.mark.parametrize("method", METHODS)
def test_method_of_a_context(method: str) -> None:
    assert _context.start_method_for(pool.get_context(method)) == method
    assert _context.start_method_for(multiprocessing.get_context(method)) == method


@pytest.mark.parametrize(
    ("context", "told"),
    [(object(), "its start method is None"), (3, "or none"), ("spawn", r"get_context\('spawn'\)")],
)
def test_what_is_no_context_is_refused(context: object, told: str) -> None:
    with pytest.raises(ValueError, match=f"cannot start workers by context .*{told}"):
        _context.start_method_for(context)


def test_attribute_that_the_standard_lacks() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = pool.get_context("fork").nonsense


ASK = "import sys, pool, pool._context as c\n"


def test_nobody_chose_and_nothing_was_imported() -> None:
    said = script(
        ASK + "print(c.start_method_for(None), c.preload_names(), 'multiprocessing' in sys.modules)"
    )
    assert said == ["default", "[]", "False"]


def test_a_lock_made_earlier_is_no_choice() -> None:
    said = script(
        ASK + "import multiprocessing; multiprocessing.Lock(); pool.get_start_method()\n"
        "standard = multiprocessing.context._default_context\n"
        "print(c.start_method_for(None), c.start_method_for(standard))"
    )
    assert said == ["default", "default"]


def test_context_of_none_follows_the_choice() -> None:
    said = script(
        ASK
        + "first = pool.get_context(); print(c.start_method_for(first), first.Lock is not None)\n"
        "pool.set_start_method('spawn', force=True)\n"
        "print(c.start_method_for(pool.get_context()), c.start_method_for(None))\n"
        "print(c.start_method_for(first))"
    )
    assert said == ["default", "True", "spawn", "spawn", "default"]


@pytest.mark.parametrize("method", METHODS)
def test_set_start_method_is_honoured(method: str) -> None:
    said = script(
        ASK + f"pool.set_start_method({method!r})\n"
        "print(c.start_method_for(None), pool.get_start_method())\n"
        "try: pool.set_start_method('spawn')\n"
        "except RuntimeError: print('refused')\n"
        "pool.set_start_method(None, force=True); print(c.start_method_for(None))"
    )
    assert said == [method, method, "refused", "default"]


# To choose the standard's own one is no choice.
@pytest.mark.parametrize(
    "method", ["spawn", "forkserver" if sys.version_info < (3, 14) else "fork"]
)
def test_choice_made_through_the_standard_module_is_honoured(method: str) -> None:
    said = script(
        ASK + f"import multiprocessing; multiprocessing.set_start_method({method!r})\n"
        "print(c.start_method_for(None))"
    )
    assert said == [method]


def test_preload_is_told_to_the_standard_and_to_ours() -> None:
    said = script(
        ASK + "pool.set_forkserver_preload(['json', '__main__', 'csv'])\n"
        "print(*c.preload_names())\n"
        "import multiprocessing.forkserver as f; print(*f._forkserver._preload_modules)"
    )
    assert said == ["json", "csv", "json", "__main__", "csv"]


@pytest.mark.skipif(sys.version_info < (3, 15), reason="an argument of 3.15")
def test_preload_that_may_fail() -> None:
    said = script(
        "import pool\n"
        "pool.set_forkserver_preload(['missing'], on_error='warn')\n"
        "import multiprocessing.forkserver as f; print(f._forkserver._preload_on_error)\n"
        "with pool.get_context('forkserver').Pool(1) as p: print(*p.map(abs, [-1]))"
    )
    assert said == ["warn", "1"]
    with pytest.raises(ValueError, match="on_error"):
        pool.set_forkserver_preload([], on_error="whatever")
