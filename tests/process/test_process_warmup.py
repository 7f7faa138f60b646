"""Packages that tasks load are loaded before the next workers are forked, if that is harmless."""

from __future__ import annotations

import os
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
from poolscripts import run_program

from pool._workers._warmup import MANY, may_fork, news

if TYPE_CHECKING:
    from pathlib import Path

#: Notes each process that imports it.
PACKAGE = """
import os, threading
from importlib import import_module
with open({log!r}, "a") as log:
    log.write(f"{{os.getpid()}}\\n")
print("a word from the package")
for number in range({modules}):
    import_module(f"{{__name__}}.part{{number}}")
"""
THREAD = "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"

HEAD = """
import os, sys, time
sys.path.insert(0, {folder!r})
from pool import Pool, get_context

def importers():
    with open({log!r}) as log:
        return log.read().split()

def use(_):
    import heavy.part3
    return os.getpid()

def used(p):
    return set(map(str, p.map(use, range(4), 1)))
"""


def install(folder: Path, where: str = "site-packages", more: str = "") -> str:
    """Make a package of many modules; return the head of a program that uses it."""
    home = folder / where
    package = home / "heavy"
    package.mkdir(parents=True)
    log = str(folder / "importers")
    (folder / "importers").write_text("")
    package.joinpath("__init__.py").write_text(PACKAGE.format(log=log, modules=MANY) + more)
    for number in range(MANY):
        package.joinpath(f"part{number}.py").write_text("")
    return HEAD.format(folder=str(home), log=log)


def run(head: str, body: str, folder: Path) -> str:
    told = run_program(head + textwrap.dedent(body), folder).succeeded()
    return told.replace("a word from the package\n", "")


def test_the_next_pool_has_what_tasks_of_the_first_one_loaded(tmp_path: Path) -> None:
    body = """
    with Pool(2) as p:
        first = used(p)
    assert set(importers()) == first, (importers(), first)
    with Pool(2) as p:
        second = used(p)
    # Once more, by the process that they are forked from.
    (server,) = set(importers()) - first
    assert server not in second and len(importers()) == len(first) + 1, (importers(), second)
    with Pool(2) as p:
        assert used(p).isdisjoint(importers())
    print("right")
    """
    assert run(install(tmp_path), body, tmp_path) == "right\n"


def test_workers_that_replace_others_have_it(tmp_path: Path) -> None:
    body = """
    with Pool(1, maxtasksperchild=1, blas_threads=1) as p:
        pids = [p.apply(use, (0,)) for _ in range(20)]
    assert len(set(pids)) == 20
    # The second one may have been asked for before the first one had told.
    assert len(importers()) <= 4 and str(pids[-1]) not in importers(), importers()
    print("right")
    """
    assert run(install(tmp_path), body, tmp_path) == "right\n"


def test_a_package_whose_threads_survive_forks_is_left_to_the_workers(tmp_path: Path) -> None:
    body = """
    with Pool(2) as p:
        workers = used(p)
    with Pool(2) as p:
        workers |= used(p)
    # A child of the forkserver tries it out, beside them.
    deadline = time.monotonic() + 60
    while not set(importers()) - workers:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for _ in range(3):
        with Pool(2) as p:
            assert used(p) <= set(importers())
    """
    run(install(tmp_path, more=THREAD), body, tmp_path)


def test_a_package_that_a_thread_is_beside_is_tried_and_loaded(tmp_path: Path) -> None:
    """The thread is the task's own; the child that tries the package finds no thread."""
    body = """
    import threading

    def use_beside_thread(_):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        return use(_)

    with Pool(1) as p:
        first = p.apply(use_beside_thread, (0,))
    for _ in range(1000):
        with Pool(1) as p:
            if str(p.apply(use, (0,))) not in importers():
                break
    else:
        raise AssertionError(importers())
    print("right")
    """
    assert run(install(tmp_path), body, tmp_path) == "right\n"


def test_modules_of_the_program_are_fresh_in_each_pool(tmp_path: Path) -> None:
    body = """
    for _ in range(4):
        with Pool(2) as p:
            assert used(p) <= set(importers())
    """
    run(install(tmp_path, "project"), body, tmp_path)


def test_another_package_of_the_same_name_is_not_mistaken_for_it(tmp_path: Path) -> None:
    head = install(tmp_path)
    other = tmp_path / "other" / "site-packages"
    other.parent.mkdir()
    (tmp_path / "site-packages").joinpath("heavy").rename(tmp_path / "kept")
    other.mkdir()
    (tmp_path / "kept").rename(other / "heavy")
    body = f"""
    Pool(2).terminate()  # the forkserver looks for modules where the program did then
    sys.path.insert(0, {str(other)!r})
    os.mkdir({str(tmp_path / "site-packages" / "heavy")!r})
    open({str(tmp_path / "site-packages" / "heavy" / "__init__.py")!r}, "w").close()
    for _ in range(4):
        with Pool(2) as p:
            assert used(p) <= set(importers())
    """
    run(head, body, tmp_path)


def test_only_what_is_installed_is_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    known = len(sys.modules)
    kind = type(sys)
    for name, file in {
        "mine": "/home/me/mine.py",
        "theirs": "/usr/lib/python3/dist-packages/theirs/__init__.py",
        "theirs.part": "/anywhere.py",
        "odd": None,
        "pool.something": "/x/site-packages/pool/something.py",
    }.items():
        module = sys.modules[name] = kind(name)
        module.__file__ = file
    names, files, _ = news(known)
    assert names == ["theirs", "theirs.part"]
    assert files == {"theirs": "/usr/lib/python3/dist-packages/theirs/__init__.py"}


def test_a_process_of_one_thread_may_fork() -> None:
    pid = os.fork()
    if not pid:
        os._exit(0 if may_fork() else 1)
    assert os.waitpid(pid, 0)[1] == 0
