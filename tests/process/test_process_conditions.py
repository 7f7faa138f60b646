"""Run pools under interpreter options, settings and limits that programs are run with."""

from __future__ import annotations

import ast
import errno
import os
import platform
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from poolscripts import environment, run_program

HEAD = """
import os, resource, signal, sys, threading
from pool import Pool, PoolError, get_context

def square(n):
    return n * n

def server_of(_=None):
    # The pid of a worker's forkserver, which `os.getppid` does not tell.
    with open("/proc/self/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])
"""


def run(body: str, folder: Path) -> str:
    """Run a program with these helpers."""
    return run_program(HEAD + textwrap.dedent(body), folder).succeeded()


@pytest.mark.parametrize(
    "options",
    [
        ["-W", "error"],
        ["-X", "dev"],
        ["-X", "dev", "-W", "error", "-bb"],
        ["-O"],
        ["-OO", "-B", "-s"],
        ["-X", "faulthandler", "-X", "tracemalloc"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("method", ["forkserver", "fork", "spawn"])
def test_options_of_the_interpreter(tmp_path: Path, options: list[str], method: str) -> None:
    # Nothing may be said on stderr: no descriptor is left to be closed by the end.
    body = f"""
with get_context({method!r}).Pool(2) as p:
    print(p.map(square, range(4), 1), p.apply(square, (3,)), list(p.imap(square, [5])))
p.join()
p = get_context({method!r}).Pool(2)
print(p.apply_async(square, (4,)).get())
"""
    program = tmp_path / "program.py"
    program.write_text(HEAD + body)
    done = subprocess.run(
        [sys.executable, *options, str(program)],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "[0, 1, 4, 9] 9 [25]\n16\n"


@pytest.mark.parametrize("how", [["program.py"], ["-m", "program"], ["-c", "import program"]])
def test_what_takes_long_to_import_is_not_needed(tmp_path: Path, how: list[str]) -> None:
    (tmp_path / "program.py").write_text(
        HEAD + "with Pool(1) as p:\n    print(p.map(abs, [-1]), 'subprocess' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, *how],
        env=environment(),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("[1] False\n", "")


@pytest.mark.parametrize("values", [[200_000], [100_000] * 40], ids=["one", "many"])
def test_an_environment_that_no_command_can_be_given(tmp_path: Path, values: list[int]) -> None:
    body = f"""
    for number, length in enumerate({values}):
        os.environ[f"LONG{{number}}"] = "x" * length

    def look(_):
        return [len(value) for name, value in os.environ.items() if name.startswith("LONG")]

    with Pool(2) as p:
        print(p.map(look, range(2), 1) == [{values}] * 2)
        print(p.map(os.getenv, ["PATH"]) == [os.environ["PATH"]])
    with get_context("fork").Pool(2) as p:
        print(p.map(look, range(2), 1) == [{values}] * 2)
    """
    assert run(body, tmp_path) == "True\nTrue\nTrue\n"


@pytest.mark.parametrize("tool", ["pdb", "cProfile", "trace"])
def test_tools_that_run_programs(tmp_path: Path, tool: str) -> None:
    options = {
        "pdb": ["-c", "continue", "-c", "quit"],
        "cProfile": ["-o", str(tmp_path / "profile")],
        "trace": ["--count", "-C", str(tmp_path)],
    }
    program = tmp_path / "program.py"
    program.write_text(
        HEAD
        + "with Pool(2) as p:\n    print(p.map(square, range(4), 1), p.map(lambda n: -n, [1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", tool, *options[tool], str(program)],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert "[0, 1, 4, 9] [-1]\n" in done.stdout, done
    assert "Error" not in done.stdout + done.stderr, done


def test_text_that_the_locale_cannot_hold(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        HEAD + "with Pool(2) as p:\n"
        "    print(p.map(lambda s: len(s + chr(0xFC)), [chr(0x20AC)] * 2))\n"
        "    print(p.apply(os.environb.get, (b'ODD',)) == bytes([255, 254]))\n"
        "    print(p.apply(os.getcwd) == os.getcwd())\n"
    )
    folder = tmp_path / "\xe4\u20ac"
    folder.mkdir()
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, str(program)],
        env={**map_bytes(environment(plain)), b"ODD": b"\xff\xfe"},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("[2, 2]\nTrue\nTrue\n", "")


def map_bytes(environ: dict[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in environ.items()}


@pytest.mark.parametrize("method", ["forkserver", "fork", "spawn"])
def test_default_timeout_of_sockets(tmp_path: Path, method: str) -> None:
    # Programs that fetch from the network set it, and every socket object made later has it.
    body = f"""
        import socket
        socket.setdefaulttimeout(0.01)
        os.mkfifo("fifo")
        def hold(_):
            with open("fifo") as fifo:
                return fifo.read(), square(3)
        with get_context({method!r}).Pool(1) as p:
            result = p.apply_async(hold, (1,))
            writer = open("fifo", "w")
            # Longer than the timeout; the worker, the pool and its waiting all outlive it.
            threading.Timer(0.2, writer.close).start()
            print(result.get(), p.map(square, range(3)))
    """
    assert run(body, tmp_path) == "('', 9) [0, 1, 4]\n"


def test_a_result_too_deep_for_its_own_repr(tmp_path: Path) -> None:
    body = """
        from multiprocessing.pool import MaybeEncodingError
        def nested(depth):
            value = []
            for _ in range(depth):
                value = [value]
            return value
        with Pool(1) as p:
            worker = p.apply(os.getpid)
            for call in (lambda: p.apply(nested, (100_000,)), lambda: p.map(nested, [100_000])):
                try:
                    call()
                except MaybeEncodingError as error:
                    print(error.value)
            # Nobody died of it.
            print(p.apply(os.getpid) == worker)
    """
    line = "<list object whose repr cannot be had>\n"
    assert run(body, tmp_path) == line * 2 + "True\n"


def test_a_result_that_there_is_no_memory_to_send(tmp_path: Path) -> None:
    body = """
        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (500 << 20, 500 << 20))
        with Pool(1, limit) as p:
            worker = p.apply(os.getpid)
            for make in (lambda: bytes(400 << 20), lambda: "x" * (400 << 20)):
                try:
                    print(len(p.apply(make)))
                except MemoryError as error:
                    print(repr(error))
            print(p.map(square, range(3)), p.apply(os.getpid) == worker)
    """
    assert run(body, tmp_path) == "MemoryError()\n" * 2 + "[0, 1, 4] True\n"


def test_a_result_that_may_not_be_written(tmp_path: Path) -> None:
    body = """
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with Pool(1, limit) as p:
            worker = p.apply(os.getpid)
            try:
                print(len(p.apply(bytes, (10_000_000,))))
            except OSError as error:
                print(error.strerror, error.__notes__[0])
            print(p.map(square, range(3)), p.apply(os.getpid) == worker)
    """
    expected = "File too large raised while sending the result to the parent\n[0, 1, 4] True\n"
    assert run(body, tmp_path) == expected


def test_stop_iteration_of_a_task_hides_no_result(tmp_path: Path) -> None:
    body = """
        def stop_at_two(n):
            if n == 2:
                raise StopIteration(n)
            return n
        with Pool(2) as p:
            jobs = [(n,) for n in range(5)]
            for size in (1, 5):
                for call in (
                    lambda: p.apply(stop_at_two, (2,)),
                    lambda: p.map(stop_at_two, range(5), size),
                    lambda: p.starmap(stop_at_two, jobs, size),
                    lambda: p.starmap_async(stop_at_two, jobs, size).get(),
                    lambda: list(p.imap(stop_at_two, range(5), size)),
                    lambda: list(p.imap_unordered(stop_at_two, range(5), size)),
                ):
                    try:
                        print("hidden:", call())
                    except StopIteration as error:
                        print(error.value, end=" ")
                    except RuntimeError as error:
                        print(error.__cause__.value, end=" ")
            it = p.imap(stop_at_two, range(4))
            got = [next(it), next(it)]
            try:
                next(it)
            except RuntimeError:
                got.append(next(it))
            print(got)
    """
    assert run(body, tmp_path) == "2 " * 12 + "[0, 1, 3]\n"


def test_interrupts_while_pools_are_made_leave_nothing(tmp_path: Path) -> None:
    body = """
        import gc
        def open_files():
            links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
            return sorted(os.readlink(link) for link in links if os.path.islink(link))
        def pools_of(links):
            return [link for link in links if "actorpool" in link or "anon_inode" in link]
        with Pool(2) as p:
            p.map(square, range(3))
        p.join()
        del p
        storming = True
        def storm():
            while storming:
                os.kill(os.getpid(), signal.SIGINT)
                pause.wait(0.004)
        pause = threading.Event()
        thread = threading.Thread(target=storm)
        made = interrupted = 0
        def make_pools():
            global made, interrupted
            try:
                while interrupted < 100:
                    try:
                        with Pool(2) as p:
                            made += p.apply(square, (1,))
                        p.join()
                    except KeyboardInterrupt:
                        interrupted += 1
            except KeyboardInterrupt:
                make_pools()  # one may strike between two rounds as well
        def end_storm():
            global storming
            try:
                storming = False
                thread.join()
            except KeyboardInterrupt:
                end_storm()
        try:
            thread.start()
            make_pools()
        except KeyboardInterrupt:
            make_pools()
        try:
            end_storm()
        except KeyboardInterrupt:
            end_storm()
        p = None
        gc.collect()
        print(pools_of(open_files()))
    """
    outcome = run_program(HEAD + textwrap.dedent(body), tmp_path)
    assert (outcome.returncode, outcome.out) == (0, "[]\n"), outcome
    # One may strike within a `__del__`: Python tells so, and drops it.
    assert "Error" not in outcome.err, outcome


def test_an_embedded_interpreter_has_no_executable(tmp_path: Path) -> None:
    body = """
        import multiprocessing
        python = sys.executable
        sys.executable = ""
        try:
            Pool(2)
        except PoolError as error:
            print("set_executable" in str(error))
        with get_context("fork").Pool(2) as p:
            print(p.map(square, range(3)))
        multiprocessing.set_executable(python)
        for method in ("forkserver", "spawn"):
            with get_context(method).Pool(2) as p:
                print(p.map(square, range(3)))
    """
    assert run(body, tmp_path) == "True\n" + "[0, 1, 4]\n" * 3


def test_a_frozen_program_does_not_start_itself(tmp_path: Path) -> None:
    # What a packager makes of a program and its interpreter runs the program whatever it is told.
    body = """
        import multiprocessing
        from pool import StartError
        python = sys.executable
        sys.frozen, sys.executable = True, os.path.abspath("frozen")
        with open("frozen", "w") as file:
            file.write("#!/bin/sh\\ntouch started\\n")
        os.chmod("frozen", 0o755)
        with Pool(1) as p:
            print(p.stats()["start_method"], p.map(lambda n: -n, [1]))
        for method in ("spawn", "forkserver"):
            try:
                get_context(method).Pool(1)
            except StartError as error:
                print("set_executable" in str(error))
        print(os.path.exists("started"))
        multiprocessing.set_executable(python)
        for method in (None, "spawn"):
            with get_context(method).Pool(1) as p:
                print(p.stats()["start_method"], p.map(lambda n: -n, [1]))
    """
    said = "fork [-1]\nTrue\nTrue\nFalse\nforkserver [-1]\nspawn [-1]\n"
    assert run(body, tmp_path) == said


@pytest.mark.parametrize("beside", [True, False], ids=["with-python", "alone"])
def test_a_host_that_runs_python_does_not_start_itself(tmp_path: Path, beside: bool) -> None:
    # Under uWSGI `sys.executable` is uWSGI, and there are no arguments of an interpreter.
    body = f"""
        import multiprocessing
        sys.orig_argv, sys.executable = [], os.path.abspath("host")
        with open("host", "w") as file:
            file.write("#!/bin/sh\\ntouch started\\n")
        os.chmod("host", 0o755)
        import multiprocessing.spawn  # as it is imported there
        multiprocessing.set_executable(sys.executable)
        if not {beside}:
            sys.exec_prefix = sys.base_exec_prefix = os.getcwd()
        with Pool(1) as p:
            print(p.stats()["start_method"], p.map(lambda n: -n, [1]))
        print(os.path.exists("started"))
    """
    method = "forkserver" if beside else "fork"
    assert run(body, tmp_path) == f"{method} [-1]\nFalse\n"


@pytest.mark.parametrize(
    ("does", "beside"), [("print('made')", "forkserver"), ("open('out', 'w').close()", "fork")]
)
def test_what_only_costs_has_no_process_with_threads_forked(
    does: str, beside: str, tmp_path: Path
) -> None:
    # What locks the threads hold would stay locked in the fork.
    (tmp_path / "data.py").write_text(does)
    body = """
        import data
        done = threading.Event()
        thread = threading.Thread(target=done.wait)
        for _ in range(2):
            with Pool(1) as p, Pool(1) as q:  # whose own threads do not count
                for each in (p, q):
                    print(each.stats()["start_method"], each.map(abs, [0]))
            thread.is_alive() or thread.start()
        done.set()
    """
    said = run(body, tmp_path).replace("made\n", "")
    assert said == "".join(f"{method} [0]\n" * 2 for method in ("fork", beside))


def test_forks_of_which_python_is_not_told(tmp_path: Path) -> None:
    # As uWSGI forks the processes that answer requests, from one that has imported the program.
    body = """
        import ctypes, time, traceback
        import pool as ray, store
        def worker(_):
            return os.getpid()
        def wait_until_forked(_):
            while not os.path.exists("forked"):
                time.sleep(0.01)
        @ray.remote
        def answer(n):
            wait_until_forked(n)
            return n + 1
        def ask():
            return {pid for _ in range(20) for pid in p.map(worker, range(8), 1)}
        def woken():
            others = set(os.listdir("/proc/self/task")) - {str(os.getpid())}
            texts = [open(f"/proc/self/task/{n}/status").read() for n in sorted(others)]
            return [line for text in texts for line in text.splitlines() if "_switches" in line]
        def be_quiet():
            # Of two threads that want the GIL one is gone after such a fork, and the GIL still
            # counts it: the child would hang in Python itself.
            seen = None
            while seen != (seen := woken()):
                time.sleep(0.1)
        p = Pool(2)
        ours = {process.pid for process in p._pool}
        stored, later = store.put(bytes(1 << 20)), answer.remote(1)
        soon = p.map_async(wait_until_forked, [0], 1)
        children = []
        for _ in range(2):
            be_quiet()
            if not (child := ctypes.PyDLL(None).fork()):
                try:
                    said = set()
                    threads = [threading.Thread(target=lambda: said.update(ask())) for _ in "ab"]
                    [thread.start() for thread in threads]
                    [thread.join() for thread in threads]
                    theirs = {process.pid for process in p._pool}
                    print(theirs & ours, len(theirs), bool(said), said <= theirs)
                    print(len(store.get(stored)), ray.get(answer.remote(2)))
                    ray.shutdown()
                    p.terminate()
                    p.join()
                    sys.stdout.flush()
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(0)
            children.append(child)
        open("forked", "w").close()
        print(len(soon.get()), ray.get(later), len(store.get(stored)))
        print({process.pid for process in p._pool} == ours, ask() <= ours)
        for child in children:
            os.waitpid(child, 0)
        p.terminate()
    """
    child = f"set() 2 True True\n{1 << 20} 3\n"
    lines = sorted(run(body, tmp_path).splitlines())
    assert lines == sorted((2 * child + f"1 2 {1 << 20}\nTrue True\n").splitlines())


@pytest.mark.parametrize("method", ["default", "spawn"])
def test_sockets_of_c_code_are_left_to_the_program(tmp_path: Path, method: str) -> None:
    # A client that waits for the end of its connection would wait for the end of the pool.
    body = f"""
        import pool as ray, socket
        ours, theirs = socket.socketpair()
        theirs.set_inheritable(True)  # as C code has them
        @ray.remote
        class Idle:
            def pid(self):
                return os.getpid()
        ray.init(namespace="tests")
        idle = Idle.options(name="idle", lifetime="detached").remote()
        with get_context({method!r} if {method!r} != "default" else None).Pool(1) as p:
            print(p.apply(square, (2,)), ray.get(idle.pid.remote()) > 0)
            theirs.close()
            ours.settimeout(20)
            print(ours.recv(1))
        ray.kill(idle)
        ours.close()
    """
    assert run(body, tmp_path) == "4 True\nb''\n"


@pytest.mark.parametrize("first", ["ray.init", "ray.put(1)", "answer.remote", "Pool(1)"])
def test_what_a_child_begins_of_whose_fork_python_is_not_told(tmp_path: Path, first: str) -> None:
    begin = {"ray.init": "ray.init()", "answer.remote": "answer.remote(1)"}.get(first, first)
    body = f"""
        import ctypes, traceback
        import pool as ray, store
        child = ctypes.PyDLL(None).fork()
        if child:
            os.waitpid(child, 0)
        else:
            try:
                @ray.remote
                def answer(n):
                    return n + 1
                begun = {begin}
                with Pool(1) as p:
                    print(p.apply(square, (3,)), len(store.get(store.put(bytes(1 << 20)))))
                print(ray.get([answer.remote(n) for n in range(3)]))
                ray.shutdown()
                sys.stdout.flush()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
    """
    assert run(body, tmp_path) == f"9 {1 << 20}\n[1, 2, 3]\n"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give up privileges")
def test_privileges_that_were_given_up(tmp_path: Path) -> None:
    # The server that forks workers was started with them; a pool made later must not use it.
    body = """
        def who(_):
            return os.getresgid(), os.getgroups()
        with Pool(1) as p:
            print(p.apply(who, (0,))[0])
        # The user stays: another one might not be able to run the interpreter of this test.
        try:
            os.setgroups([23456])
            os.setresgid(12345, 12345, 12345)
        except PermissionError:  # root of a sandbox
            print("refused")
            sys.exit()
        with Pool(1) as p:
            print(p.apply(who, (0,)))
    """
    printed = run(body, tmp_path)
    if printed.endswith("refused\n"):
        pytest.skip("this root may not give up privileges")
    assert printed == "(0, 0, 0)\n((12345, 12345, 12345), [23456])\n"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can shut itself in")
def test_a_program_that_has_shut_itself_in(tmp_path: Path) -> None:
    # There is no interpreter to start there. The server from before would open the files outside.
    source = """
        import os
        from pool import Pool, PoolError
        with Pool(1) as p:
            print(p.map(abs, range(3)))
        try:
            os.chroot(".")
        except PermissionError:  # root of a sandbox
            print("refused")
        else:
            try:
                print(Pool(1).map(abs, range(3)))
            except PoolError:
                print("PoolError")
    """
    printed = run_program(source, tmp_path).succeeded()
    if printed.endswith("refused\n"):
        pytest.skip("this root may not shut itself in")
    assert printed == "[0, 1, 2]\nPoolError\n"


@pytest.mark.parametrize(
    "confine",
    [
        "prctl(38, 1, 0, 0, 0)",  # PR_SET_NO_NEW_PRIVS
        "prctl(24, 23, 0, 0, 0)",  # PR_CAPBSET_DROP, CAP_SYS_NICE; for root only
        "unshare(0x04000000)",  # CLONE_NEWUTS; where that is allowed
    ],
)
def test_a_program_that_has_confined_itself(tmp_path: Path, confine: str) -> None:
    body = f"""
        import ctypes
        def look(_):
            with open("/proc/self/status") as file:
                lines = [line for line in file if line.startswith(("CapB", "NoNew", "Seccomp"))]
            return lines, os.readlink("/proc/self/ns/uts")
        servers = set()
        def compare():
            with Pool(1) as p:
                servers.add(p.apply(server_of))
                return p.apply(look, (0,)) == look(0)
        before = look(0)
        print(compare(), compare(), len(servers))
        ctypes.CDLL(None).{confine}
        changed = before != look(0)
        print(compare(), compare(), len(servers) == 1 + changed)
    """
    assert run(body, tmp_path) == "True True 1\nTrue True True\n"


@pytest.mark.parametrize("number", ["ENOSYS", "EPERM"])
@pytest.mark.parametrize("method", ["forkserver", "fork", "spawn"])
def test_a_kernel_that_gives_no_descriptors_of_processes(
    tmp_path: Path, method: str, number: str
) -> None:
    body = f"""
        import errno
        def refuse(pid, flags=0):
            raise OSError(errno.{number}, "no")
        os.pidfd_open = refuse
        with get_context({method!r}).Pool(2) as p:
            print(p.map(square, range(4), 1))
        p.join()
        Pool(1).map(square, [1])
        os.kill(os.getpid(), signal.SIGKILL)
    """
    outcome = run_program(HEAD + textwrap.dedent(body), tmp_path)
    assert outcome.out == "[0, 1, 4, 9]\n", outcome
    assert outcome.returncode == -signal.SIGKILL


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_workers_of_another_server_are_as_the_first_ones(tmp_path: Path, method: str) -> None:
    body = f"""
        import decimal, select
        def look(_):
            return os.getcwd(), os.environ.get("WORD"), sys.path[0], decimal.getcontext().prec
        here = look(0)
        with get_context({method!r}).Pool(1) as p:
            worker, server = p.apply(os.getpid), p.apply(server_of)
            os.mkdir("elsewhere")
            os.chdir("elsewhere")
            os.environ["WORD"] = "late"
            sys.path.insert(0, "late")
            decimal.getcontext().prec = 5
            ended = os.pidfd_open(worker)
            os.kill(server, signal.SIGKILL)
            select.select([ended], [], [])
            print(p.apply(look, (0,)) == here, p.apply(server_of) != server)
    """
    assert run(body, tmp_path) == "True True\n"


@pytest.mark.parametrize("method", ["forkserver", "fork", "spawn"])
def test_signals_to_all_processes_of_a_program(tmp_path: Path, method: str) -> None:
    # As a service manager sends them: who handles or ignores them goes on.
    body = f"""
        NUMBERS = [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]
        def ignore():
            for number in NUMBERS:
                signal.signal(number, signal.SIG_IGN)
        def blocked():
            return signal.pthread_sigmask(signal.SIG_BLOCK, [])
        def who(_):
            return os.getpid(), server_of()
        with get_context({method!r}).Pool(1, ignore) as p:
            worker, server = p.apply(who, (0,))
            for number in NUMBERS:
                for pid in (server, worker):
                    os.kill(pid, number)
            print([p.apply(who, (0,)) == (worker, server) for _ in range(20)] == [True] * 20)
            print(p.apply(blocked))
        # And who does neither ends.
        for number in NUMBERS:
            with get_context({method!r}).Pool(1) as p:
                try:
                    p.apply(signal.raise_signal, (number,))
                except PoolError as error:
                    print(type(error).__name__)
    """
    assert run(body, tmp_path) == "True\nset()\n" + "WorkerDied\n" * 4


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_no_folder_is_busy_with_the_forkserver(tmp_path: Path, method: str) -> None:
    body = f"""
        def work(_):
            return os.getcwd(), os.readlink(f"/proc/{{server_of()}}/cwd")
        with get_context({method!r}).Pool(1) as p:
            print(p.apply(work, (0,)) == (os.getcwd(), "/"))
    """
    assert run(body, tmp_path) == "True\n"


def test_limits_and_cpus_of_the_moment_the_pool_is_made(tmp_path: Path) -> None:
    body = """
        def mine(_):
            return (
                resource.getrlimit(resource.RLIMIT_CORE)[0],
                os.getpriority(os.PRIO_PROCESS, 0),
                len(os.sched_getaffinity(0)),
            )
        servers = set()
        def look():
            with Pool(1) as p:
                servers.add(p.apply(server_of))
                return p.apply(mine, (0,)) == mine(0)
        resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20))
        print(look(), look(), len(servers))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 1 << 20))
        print(look(), look(), len(servers))
        os.nice(1)
        print(look(), look(), len(servers))
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        print(look(), look(), len(servers) >= 3)
    """
    expected = "True True 1\nTrue True 2\nTrue True 3\nTrue True True\n"
    assert run(body, tmp_path) == expected


def test_terminated_by_another_thread_while_joining(tmp_path: Path) -> None:
    body = """
        os.mkfifo("fifo")
        def hold(_):
            with open("fifo") as fifo:
                return fifo.read()
        p = Pool(1)
        result = p.apply_async(hold, (0,))
        writer = open("fifo", "w")
        p.close()
        lead = p._engines.main.lead
        drive = lead.drive
        waits = threading.Event()
        def tell_and_drive(*args):
            waits.set()
            return drive(*args)
        lead.drive = tell_and_drive
        def terminate():
            waits.wait()
            p.terminate()
        thread = threading.Thread(target=terminate)
        thread.start()
        p.join()
        thread.join()
        try:
            result.get()
        except PoolError as error:
            print(type(error).__name__)
    """
    assert run(body, tmp_path) == "PoolTerminated\n"


def test_processes_that_tasks_fork(tmp_path: Path) -> None:
    # Each ends where the child of a program would, and never answers in the worker's place.
    body = """
        def status_of(child):
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        def fork_and_exit(code):
            child = os.fork()
            if child == 0:
                sys.exit(code)
            return status_of(child)
        def fork_and_raise(_):
            child = os.fork()
            if child == 0:
                os.close(2)
                raise ValueError("in the child")
            return status_of(child)
        def fork_and_return(n):
            child = os.fork()
            if child == 0:
                return "the child's"
            return status_of(child), n
        def interrupt_fork(_):
            ready, go = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    os.write(go, b"!")
                    while True:
                        signal.pause()
                except KeyboardInterrupt:
                    os._exit(7)
            os.read(ready, 1)
            os.kill(child, signal.SIGINT)
            return status_of(child)
        with Pool(2) as p:
            print(p.map(fork_and_exit, [3, 0, None, 5], 1))
            print(p.map(fork_and_raise, [0]), p.apply(fork_and_raise, (0,)))
            print([p.apply(fork_and_return, (n,)) for n in range(3)])
            print(p.apply(interrupt_fork, (0,)))
            print(p.map(square, range(20), 1) == [n * n for n in range(20)])
    """
    expected = "[3, 0, 0, 5]\n[1] 1\n[(0, 0), (0, 1), (0, 2)]\n7\nTrue\n"
    assert run(body, tmp_path) == expected


@pytest.mark.parametrize("kind", ["str", "int", "float", "str if n < 3 else float"])
@pytest.mark.parametrize("value", ["-7", "'the child'", "0.5"])
def test_a_fork_that_returns_leaves_no_trace(tmp_path: Path, kind: str, value: str) -> None:
    # Among hundreds of quick items, whose outcomes are kept in memory that it shares.
    body = f"""
        kept = []
        def work(n):
            with open("ran", "a") as file:
                file.write(f"{{n}}:{{os.getpid()}} ")
            if n == 3:
                kept.append((*os.pipe(), os.fork()))
                ready, go, child = kept[0]
                if not child:
                    os.close(go)
                    os.read(ready, 1)  # until the worker is two items further
                    return {value}
            if n == 5:
                ready, go, child = kept[0]
                os.close(go)
                assert os.waitpid(child, 0)[1] == 0
            return ({kind})(n)
        with Pool(1) as p:
            got = p.map(work, range(500), 1)
            worker = p.apply(os.getpid)
        # Once each; not in order if the worker was slow: what was behind is taken back then.
        ran = [word.split(":") for word in open("ran").read().split()]
        print(got == [({kind})(n) for n in range(500)])
        print(sorted(int(n) for n, _ in ran) == list(range(500)))
        print({{int(pid) for _, pid in ran}} == {{worker}})
    """
    assert run(body, tmp_path) == "True\n" * 3


@pytest.mark.parametrize("end", ["return", "sys.exit(0)"])
@pytest.mark.parametrize("method", ["forkserver", "fork"])
def test_a_fork_of_an_initializer_is_no_worker(tmp_path: Path, end: str, method: str) -> None:
    body = f"""
        def fork():
            child = os.fork()
            if not child:
                {end}
            assert os.waitpid(child, 0)[1] == 0
        with get_context({method!r}).Pool(1, fork) as p:
            print(p.map(square, range(4), 1))
    """
    assert run(body, tmp_path) == "[0, 1, 4, 9]\n"


def test_a_fork_that_returns_sends_no_part_of_a_long_chunk(tmp_path: Path) -> None:
    body = """
        def work(n):
            if n == 3:
                child = os.fork()
                if child:
                    os.waitpid(child, 0)
            return n
        with Pool(1) as p:
            print(p.map(work, range(100_000), 100_000) == list(range(100_000)))
    """
    assert run(body, tmp_path) == "True\n"


def test_pandas_with_arrow_is_there_before_the_workers(tmp_path: Path) -> None:
    """Arrow's allocator starts a thread; beside one the forkserver would not keep pandas loaded."""
    pytest.importorskip("pyarrow")
    body = """
    import pandas
    def loaded(_):
        return "pandas" in sys.modules, "pyarrow" in sys.modules
    def environment(_):
        return "JE_ARROW_MALLOC_CONF" in os.environ
    def size(frame):
        return len(pandas.concat([frame, frame])), str(frame.name.dtype)
    frame = pandas.DataFrame({"name": ["a", "b"] * 100_000})
    with Pool(2) as p:
        print(p.map(loaded, range(4), 1), p.map(environment, [0]), p.map(size, [frame] * 2, 1))
    """
    loaded = [(True, True)] * 4
    assert run(body, tmp_path) == f"{loaded} [False] [(400000, 'str'), (400000, 'str')]\n"


def test_what_took_long_to_be_refused_is_not_pickled_again(tmp_path: Path) -> None:
    """A large table beside a connection: workers inherit both, in each call without delay."""
    body = """
    import gc, sqlite3, weakref
    from pool._faces import _maps
    _maps.LONG = 0
    tries = []
    class Table:
        def __reduce__(self):
            tries.append(1)
            return Table, ()
    class Work:
        def __init__(self):
            self.table, self.db, self.number = Table(), sqlite3.connect(":memory:"), 0
        def get(self, n):
            return self.number + n
    work = Work()
    counts = []
    with Pool(2) as p:
        for number in range(3):
            work.number = number
            results = p.map(work.get, [1, 2]), list(p.imap(work.get, [3]))
            counts.append(len(tries))
            print(results)
        there = weakref.ref(work)
        p.map(abs, [1])
        del work
        gc.collect()
        print(counts[0] > 0, counts[0] == counts[2], there(), _maps._refused)
    """
    lines = [f"([{n + 1}, {n + 2}], [{n + 3}])\n" for n in range(3)]
    assert run(body, tmp_path) == "".join(lines) + "True True None {}\n"


def test_a_pool_that_is_terminated_while_another_thread_submits(tmp_path: Path) -> None:
    body = """
        for turn in range(20):
            p = Pool(2)
            p.map(square, range(3))
            kinds = set()
            reached = threading.Event()
            def submit():
                handles = []
                try:
                    while True:
                        handles.append(p.apply_async(square, (3,)))
                        if len(handles) == 1 + 10 * turn:
                            reached.set()
                except ValueError:
                    pass  # not running
                for handle in handles:
                    try:
                        kinds.add(handle.get())
                    except Exception as error:
                        kinds.add(type(error).__name__)
            thread = threading.Thread(target=submit)
            thread.start()
            reached.wait()
            p.terminate()
            thread.join()
            p.join()
            assert kinds <= {9, "PoolTerminated"}, kinds
        # As it is for a thread that saw the pool run, and now looks for its engine.
        try:
            p._engine
        except ValueError as error:
            print(error)
    """
    assert run(body, tmp_path) == "Pool not running\n"


@pytest.mark.parametrize("module", ["pool._local._guard", "store._links"])
def test_a_fork_while_another_thread_imports_a_part_of_the_pool(
    tmp_path: Path, module: str
) -> None:
    body = f"""
        import importlib, os, signal, sys, threading, warnings
        from pool import Pool
        # Python 3.12 and later ones warn of a fork beside threads, which is what this is about.
        warnings.simplefilter("ignore", DeprecationWarning)
        def load():
            sys.settrace(stop)
            importlib.import_module({module!r})
        def stop(frame, event, argument):
            if frame.f_globals.get("__name__") == {module!r}:
                sys.settrace(None)
                begun.set()
                end.wait()
        begun, end = threading.Event(), threading.Event()
        with Pool(1) as p:
            print(p.map(abs, [-1]), flush=True)
        importer = threading.Thread(target=load)
        importer.start()
        begun.wait()
        pid = os.fork()
        if not pid:
            signal.alarm(20)
            importlib.import_module({module!r})
            with Pool(1) as p:
                print(p.map(abs, [-2]), flush=True)
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        end.set()
        importer.join()
        print(status)
    """
    program = run_program(textwrap.dedent(body), tmp_path)
    assert program.succeeded() == "[1]\n[2]\n0\n"


def test_threads_that_first_use_a_pool_after_a_fork_start_one_set_of_workers(
    tmp_path: Path,
) -> None:
    body = """
        p = Pool(2)
        p.map(square, range(3))
        child = os.fork()
        if not child:
            together = threading.Barrier(8)
            seen = []
            def use():
                together.wait()
                seen.append(p._engine)
            threads = [threading.Thread(target=use) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            good = len(set(map(id, seen))) == 1 and p.map(square, range(3)) == [0, 1, 4]
            p.terminate()
            p.join()
            os._exit(0 if good else 3)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        p.terminate()
        p.join()
    """
    assert run(body, tmp_path) == "0\n"


def test_workers_that_ignore_signals_end_though_other_pools_come_and_go(tmp_path: Path) -> None:
    body = """
        def ignore():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            return os.getpid()
        def stubborn(fifo):
            ignore()
            with open(fifo, "w") as told:
                told.write(str(os.getpid()))
            while True:
                signal.pause()
        os.mkfifo("told")
        p = Pool(1)
        p.apply_async(stubborn, ("told",))
        with open("told") as told:
            pid = int(told.read())
        p.terminate()
        def alive():
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return False
            return True
        # Each of these ends well within the time that the other one is given.
        while alive():
            with Pool(1) as other:
                other.map(square, range(2))
        print("ended")
    """
    assert run(body, tmp_path) == "ended\n"


def test_no_memory_for_a_message_is_an_error_of_its_call(tmp_path: Path) -> None:
    body = """
        from pool._local._peers import Peer
        post = Peer.post
        def short(peer, head, blobs=()):
            Peer.post = post
            raise MemoryError("for a message")
        with Pool(2) as p:
            p.map(square, range(8), 1)
            Peer.post = short
            try:
                print(p.map(square, range(3), 3))
            except MemoryError as error:
                print("refused:", error, *error.__notes__)
            print(p.map(square, range(3)), p.stats()["restarts"])
    """
    note = "while sending items 0 to 2 of map(square) to a worker"
    assert run(body, tmp_path) == f"refused: for a message {note}\n[0, 1, 4] 0\n"


def test_each_worker_draws_random_numbers_of_its_own(tmp_path: Path) -> None:
    """Python reseeds `random` after a fork; numpy does not, whose module may be preloaded."""
    body = """
    def draw(_):
        preloaded = "numpy.random" in sys.modules
        import random, numpy
        return preloaded, random.random(), numpy.random.random()
    context = get_context("forkserver")
    context.set_forkserver_preload(["numpy.random"])
    with context.Pool(2, maxtasksperchild=1) as p:
        preloaded, *drawn = zip(*p.map(draw, range(6), 1))
    print(preloaded, [len(set(numbers)) for numbers in drawn])
    """
    assert run(body, tmp_path) == f"{(True,) * 6} [6, 6]\n"


@pytest.mark.parametrize("seed", [None, "", "random", "7"])
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_workers_agree_on_hashes(
    tmp_path: Path, method: str, seed: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Also those of another server, which has started with another number of threads to give.
    body = f"""
        def look(_):
            return hash("x"), os.environ.get("PYTHONHASHSEED")
        seen = set()
        for threads in (1, 2):
            with get_context({method!r}).Pool(1, blas_threads=threads, maxtasksperchild=1) as p:
                seen.update(p.map(look, range(2), 1))
        ((there, seed),) = seen
        print(seed, there == hash("x"))
    """
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    env = {} if seed is None else {"PYTHONHASHSEED": seed}
    outcome = run_program(HEAD + textwrap.dedent(body), tmp_path, env=env)
    assert outcome.succeeded() == f"{seed} {seed == '7'}\n"


def test_log_files_and_filters_that_cannot_be_had_in_a_worker(tmp_path: Path) -> None:
    """The task runs all the same; and nothing is told that a filter keeps back."""
    body = """
    import logging
    os.mkdir("logs")
    logging.basicConfig(filename="logs/x.log", level="INFO", filemode="w")
    secret = logging.getLogger("secret")
    keep_back = (None for _ in range(0))  # a filter may be anything; this one stays here
    secret.addFilter(lambda record, own=keep_back: False)
    secret.addHandler(logging.StreamHandler(sys.stdout))
    os.remove("logs/x.log")
    os.rmdir("logs")
    def work(n):
        logging.info("item")
        secret.warning("password")
        sys.stdout.flush()
        return n
    with Pool(1) as p:
        print(p.map(work, [1]))
    """
    outcome = run_program(HEAD + textwrap.dedent(body), tmp_path)
    assert (outcome.returncode, outcome.out) == (0, "[1]\n"), outcome
    assert "--- Logging error ---" in outcome.err
    assert "password" not in outcome.err


TERMINAL = """
import os, pty, sys
pid, terminal = pty.fork()
if not pid:
    os.execv(sys.executable, [sys.executable, "asks.py"])
said = b""
while not said.endswith(b"\\n"):
    said += os.read(terminal, 1000)
os.waitpid(pid, 0)
os.close(terminal)
print(said.decode().strip())
"""


def huge_pages_everywhere() -> bool:
    """Tell whether the kernel gives memory that it was not asked for in pages of 2 MiB."""
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return setting.exists() and "[always]" in setting.read_text()


ASKS = """
from pool import Pool, get_context
def ask(_):
    try:
        return open("/dev/tty", "rb", buffering=0).read(1)
    except OSError as error:
        return error.errno
print([get_context(method).Pool(1).apply(ask, (0,)) for method in (None, "fork", "spawn")])
"""


def test_a_task_that_asks_on_the_terminal_is_not_stopped(tmp_path: Path) -> None:
    (tmp_path / "asks.py").write_text(ASKS)
    printed = run_program(TERMINAL, tmp_path).succeeded()
    assert printed == f"{[errno.EIO] * 3}\n"


@pytest.mark.parametrize("method", ["forkserver", "fork", "spawn"])
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about that allocator")
@pytest.mark.skipif(huge_pages_everywhere(), reason="two page faults would be all there are")
def test_memory_of_freed_arrays_is_used_again(tmp_path: Path, method: str) -> None:
    # New memory for two arrays of 1 MiB is 512 faults of pages of 4 KiB.
    pages = (2 << 20) // resource.getpagesize()
    out = run(
        f"""
def faults(_):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    one, other = bytearray(1 << 20), bytearray(1 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with get_context({method!r}).Pool(1) as p:
    print(p.map(faults, range(6), 1))
""",
        tmp_path,
    )
    first, *later = ast.literal_eval(out)
    assert first > pages * 0.8
    assert max(later) < pages * 0.2
