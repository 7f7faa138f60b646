"""Press Ctrl-C in real programs: on a terminal, and by a signal to the whole process group."""

from __future__ import annotations

import os
import signal
import textwrap
from typing import TYPE_CHECKING

import pytest
from poolscripts import (
    finish,
    on_terminal,
    orphans_come_here,
    python,
    read_line,
    run_program,
    start,
)

if TYPE_CHECKING:
    from pathlib import Path

METHODS = ["", "fork", "spawn", "forkserver"]
HEAD = """
import itertools, os, signal, sys, threading, time
from pool import Pool, get_context

def say(word):
    os.write(1, f"{word}\\n".encode())

def hold(n):
    say("began")
    signal.pause()

def hold_in_python(n):
    say("began")
    while True:
        pass

def hold_and_swallow(n):
    say("began")
    while True:
        try:
            signal.pause()
        except KeyboardInterrupt:
            pass

def square(n):
    return n * n

def endless():
    for n in itertools.count():
        yield n
"""
# Each line waits in another way; each program must be able to go on after it.
WAITS = {
    "map": "p.map(hold, range(8), 1)",
    "starmap": "p.starmap(hold, [(n,) for n in range(8)], 1)",
    "apply": "p.apply(hold, (0,))",
    "get": "p.map_async(hold, range(8), 1).get()",
    "get with timeout": "p.apply_async(hold, (0,)).get(1000)",
    "wait": "p.apply_async(hold, (0,)).wait()",
    "imap": "list(p.imap(hold, endless()))",
    "imap_unordered": "list(p.imap_unordered(hold, range(8)))",
    "next": "p.imap(hold, range(8)).next(1000)",
    "busy tasks": "p.map(hold_in_python, range(8), 1)",
    "stubborn tasks": "p.map(hold_and_swallow, range(8), 1)",
}
USABLE = """
def run(p):
    try:
        {wait}
    except KeyboardInterrupt:
        say("interrupted")
    say(p.map(square, range(4), 1))

p = get_context({method!r}).Pool(2)
say(p.map(square, range(4)))
run(p)
p.close()
p.join()
say("ended")
"""


def program(wait: str, method: str, body: str = USABLE) -> str:
    """Write a program that waits in a given way."""
    return HEAD + textwrap.dedent(body).format(wait=wait, method=method or None)


def interrupt_once(source: str, folder: Path) -> str:
    """Run a program, interrupt its group when a task has begun, and return what else it prints."""
    with orphans_come_here():
        process = start(python("-c", source), folder)
        while read_line(process) != "began":
            pass
        os.killpg(process.pid, signal.SIGINT)
        outcome = finish(process)
    assert outcome.returncode == 0, outcome
    assert "Traceback" not in outcome.err, outcome
    return "\n".join(line for line in outcome.out.splitlines() if line != "began")


@pytest.mark.parametrize("wait", WAITS)
def test_the_pool_is_usable_after_an_interrupt(tmp_path: Path, wait: str) -> None:
    said = interrupt_once(program(WAITS[wait], ""), tmp_path)
    assert said == "interrupted\n[0, 1, 4, 9]\nended"


@pytest.mark.parametrize("wait", ["map", "busy tasks"])
@pytest.mark.parametrize("method", METHODS[1:])
def test_under_each_start_method(tmp_path: Path, wait: str, method: str) -> None:
    said = interrupt_once(program(WAITS[wait], method), tmp_path)
    assert said == "interrupted\n[0, 1, 4, 9]\nended"


@pytest.mark.parametrize("method", METHODS)
def test_uncaught_it_ends_the_program(tmp_path: Path, method: str) -> None:
    body = """
        with get_context({method!r}).Pool(2) as p:
            {wait}
    """
    with orphans_come_here():
        process = start(python("-c", program(WAITS["map"], method, body)), tmp_path)
        assert read_line(process) == "began"
        os.killpg(process.pid, signal.SIGINT)
        outcome = finish(process)
    assert outcome.returncode == -signal.SIGINT, outcome
    # One traceback, of the program itself; none of the workers.
    assert outcome.err.count("Traceback") == 1, outcome
    assert outcome.err.rstrip().endswith("KeyboardInterrupt"), outcome


def test_idle_workers_do_not_mind(tmp_path: Path) -> None:
    body = """
        p = get_context({method!r}).Pool(2)
        say(p.map(square, range(4)))
        try:
            say("began")
            signal.pause()
        except KeyboardInterrupt:
            say("interrupted")
        say(p.map(square, range(4)))
        p.terminate()
        p.join()
    """
    said = interrupt_once(program("", "", body), tmp_path)
    assert said == "interrupted\n[0, 1, 4, 9]"


def test_several_interrupts_one_after_the_other(tmp_path: Path) -> None:
    body = """
        def hold_in(turn):
            say(f"began {{turn}}")
            signal.pause()

        p = get_context({method!r}).Pool(2)
        for turn in range(3):
            try:
                p.map(hold_in, [turn] * 4, 1)
            except KeyboardInterrupt:
                say("interrupted")
            say(p.map(square, range(4), 1))
        p.terminate()
        p.join()
    """
    with orphans_come_here():
        process = start(python("-c", program("", "", body)), tmp_path)
        for turn in range(3):
            # The other worker may begin at any time until it hears of the interrupt.
            while (line := read_line(process)) != f"began {turn}":
                assert line.startswith("began")
            os.killpg(process.pid, signal.SIGINT)
            lines = list(iter(lambda: read_line(process), "[0, 1, 4, 9]"))
            assert {line for line in lines if not line.startswith("began")} == {"interrupted"}
        outcome = finish(process)
    assert outcome.returncode == 0, outcome


def test_many_interrupts_at_once_leave_nothing(tmp_path: Path) -> None:
    body = """
        with get_context({method!r}).Pool(2) as p:
            {wait}
    """
    with orphans_come_here():
        process = start(python("-c", program(WAITS["stubborn tasks"], "", body)), tmp_path)
        assert read_line(process) == "began"
        for _ in range(20):
            os.killpg(process.pid, signal.SIGINT)
        outcome = finish(process)
    assert outcome.returncode in (-signal.SIGINT, 1), outcome


def test_a_waiting_thread_is_not_disturbed(tmp_path: Path) -> None:
    body = """
        p = get_context({method!r}).Pool(2)
        r, w = os.pipe()
        got = []
        def slow(fd):
            say("began")
            with open("/proc/%d/fd/%d" % (fd[0], fd[1]), "rb") as f:
                return f.read(1)
        thread = threading.Thread(target=lambda: got.append(p.apply(slow, ((os.getpid(), r),))))
        try:
            thread.start()
            while True:
                signal.pause()
        except KeyboardInterrupt:
            say("interrupted")
        os.write(w, b"x")
        thread.join()
        say(got)
        p.terminate()
        p.join()
    """
    # Nobody who waits for that task was interrupted; the main thread waits for something else.
    said = interrupt_once(program("", "", body), tmp_path)
    assert said == "interrupted\n[b'x']"


@pytest.mark.parametrize("method", METHODS)
def test_ctrl_c_on_a_terminal(tmp_path: Path, method: str) -> None:
    with on_terminal(["-q", "-i", "-c", program("pass", method, "")], tmp_path) as terminal:
        terminal.expect(">>> ")
        terminal.type(f"p = get_context({method or None!r}).Pool(2)\n")
        terminal.expect(">>> ")
        terminal.type("p.map(hold, range(8), 1)\n")
        terminal.expect("began")
        terminal.type("\x03")
        terminal.expect("KeyboardInterrupt")
        terminal.expect(">>> ")
        terminal.type("p.map(square, range(5))\n")
        terminal.expect("[0, 1, 4, 9, 16]")
        terminal.expect(">>> ")
        terminal.type("exit()\n")
        # Since Python 3.14 a prompt that was interrupted once ends so, with or without a pool.
        assert terminal.end() in (0, -signal.SIGINT)


@pytest.mark.parametrize("call", ["p.map(hold, range(8), 1)", "p.starmap(hold, zip(range(8)), 1)"])
def test_an_interrupt_before_the_wait_cancels_what_was_submitted(tmp_path: Path, call: str) -> None:
    body = f"""
        from pool._local._engine import LocalEngine
        def interrupted(*args, **kwargs):
            job_id = submit(*args, **kwargs)
            signal.raise_signal(signal.SIGINT)
            return job_id
        submit = LocalEngine.submit
        p = Pool(2)
        p.map(square, range(2), 1)
        LocalEngine.submit = interrupted
        try:
            {call}
        except KeyboardInterrupt:
            say("interrupted")
        LocalEngine.submit = submit
        p.map(square, range(4), 1)
        say(p.stats()["jobs"])
        p.terminate()
    """
    said = run_program(HEAD + textwrap.dedent(body), tmp_path).succeeded()
    assert [line for line in said.splitlines() if line != "began"] == ["interrupted", "0"]


@pytest.mark.parametrize(
    "call", ["map_async(square, range(8))", "apply_async(len, ([],))", "imap(square, [1])"]
)
def test_an_interrupt_in_the_midst_of_a_submission_leaves_no_job(tmp_path: Path, call: str) -> None:
    body = f"""
        from pool._local._streams import Streams
        def interrupted(streams):
            signal.raise_signal(signal.SIGINT)
        p = Pool(2)
        p.map(square, range(2), 1)
        seal, Streams.seal = Streams.seal, interrupted
        try:
            p.{call}
        except KeyboardInterrupt:
            say("interrupted")
        Streams.seal = seal
        say(p.stats()["jobs"])
        p.close()
        p.join()  # would wait for it
    """
    said = run_program(HEAD + textwrap.dedent(body), tmp_path).succeeded()
    assert said == "interrupted\n0\n"


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_a_pool_can_be_joined_after_its_end_was_interrupted(tmp_path: Path, end: str) -> None:
    body = f"""
        from pool._local._engine import LocalEngine
        def interrupted(engine):
            signal.raise_signal(signal.SIGINT)
            end(engine)
        p = Pool(2)
        p.map(square, range(2), 1)
        end, LocalEngine.{end} = LocalEngine.{end}, interrupted
        try:
            p.{end}()
        except KeyboardInterrupt:
            say("interrupted")
        LocalEngine.{end} = end
        p.join()
    """
    said = run_program(HEAD + textwrap.dedent(body), tmp_path).succeeded()
    assert said == "interrupted\n"


@pytest.mark.parametrize(("number", "timer"), [("SIGALRM", "REAL"), ("SIGVTALRM", "VIRTUAL")])
def test_a_handler_of_the_program_that_raises_at_any_point(
    tmp_path: Path, number: str, timer: str
) -> None:
    # As Ctrl-C may, a time limit may strike at any instruction; what comes next is as it was.
    body = f"""
        number, timer = signal.{number}, signal.ITIMER_{timer}
        class Late(Exception):
            pass
        def too_late(*_):
            if striking:
                raise Late
        def calls():
            assert p.map(square, range(50), 1) == [n * n for n in range(50)]
            assert p.apply(square, (3,)) == 9
            assert list(p.imap(square, range(9))) == [n * n for n in range(9)]
            assert p.apply_async(square, (4,)).get() == 16
        def strike(times):
            struck = 0
            while struck < times:
                try:
                    # Between any two calls as well, which is none of the pool's business.
                    while True:
                        calls()
                except Late:
                    struck += 1
        p = Pool(2)
        calls()
        engine = p._engines.main
        sys.unraisablehook = lambda *_: None  # strikes in finalizers
        striking = True
        signal.signal(number, too_late)
        signal.setitimer(timer, 0.003, 0.0137)
        try:
            try:
                strike(80)
            finally:
                striking = False
        except Late:
            striking = False
        signal.setitimer(timer, 0)
        calls()
        # Nothing was given up on the way.
        print(p._engines.main is engine, signal.getsignal(number) is too_late)
        p.terminate()
        p.join()
    """
    source = HEAD + textwrap.dedent(body)
    assert run_program(source, tmp_path).succeeded() == "True True\n"


@pytest.mark.parametrize("call", ["list(p.imap(square, iter(range(100))))", "soon()"])
def test_a_handler_that_terminates_the_pool_at_any_point(tmp_path: Path, call: str) -> None:
    # A signal that is not held back: its handler may run in the midst of the pool's own lines,
    # while the thread that drives waits for these to be over.
    body = f"""
        def stop(*_):
            p.terminate()
            p.join()
        def soon():
            p.apply_async(square, (1,), callback=str)
        signal.signal(signal.SIGPROF, stop)
        for number in range(100):
            p = Pool(2)
            p.map(square, range(10))
            late = threading.Timer(number * 0.0002, os.kill, (os.getpid(), signal.SIGPROF))
            late.start()
            try:
                while True:
                    {call}
            except (PoolTerminated, ValueError):
                pass
            late.join()
        for thread in threading.enumerate()[1:]:
            thread.join(5)
        print(threading.active_count())
    """
    source = HEAD + "from pool import PoolTerminated\n" + textwrap.dedent(body)
    assert run_program(source, tmp_path).succeeded() == "1\n"


@pytest.mark.parametrize(
    ("call", "within"),
    [
        ("p.apply(square, (2,))", "Channel.send"),
        ("p.close()", "Channel.send"),
        ("p.close(); p.join()", "Crew._on_exit"),
    ],
)
def test_between_any_two_instructions_a_handler_may_terminate_the_pool(
    tmp_path: Path, call: str, within: str
) -> None:
    body = f"""
        def strike(frame, event, argument):
            global left
            if frame.f_code is not {within}.__code__:
                return None
            frame.f_trace_opcodes = True
            if event == "opcode":
                left -= 1
                if not left:
                    signal.raise_signal(signal.SIGPROF)
            return strike
        signal.signal(signal.SIGPROF, lambda *_: p.terminate())
        moment = left = 0
        while left <= 0:
            moment = left = moment + 1
            p = Pool(1)
            p.apply(square, (1,))
            sys._getframe().f_trace_opcodes = True  # else Python 3.12 has no such events
            sys.settrace(strike)
            try:
                {call}
            except PoolTerminated:
                pass
            finally:
                sys.settrace(None)
            p.terminate()
            p.join()
        print(moment > 20)
    """
    imports = """
from pool import PoolTerminated
from pool._local._crew import Crew
from pool._transport._channel import Channel
"""
    source = HEAD + imports + textwrap.dedent(body)
    assert run_program(source, tmp_path).succeeded() == "True\n"


@pytest.mark.parametrize(
    "call",
    ["p.map(after, [0.1])", "[p.apply(after, (0.1,))]", "list(p.imap(after, [0.1]))"],
)
def test_a_handler_may_wait_for_a_call_that_ends_after_the_one_it_interrupts(
    tmp_path: Path, call: str
) -> None:
    # It takes in both outcomes; nothing else arrives that would end the sleep it interrupts.
    body = f"""
        def after(seconds):
            time.sleep(seconds)
            return seconds
        with Pool(2) as p:
            p.map(square, range(10))
            p.apply(after, (0,))
            p._engines.main.driver.limit_memory(None)  # looking at memory would end it, too
            signal.signal(signal.SIGALRM, lambda *_: say(p.map(after, [0.3])))
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            say({call})
    """
    source = HEAD + textwrap.dedent(body)
    assert run_program(source, tmp_path).succeeded() == "[0.3]\n[0.1]\n"


def test_a_handler_of_a_task_may_wait_for_the_pool_that_the_task_waits_for(tmp_path: Path) -> None:
    body = """
        def after(seconds):
            time.sleep(seconds)
            return seconds
        def task(pool):
            signal.signal(signal.SIGALRM, lambda *_: say(pool.map(after, [0.3])))
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            return pool.map(after, [0.1])
        with Pool(2) as p:
            say(p.apply(task, (p,)))
    """
    source = HEAD + textwrap.dedent(body)
    assert run_program(source, tmp_path).succeeded() == "[0.3]\n[0.1]\n"


@pytest.mark.parametrize(
    ("make", "within"),
    [
        ("p.imap(square, range(1000))", "pool._faces._iterators.Flow.abandon"),
        ("Pool(1)", "pool._local._engine.LocalEngine.dispose"),
        ("ray.remote(Counter).remote()", "pool._runtime._actors.Actor._dropped"),
    ],
)
def test_an_interrupt_is_not_lost_in_a_finalizer(tmp_path: Path, make: str, within: str) -> None:
    place, _, name = within.rpartition(".")
    body = f"""
        import pool as ray
        import pool._faces._iterators, pool._local._engine, pool._runtime._actors
        class Counter:
            pass
        def interrupted(*args):
            signal.raise_signal(signal.SIGINT)
            return action(*args)
        p = Pool(2)
        ray.init(num_cpus=1)
        thing = {make}
        action = {within}
        {place}.{name} = interrupted
        try:
            del thing
            time.sleep(30)
        except KeyboardInterrupt:
            say("interrupted")
        {place}.{name} = action
        ray.shutdown()
        p.terminate()
    """
    source = HEAD + textwrap.dedent(body)
    assert run_program(source, tmp_path).succeeded() == "interrupted\n"


@pytest.mark.parametrize("end", ["p.terminate()", "p.close(); p.join()"])
def test_an_interrupt_while_a_pool_ends_leaves_no_thread(tmp_path: Path, end: str) -> None:
    body = f"""
        from pool._local._driver import Driver
        def interrupted(driver):
            release(driver)
            signal.raise_signal(signal.SIGINT)
        release, Driver.release = Driver.release, interrupted
        p = Pool(2)
        p.apply_async(square, (1,)).get()
        say([thread.name for thread in threading.enumerate()[1:]])
        try:
            {end}
        except KeyboardInterrupt:
            say("interrupted")
        for thread in threading.enumerate()[1:]:
            thread.join(5)
        say(threading.active_count())
    """
    source = HEAD + textwrap.dedent(body)
    assert run_program(source, tmp_path).succeeded() == "['actorpool']\ninterrupted\n1\n"


def test_a_handler_that_makes_a_pool_while_the_first_one_is_made(tmp_path: Path) -> None:
    body = """
        def make_another(*_):
            with Pool(1) as other:
                say(other.apply(square, (5,)))
        def spawn_and_interrupt(*args, **options):
            pid = spawn(*args, **options)
            signal.raise_signal(signal.SIGALRM)
            return pid
        signal.signal(signal.SIGALRM, make_another)
        spawn, os.posix_spawn = os.posix_spawn, spawn_and_interrupt
        with Pool(1) as p:
            say(p.apply(square, (6,)))
    """
    source = HEAD + textwrap.dedent(body)
    assert run_program(source, tmp_path).succeeded() == "25\n36\n"


def test_an_interrupt_while_the_forkserver_is_started_leaves_nothing(tmp_path: Path) -> None:
    body = """
        def spawn_and_interrupt(*args, **options):
            pids.append(spawn(*args, **options))
            signal.raise_signal(signal.SIGINT)
            return pids[-1]
        pids = []
        spawn, os.posix_spawn = os.posix_spawn, spawn_and_interrupt
        try:
            Pool(1)
        except KeyboardInterrupt:
            say("interrupted")
        os.posix_spawn = spawn
        with Pool(1) as p:
            stat = p.apply(eval, ("open('/proc/self/stat').read()",))
        parent = int(stat.rpartition(")")[2].split()[1])
        say([parent] == pids)  # the one that was started is used
    """
    source = HEAD + textwrap.dedent(body)
    assert run_program(source, tmp_path).succeeded() == "interrupted\nTrue\n"


def test_handler_that_a_callback_looks_up_can_be_restored(tmp_path: Path) -> None:
    source = """
    import os, signal, time
    from pool import Pool

    found = []
    with Pool(1) as p:
        p.apply_async(
            time.sleep, (0.05,), {}, lambda _: found.append(signal.getsignal(signal.SIGINT))
        ).get()
    signal.signal(signal.SIGINT, found[0])
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    except KeyboardInterrupt:
        print("interrupted")
    """
    assert run_program(textwrap.dedent(source), tmp_path).succeeded() == "interrupted\n"


def test_a_handler_that_a_library_has_set_in_c_stays(tmp_path: Path) -> None:
    # As cysignals does, so that computations in C can be interrupted, or uWSGI, to end a process.
    body = """
        import ctypes
        seen = []
        handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(seen.append)
        install = ctypes.CDLL(None).signal
        install.argtypes = [ctypes.c_int, ctypes.c_void_p]
        install(signal.SIGINT, ctypes.cast(handler, ctypes.c_void_p))
        with Pool(2) as p:
            print(p.apply(square, (2,)), p.map(square, range(3), 1), list(p.imap(square, [3])))
            signal.raise_signal(signal.SIGINT)
            print(seen, signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    """
    said = f"4 [0, 1, 4] [9]\n[{signal.SIGINT.value}] True\n"
    assert run_program(HEAD + textwrap.dedent(body), tmp_path).succeeded() == said
