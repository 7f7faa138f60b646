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
import os, sys, threading
from importlib import import_module
with open({log!r}, "a") as log:
    log.write(f"{{os.getpid()}}\\n")
if sys.argv[:1] == ["-c"]:  # in the forkserver
    sys.stdout.write("a word that nobody should hear")
for number in range({modules}):
    import_module(f"{{__name__}}.part{{number}}")
"""
THREAD = "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"

HEAD = """
import os, sys
sys.path.insert(0, {folder!r})
import heavy
from pool import Pool, get_context

def server_of(_=None):
    # The pid of a worker's forkserver, which `os.getppid` does not tell.
    with open("/proc/self/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])

def importers():
    with open({log!r}) as log:
        return set(log.read().split())

def use(_):
    import heavy.part3
    return os.getpid()

def used(*options, **more):
    # Returns those workers that had to import it themselves.
    with Pool(2, *options, **more) as p:
        return set(map(str, p.map(use, range(4), 1))) & importers()

def until_loaded(**more):
    while used(**more):
        pass
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
    return run_program(head + textwrap.dedent(body), folder).succeeded()


def test_later_pools_have_what_tasks_loaded(tmp_path: Path) -> None:
    body = """
    assert used()
    until_loaded()
    for _ in range(5):
        assert not used()
    print("right")
    """
    assert run(install(tmp_path), body, tmp_path) == "right\n"


def test_workers_that_follow_others_have_it_too(tmp_path: Path) -> None:
    body = """
    settled = 0
    os.mkfifo("gate")
    with Pool(1, maxtasksperchild=1) as p:
        seen = set()
        while settled < 10:
            pid = str(p.apply(use, (0,)))
            seen.add(pid)
            settled = 0 if pid in importers() else settled + 1
        # Those of the new forkserver are signalled and buried as the others are.
        held = p.apply_async(lambda: open("gate").read())
        with open("gate", "w"):
            held.cancel()
        try:
            p.apply(os._exit, (3,))
        except Exception as error:
            assert "code 3" in str(error), error
        assert str(p.apply(use, (0,))) not in importers()
        p.close()
        p.join()
    print("right")
    """
    assert run(install(tmp_path), body, tmp_path) == "right\n"


def test_the_forkserver_is_killed_when_many_workers_start(tmp_path: Path) -> None:
    body = """
    import signal
    from pool._workers import _servers

    for _ in range(3):
        with Pool(2) as p:
            p.map(abs, [0])
        os.kill(_servers._servers[-1].pid, signal.SIGSTOP)
        p = Pool(8)
        os.kill(_servers._servers[-1].pid, signal.SIGKILL)
        assert p.map(abs, range(100), 1) == list(range(100))
        p.terminate()
        p.join()
    """
    assert run(OF_PYTHON, body, tmp_path) == ""


def test_one_of_two_forkservers_is_killed(tmp_path: Path) -> None:
    body = """
    import signal
    with Pool(2, maxtasksperchild=3) as p:
        servers = set()
        while len(servers) < 2:
            p.map(use, range(4), 1)
            servers |= set(p.map(server_of, range(4), 1))
        for pid in servers:
            os.kill(pid, signal.SIGKILL)
            for _ in range(3):
                try:
                    p.map(use, range(4), 1)
                    break
                except Exception as error:
                    assert "SIGKILL" in str(error), error
        assert p.map(abs, range(10)) == list(range(10))
    print("right")
    """
    assert run(install(tmp_path), body, tmp_path) == "right\n"


def test_a_package_whose_threads_survive_forks_is_left_to_the_workers(tmp_path: Path) -> None:
    body = """
    workers = used() | {str(os.getpid())}
    # Beside them a forkserver tries it, notices, and starts again without.
    while not importers() - workers:
        workers |= used()
    for _ in range(20):
        assert used()
    """
    assert run(install(tmp_path, more=THREAD), body, tmp_path) == ""


@pytest.mark.parametrize("end", ["sys.exit(3)", "os._exit(3)", "os.kill(os.getpid(), 9)"])
def test_a_package_that_ends_the_process_ends_nobody_elses(tmp_path: Path, end: str) -> None:
    """As one does which takes itself for a script, where the arguments are none of its own."""
    more = f"import sys\nif sys.argv[:1] == ['-c']: {end}\n"
    body = """
    for _ in range(8):
        with Pool(2) as p:
            p.map(use, range(4), 1)
    print("right")
    """
    assert run(install(tmp_path, more=more), body, tmp_path) == "right\n"


def test_nobody_waits_for_a_package(tmp_path: Path) -> None:
    """Its import in the forkserver takes for ever; pools get their workers elsewhere."""
    more = "import sys, time\nif sys.argv[:1] == ['-c']: time.sleep(1000)\n"
    body = """
    for _ in range(5):
        assert used()
    print("right")
    """
    # And it ends with the program, which leaves nothing behind.
    assert run(install(tmp_path, more=more), body, tmp_path) == "right\n"


def test_packages_are_loaded_again_in_another_environment(tmp_path: Path) -> None:
    """They may have looked at it."""
    body = """
    def mode(_):
        import heavy.part3
        return heavy.MODE

    until_loaded()
    for mode_now in "abc":
        os.environ["HEAVY_MODE"] = mode_now
        with Pool(2) as p:
            assert set(p.map(mode, range(4), 1)) == {mode_now}
    print("right")
    """
    more = "MODE = os.environ.get('HEAVY_MODE')\n"
    assert run(install(tmp_path, more=more), body, tmp_path) == "right\n"


def test_tests_of_pytest_have_what_those_before_have_loaded(tmp_path: Path) -> None:
    """Though each has another name in the environment; its own tasks see that."""
    body = """
    def name(_):
        return os.environ["PYTEST_CURRENT_TEST"]

    for number in range(200):
        os.environ["PYTEST_CURRENT_TEST"] = f"test {number}"
        if not used():
            break
    with Pool(1) as p:
        print(number < 199, p.apply(name, (0,)) == f"test {number}")
    """
    assert run(install(tmp_path), body, tmp_path) == "True True\n"


def test_packages_are_looked_for_where_the_program_does(tmp_path: Path) -> None:
    other = tmp_path / "other" / "site-packages"
    package = other / "heavy"
    package.mkdir(parents=True)
    package.joinpath("__init__.py").write_text("PLACE = 'other'\n")
    package.joinpath("part3.py").write_text("")
    body = f"""
    def place(_):
        import heavy.part3
        return heavy.PLACE

    until_loaded()
    sys.path.insert(0, {str(other)!r})
    for _ in range(5):
        with Pool(2) as p:
            assert set(p.map(place, range(4), 1)) == {{"other"}}
    print("right")
    """
    assert run(install(tmp_path), body, tmp_path) == "right\n"


def test_modules_of_the_program_are_fresh_in_each_pool(tmp_path: Path) -> None:
    body = """
    for _ in range(20):
        assert used()
    """
    assert run(install(tmp_path, "project"), body, tmp_path) == ""


def test_what_the_program_has_not_loaded_is_not_loaded_for_it(tmp_path: Path) -> None:
    body = """
    del sys.modules["heavy"]
    for _ in range(20):
        assert used()
    """
    assert run(install(tmp_path), body, tmp_path) == ""


def test_a_worker_imports_nothing_for_its_first_array(tmp_path: Path) -> None:
    body = """
    import sys
    import numpy
    from pool import Pool

    def modules(_):
        return set(sys.modules)

    def increment(array):
        return array + 1

    with Pool(1) as p:
        before = p.apply(modules, (0,))
        assert p.apply(increment, (numpy.zeros(1_000_000),))[-1] == 1
        print(p.apply(modules, (0,)) - before)
    """
    assert run("", body, tmp_path) == "set()\n"


def test_workers_that_the_program_forks_import_nothing(tmp_path: Path) -> None:
    """What makes a worker of a fork is loaded by the program, once for all of its pools."""
    program = """
import sys
from pool import get_context

def modules(_):
    return set(sys.modules)

if __name__ == "__main__":
    with get_context("fork").Pool(1) as p:
        print(p.map(modules, [0])[0] - set(sys.modules))
    with get_context("fork").Pool(1) as p:
        print(len(p._pool))  # it has them at once, as it is no pool of a worker
    """
    assert run_program(program, tmp_path).succeeded() == "set()\n1\n"


def test_only_what_is_installed_is_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    known = len(sys.modules)
    kind = type(sys)
    for name, file in {
        "mine": "/project/mine.py",
        "theirs": "/usr/lib/python3/dist-packages/theirs/__init__.py",
        "theirs.part": "/anywhere.py",
        "odd": None,
        "pool.something": "/x/site-packages/pool/something.py",
    }.items():
        module = sys.modules[name] = kind(name)
        module.__file__ = file
    names, files = news(known)
    assert names == ["theirs", "theirs.part"]
    assert files == {"theirs": "/usr/lib/python3/dist-packages/theirs/__init__.py"}


def test_a_process_of_one_thread_may_fork() -> None:
    pid = os.fork()
    if not pid:
        os._exit(0 if may_fork() else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_more_modules_than_a_command_line_holds(tmp_path: Path) -> None:
    body = """
    from pool._workers import _servers
    import pool._workers._worker
    names = [f"nothing.of.this_name_{number:060}" for number in range(5000)]
    sys.modules.update(dict.fromkeys(names))
    _servers._learned.update(dict.fromkeys(names))
    until_loaded()
    print("right")
    """
    assert run(install(tmp_path), body, tmp_path) == "right\n"


# ---------------------------------------------------------------- Python's own modules

#: What no worker has anyway, and all supported versions have.
PROBES = ("colorsys", "netrc", "plistlib", "sched", "stringprep", "tabnanny", "wave")

OF_PYTHON = f"""
import os, sys
from importlib import import_module
for name in {PROBES!r}:
    import_module(name)
from pool import Pool

CPUS = os.cpu_count()

def server_of(_=None):
    with open("/proc/self/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])

def use(_):
    # Returns those modules that were loaded before.
    before = sys.modules.keys() & {PROBES!r}
    for name in {PROBES!r}:
        import_module(name)
    return sorted(before)
"""

#: A file that notes who runs it.
NOTING = """
import os
TEXT = "mine"
with open({!r}, "a") as log:
    log.write(f"{{os.getpid()}}\\n")
"""


def test_later_pools_have_modules_of_pythons_that_tasks_loaded(tmp_path: Path) -> None:
    body = f"""
    with Pool(1) as p:
        assert p.map(use, [0]) == [[]]
    for _ in range(3):
        with Pool(1, maxtasksperchild=1) as p:
            for _ in range(3):
                assert p.map(use, [0]) == [sorted({PROBES!r})]
    # Workers of a fork have those of the program, spawned ones none.
    from pool import get_context
    with get_context("spawn").Pool(1) as p:
        assert p.map(use, [0]) == [[]]
    """
    assert run(OF_PYTHON, body, tmp_path) == ""


def test_of_more_workers_than_cpus_the_others_have_what_tasks_refer_to(tmp_path: Path) -> None:
    body = """
    import colorsys

    def begin():
        with open("log", "a") as log:
            log.write(f"{'colorsys' in sys.modules}\\n")

    def task(x):
        return colorsys.hsv_to_rgb(0, 0, x)

    with Pool(CPUS + 2, begin) as p:
        assert p.map(task, range(100), 1)[-1] == (99, 99, 99)
        p.close()
        p.join()
    with open("log") as log:
        print(log.read().count("True"))
    """
    assert run(OF_PYTHON, body, tmp_path) == "2\n"


def test_modules_of_pythons_are_loaded_in_the_programs_environment(tmp_path: Path) -> None:
    body = """
    with Pool(1) as p:
        p.map(abs, [0])
    os.environ["PYTHONTZPATH"] = "/zones"
    import zoneinfo

    def zones(_):
        return zoneinfo.TZPATH

    # For workers of this pool, or since tasks of an earlier one have loaded it.
    for number in (CPUS + 2, 1, CPUS + 2):
        with Pool(number, maxtasksperchild=1) as p:
            assert set(p.map(zones, range(number * 2), 1)) == {("/zones",)}
    """
    assert run(OF_PYTHON, body, tmp_path) == ""


def test_a_file_of_the_programs_has_the_name_of_a_module_of_pythons(tmp_path: Path) -> None:
    tmp_path.joinpath("calendar.py").write_text(NOTING.format(str(tmp_path / "log")))
    body = """
    import calendar, mailbox
    assert mailbox.calendar is calendar

    def task(_):
        import calendar as found
        return calendar.TEXT, found.TEXT, mailbox.calendar.TEXT, server_of()

    servers = set()
    for number in (1, 1, CPUS + 2, 1):
        with Pool(number) as p:
            p.map(use, range(number), 1)
            for *texts, server in p.map(task, range(number * 2), 1):
                assert texts == ["mine"] * 3
                servers.add(str(server))
    with open("log") as log:
        assert not servers & set(log.read().split())
    """
    assert run(OF_PYTHON, body, tmp_path) == ""


def test_such_a_file_is_in_a_folder_that_the_program_has_added_later(tmp_path: Path) -> None:
    tmp_path.joinpath("lib").mkdir()
    tmp_path.joinpath("lib", "colorsys.py").write_text(NOTING.format(str(tmp_path / "log")))
    body = """
    import colorsys
    sys.path.insert(0, os.path.abspath("lib"))

    def task(_):
        return colorsys is not None, server_of()

    servers = set()
    for number in (1, 1, CPUS + 2, 1):
        with Pool(number) as p:
            p.map(use, range(number), 1)
            servers |= {str(server) for _, server in p.map(task, range(number * 2), 1)}
    with open("log") as log:
        assert not servers & set(log.read().split())
    """
    assert run(OF_PYTHON, body, tmp_path) == ""


def test_what_modules_of_the_program_refer_to_does_not_make_them_stale(tmp_path: Path) -> None:
    body = """
    sys.dont_write_bytecode = True
    import mine

    def task(_):
        return mine.value(), len(sys.modules.keys() & {"colorsys", "wave"})

    for number in range(4):
        with open("mine.py", "w") as file:
            file.write(f"import colorsys, wave\\ndef value(): return {number}\\n")
        with Pool(CPUS + 2) as p:
            p.map(use, range(4), 1)
            assert set(p.map(task, range(10), 1)) == {(number, 2)}
    """
    tmp_path.joinpath("mine.py").write_text("import colorsys, wave\ndef value(): pass\n")
    assert run(OF_PYTHON, body, tmp_path) == ""
