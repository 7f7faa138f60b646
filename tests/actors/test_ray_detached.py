"""Detached actors: found by other programs, later, by nobody else, and gone without a trace."""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from rayprograms import ended
from raytasks import AsyncCounter, Counter, Reader, Shaky, double, fail, hold

import pool
import pool.__main__
import store
from pool import exceptions
from pool._objects._mailbox import WINDOW
from pool._transport import _rendezvous as rendezvous

ROOT = Path(__file__).parents[2]


@pytest.fixture
def ray(start: Any) -> Any:
    return start(num_cpus=1, namespace="tests")


@pytest.mark.parametrize("kind", ["Slow", "SlowAsync"])
@pytest.mark.parametrize("restarts", [0, 1])
def test_found_by_another_program_while_it_is_made(
    ray: Any, tmp_path: Path, kind: str, restarts: int
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    class Slow:
        def __init__(self, gate: str) -> None:
            self.text = Path(gate).read_text()

        def seen(self) -> str:
            return self.text

    class SlowAsync(Slow):
        async def wait(self) -> None:
            """Make it async."""

    made = {"Slow": Slow, "SlowAsync": SlowAsync}[kind]
    options = {"name": "slow", "lifetime": "detached", "max_restarts": restarts}
    slow = ray.remote(made).options(**options).remote(str(gate))
    while not list(rendezvous.paths()):
        time.sleep(0.01)
    found = program(
        "import pool; pool.init(namespace='tests'); slow = pool.get_actor('slow'); "
        f"open({str(gate)!r}, 'w').write('made'); print(pool.get(slow.seen.remote()))"
    )
    assert found.split() == ["made"]
    assert ray.get(slow.seen.remote()) == "made"


def test_killed_by_another_program_while_it_is_made(ray: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    slow = Reader.options(name="slow", lifetime="detached").remote(str(tmp_path / "gate"))
    while not list(rendezvous.paths()):
        time.sleep(0.01)
    program("import pool; pool.init(namespace='tests'); pool.kill(pool.get_actor('slow'))")
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(slow.text.remote())


def program(text: str) -> str:
    """Run a program and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", text],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def make(kind: Any = Counter, **options: Any) -> Any:
    return kind.options(name="it", lifetime="detached", **options).remote(10)


def test_needs_no_handle(ray: Any) -> None:
    make()
    assert ray.get(ray.get_actor("it").add.remote()) == 11


def test_its_program_may_have_closed_its_streams(tmp_path: Path) -> None:
    """Whatever connects the two has no number of a stream, which the actor opens anew."""
    program(f"""
import os, pool as ray
from raytasks import Counter
ray.init(num_cpus=1)
os.closerange(0, 3)
counter = Counter.options(name="it", lifetime="detached").remote(10)
with open({str(tmp_path / "answer")!r}, "w") as file:
    file.write(str(ray.get(counter.add.remote())))
ray.kill(counter)
""")
    assert (tmp_path / "answer").read_text() == "11"


def test_its_program_may_end_at_once(ray: Any, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    program(
        "import pool as ray; from raytasks import Reader; ray.init(namespace='tests')\n"
        f"Reader.options(name='it', lifetime='detached').remote({str(begun)!r})"
    )
    begun.write_text("x")  # opened by its constructor
    found = ray.get_actor("it")
    assert ray.get(found.text.remote()) == "x"
    ray.kill(found)


def test_other_versions_are_not_found(
    ray: Any, runtime: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = make()
    assert ray.get(kept.add.remote()) == 11
    with monkeypatch.context() as patch:
        patch.setattr(rendezvous, "DIALECT", ".another")
        with pytest.raises(ValueError, match="no actor named 'it'"):
            ray.get_actor("it", namespace="tests2")
        assert pool.__main__.main(["actors"]) == 0
        listed = capsys.readouterr()
        assert pool.__main__.main(["actors", "--end", "it"]) == 1
    told = (
        "there are actors of another version of Python or actorpool: that one lists them, "
        f"`kill {ray.get(kept.pid.remote())}` ends them\n"
    )
    assert listed == ("", told)
    assert capsys.readouterr() == ("", f"no detached actor named 'it'\n{told}")


def test_those_of_other_versions_that_were_killed_are_not_counted(
    runtime: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = rendezvous.address("tests2", "stale", make=True) + "-another"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(stale)
    assert pool.__main__.main(["actors"]) == 0
    assert capsys.readouterr() == ("", "no detached actors\n")
    assert not os.path.exists(stale)


def test_outlives_its_program_and_is_found_by_another(ray: Any, runtime: Path) -> None:
    made = program(
        "import pool as ray; from raytasks import Counter; ray.init(namespace='tests')\n"
        "c = Counter.options(name='it', lifetime='detached').remote(10)\n"
        "print(ray.get([c.add.remote(), c.pid.remote()]))"
    )
    count, pid = eval(made)
    assert count == 11
    found = ray.get_actor("it")
    assert ray.get([found.add.remote(), found.pid.remote()]) == [12, pid]
    assert runtime.stat().st_mode & 0o777 == 0o700
    assert ray.get_actor("it") == found
    with pytest.raises(ValueError, match="no actor named 'it'"):
        ray.get_actor("it", namespace="elsewhere")
    ray.kill(found)
    with pytest.raises(exceptions.ActorDiedError, match="Counter 'it'"):
        ray.get(found.add.remote())
    assert ended(pid)
    assert not runtime.exists()
    with pytest.raises(ValueError, match="no actor named 'it'"):
        ray.get_actor("it")


def test_one_name_one_actor(ray: Any) -> None:
    actor = make()
    ray.get(actor.add.remote())
    with pytest.raises(ValueError, match="exists already"):
        make()
    assert make(get_if_exists=True) == actor
    ray.shutdown()
    ray.init(num_cpus=1, namespace="tests")
    assert ray.get(make(get_if_exists=True).add.remote()) == 12


def test_its_name_is_taken_for_actors_that_are_not_detached(start: Any) -> None:
    start(num_cpus=1, namespace="tests")
    assert pool.get(make().add.remote()) == 11
    pool.shutdown()
    pool.init(num_cpus=1, namespace="tests")  # as another program, which has not met it
    same = Counter.options(name="it", get_if_exists=True).remote(20)
    assert pool.get(same.add.remote()) == 12
    del same
    with pytest.raises(ValueError, match="exists already"):
        Counter.options(name="it").remote(20)


def test_death_answers_calls_and_the_stale_name_is_free(ray: Any, runtime: Path) -> None:
    actor = make()
    pid = ray.get(actor.pid.remote())
    refs = [actor.add.remote() for _ in range(50)]
    ray.get(refs)
    refs = [actor.die.remote(), *(actor.add.remote() for _ in range(50))]
    for ref in refs:
        with pytest.raises(exceptions.ActorDiedError):
            ray.get(ref)
    assert ended(pid)
    again = make()
    assert ray.get(again.add.remote()) == 11
    ray.shutdown()
    # Killed while nobody is connected: swept by whoever looks.
    ray.init(num_cpus=1, namespace="tests")
    pid = ray.get(ray.get_actor("it").pid.remote())
    ray.shutdown()
    os.kill(pid, signal.SIGKILL)
    assert ended(pid)
    assert list(runtime.iterdir())
    ray.init(num_cpus=1, namespace="tests")
    with pytest.raises(ValueError, match="no actor named"):
        ray.get_actor("it")
    assert not runtime.exists()


def test_leaves_by_itself(ray: Any, runtime: Path) -> None:
    actor = make()
    pid = ray.get(actor.pid.remote())
    with pytest.raises(exceptions.ActorDiedError, match="exit_actor"):
        ray.get(actor.exit.remote())
    assert ended(pid)
    assert not runtime.exists()


@pytest.mark.parametrize("restarts", [0, -1])
@pytest.mark.parametrize("kind, options", [(Counter, {}), (Counter, {"max_concurrency": 2})])
def test_its_name_is_free_as_soon_as_it_is_known_to_leave(
    ray: Any, tmp_path: Path, kind: Any, options: dict[str, Any], restarts: int
) -> None:
    os.mkfifo(tmp_path / "gate")

    def leave(self: Any, gate: str) -> None:
        atexit.register(lambda: Path(gate).read_text())  # it takes long to end
        pool.actor.exit_actor()

    actor = make(kind, max_restarts=restarts, **options)
    pid = ray.get(actor.pid.remote())
    with pytest.raises(exceptions.ActorDiedError, match="exit_actor"):
        ray.get(actor.__ray_call__.remote(leave, str(tmp_path / "gate")))
    again = make(kind, max_restarts=restarts, get_if_exists=True, **options)
    assert ray.get(again.pid.remote()) != pid
    (tmp_path / "gate").write_text("through")
    assert ended(pid)
    # Whoever had the name before does not take it from the other.
    found = program(
        "import pool as ray; ray.init(namespace='tests'); it = ray.get_actor('it')\n"
        "print(ray.get(it.add.remote()))"
    )
    assert found == "11\n"


LEAVE_LATE = """
import asyncio, pool as ray
from pathlib import Path

def leave(self, begun, gate):
    Path(begun).write_text("")
    Path(gate).read_text()
    ray.actor.exit_actor()

async def leave_async(self, begun, gate):
    await asyncio.to_thread(Path(begun).write_text, "")
    await asyncio.to_thread(Path(gate).read_text)
    ray.actor.exit_actor()

ray.init(namespace="tests")
it = ray.get_actor("it")
call = it.__ray_call__.remote({leave}, {begun!r}, {gate!r})
Path({begun!r}).read_text()
"""


@pytest.mark.parametrize(
    "kind, options, leave",
    [
        (Counter, {}, "leave"),
        (Counter, {"max_concurrency": 2}, "leave"),
        (AsyncCounter, {}, "leave_async"),
    ],
)
def test_leaves_by_a_call_whose_program_has_ended(
    ray: Any, tmp_path: Path, kind: Any, options: dict[str, Any], leave: str
) -> None:
    actor = make(kind, **options)
    pid = ray.get(actor.pid.remote())
    begun, gate = str(tmp_path / "begun"), str(tmp_path / "gate")
    os.mkfifo(begun)
    os.mkfifo(gate)
    program(LEAVE_LATE.format(leave=leave, begun=begun, gate=gate))
    Path(gate).write_text("through")
    assert ended(pid)


def test_runs_what_it_was_sent_by_a_program_that_has_ended(ray: Any, tmp_path: Path) -> None:
    actor = make()
    pid = ray.get(actor.pid.remote())
    os.mkfifo(tmp_path / "gate")
    program(
        "import pool as ray; ray.init(namespace='tests'); it = ray.get_actor('it')\n"
        f"held = it.hold.remote({str(tmp_path / 'gate')!r})\n"
        "it.exit.remote()\n"
        "ray.wait([held], timeout=0.1)"
    )
    (tmp_path / "gate").write_text("through")
    assert ended(pid)


def test_its_program_may_have_its_children_reaped_by_the_kernel(ray: Any) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        actor = make()
        assert ray.get(actor.add.remote()) == 11
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_its_program_may_have_a_larger_environment_than_a_command_can_be_given(
    ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = {f"LARGE{number}": "x" * 100_000 for number in range(40)}
    for name, value in large.items():
        monkeypatch.setenv(name, value)
    actor = make()
    seen = actor.__ray_call__.remote(lambda self, name: os.environ[name], "LARGE7")
    assert ray.get(seen) == large["LARGE7"]


def test_no_memory_for_its_arguments_fails_it_alone(
    ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pool._runtime import _detached

    def spawn(actor: Any) -> Any:
        raise MemoryError("no room")

    monkeypatch.setattr(_detached, "_spawn", spawn)
    with pytest.raises(exceptions.ActorDiedError, match="could not be started: no room"):
        ray.get(make().add.remote())
    assert ray.get(double.remote(1)) == 2


def test_takes_no_cpus_of_its_program(ray: Any) -> None:
    actor = make(num_cpus=1)
    assert ray.get(actor.add.remote()) == 11
    assert ray.get(double.remote(1), timeout=60) == 2


def test_one_that_another_program_is_making_is_joined(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    program(
        "import pool as ray; from raytasks import Reader; ray.init(namespace='tests')\n"
        "reader = Reader.options(name='it', lifetime='detached', max_restarts=1)\n"
        f"reader.remote({str(begun)!r})"
    )
    with open(begun, "w") as writer:  # it is being made now
        some = Reader.options(name="it", lifetime="detached", get_if_exists=True)
        with monkeypatch.context() as patch:
            patch.setattr(rendezvous, "PATIENCE", 0.01)  # it says nothing before it is up
            reader = some.remote(str(begun))
        text = reader.text.remote()
        assert ray.wait([text], timeout=0.1)[0] == []
        writer.write("x")
    assert ray.get(text) == "x"
    assert reader._ref.record.options.restarts == 1
    with pytest.raises(ValueError, match="exists already"):
        make()
    ray.kill(reader)


def test_one_that_never_comes_up_can_be_killed(ray: Any, tmp_path: Path) -> None:
    for restarts in (0, 1):
        begun = tmp_path / f"begun{restarts}"
        os.mkfifo(begun)
        some = Reader.options(name="it", lifetime="detached", max_restarts=restarts)
        reader = some.remote(str(begun))
        if restarts:
            ray.kill(reader)
            with pytest.raises(exceptions.ActorDiedError, match="kill"):
                ray.get(reader.text.remote(), timeout=60)
            continue
        with open(begun, "w"):
            ray.kill(reader)
            with pytest.raises(exceptions.ActorDiedError, match="kill"):
                ray.get(reader.text.remote(), timeout=60)


def test_a_directory_with_a_long_name(
    ray: Any, runtime: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Longer than the address of a socket may be.
    folder = runtime.parent / ("long" * 30)
    folder.mkdir(0o700)
    with monkeypatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        actor = make()
        assert ray.get(actor.add.remote()) == 11
        with pytest.raises(ValueError, match="exists already"):
            make()
        out = program(
            "import pool as ray; ray.init(namespace='tests'); c = ray.get_actor('it')\n"
            "print(ray.get(c.add.remote()))"
        )
        assert out == "12\n"
        assert pool.__main__.main(["actors", "--end", "it"]) == 0
        assert "ended" in capsys.readouterr().out
        assert not list(folder.iterdir())


def test_two_programs_at_once(ray: Any) -> None:
    actor = make()
    ray.get(actor.add.remote())
    out = program(
        "import pool as ray; ray.init(namespace='tests'); c = ray.get_actor('it')\n"
        "print(ray.get([c.add.remote() for _ in range(100)])[-1])"
    )
    assert int(out) == 111
    assert ray.get(actor.add.remote()) == 112


def test_is_found_while_it_works(ray: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    actor = make()
    held = actor.hold.remote(str(gate))
    with open(gate, "w") as writer:
        out = program(
            "import pool as ray; ray.init(namespace='tests'); c = ray.get_actor('it')\n"
            "print(ray.wait([c.add.remote()], timeout=0.05)[0])"
        )
        writer.write("through")
    assert out.strip() == "[]"
    assert ray.get(held) == "through"


def test_programs_share_what_it_may_do_at_once(ray: Any, tmp_path: Path) -> None:
    gates = [tmp_path / name for name in ("one", "two")]
    for gate in gates:
        os.mkfifo(gate)
    actor = make(max_concurrency=2)
    held = [actor.hold.remote(str(gate)) for gate in gates]
    with open(gates[0], "w") as one, open(gates[1], "w") as two:
        out = program(
            "import pool as ray; ray.init(namespace='tests'); c = ray.get_actor('it')\n"
            "print(ray.wait([c.add.remote()], timeout=0.1)[0])"
        )
        for writer in (one, two):
            writer.write("through")
    assert out.strip() == "[]"
    assert ray.get(held) == ["through"] * 2


def test_another_program_may_have_as_many_calls_run_at_once(ray: Any) -> None:
    number = WINDOW + 1  # more than are sent at once to an actor that runs one at a time

    class Meeting:
        def __init__(self) -> None:
            self.barrier = threading.Barrier(number, timeout=20)

        def meet(self) -> int:
            return int(self.barrier.wait() > 0)

    options = {"name": "it", "lifetime": "detached", "max_concurrency": number}
    meeting = ray.remote(Meeting).options(**options).remote()
    assert sum(ray.get([meeting.meet.remote() for _ in range(number)])) == number - 1
    found = program(
        "import pool as ray; ray.init(namespace='tests'); it = ray.get_actor('it')\n"
        f"print(sum(ray.get([it.meet.remote() for _ in range({number})])))"
    )
    assert int(found) == number - 1


def test_async_actor(ray: Any) -> None:
    actor = make(AsyncCounter)
    assert ray.get([actor.add.remote(i) for i in range(4)])[-1] == 16
    out = program(
        "import pool as ray; ray.init(namespace='tests'); c = ray.get_actor('it')\n"
        "print(ray.get(c.add.remote(1)))"
    )
    assert int(out) == 17


@pytest.mark.parametrize("kind", ["Counter", "AsyncCounter"])
@pytest.mark.parametrize("concurrency", [1, 2])
def test_prints_where_it_is_called(ray: Any, kind: str, concurrency: int) -> None:
    made = program(f"""
import pool as ray, raytasks, threading
ray.init(namespace="tests")
it = raytasks.{kind}.options(
    name="it", lifetime="detached", max_concurrency={concurrency}
).remote()

def say(self):
    thread = threading.Thread(target=print, args=("in a thread of its own",))
    thread.start()
    thread.join()
    print("here")

ray.get(it.__ray_call__.remote(say))
""")
    assert [line.split(") ")[1] for line in made.splitlines()] == ["in a thread of its own", "here"]
    called = program(
        "import pool as ray; ray.init(namespace='tests'); it = ray.get_actor('it')\n"
        "ray.get(it.__ray_call__.remote(lambda self: print('there')))"
    )
    assert called.endswith(") there\n")


def test_several_calls_at_once(ray: Any) -> None:
    actor = make(max_concurrency=4)
    assert sorted(ray.get([actor.add.remote() for _ in range(50)]))[-1] == 60


def test_constructor_that_raises_leaves_nothing(ray: Any, runtime: Path) -> None:
    from raytasks import Refusing

    actor = Refusing.options(name="it", lifetime="detached").remote("no")
    with pytest.raises(exceptions.ActorDiedError, match="no"):
        ray.get(actor.add.remote())
    with pytest.raises(ValueError, match="no actor named"):
        ray.get_actor("it")


def test_references_take_their_values_along(ray: Any, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)
    actor = make()
    assert ray.get(actor.add.remote(ray.put(5))) == 15
    large = ray.put(np.arange(100_000))
    held = hold.remote(gate)
    nested = ray.put([large, held])
    kept = actor.keep.remote([large, double.remote(4), held, nested, fail.remote("no value")])
    later = actor.count_kept.remote()
    assert ray.wait([later], timeout=0.1) == ([], [later])
    Path(gate).write_text("x")
    assert ray.get([kept, later]) == [None, 5]
    ray.shutdown()
    ray.init(num_cpus=1, namespace="tests")
    # Their program's runtime is gone.
    first, second, third, inner = ray.get(ray.get_actor("it").first_of_kept.remote(4))
    assert ray.get(first).sum() == np.arange(100_000).sum()
    assert ray.get([second, third]) == [8, "x"]
    assert ray.get(ray.get(inner))[1] == "x"
    with pytest.raises(ValueError, match="no value"):
        ray.get(ray.get_actor("it").kept.remote())


def test_an_error_that_the_actor_cannot_unpickle_costs_it_nothing_else(
    ray: Any, tmp_path: Path
) -> None:
    actor = make()
    # An actor of its own, which would end with its runtime.
    actor.__ray_call__.remote(lambda self: setattr(self, "other", Counter.remote(20)))
    (tmp_path / "elsewhere.py").write_text(
        "class Odd(Exception): pass\ndef work(): raise Odd('odd')\n"
    )
    text = (
        f"import sys; sys.path.append({str(tmp_path)!r})\n"
        "import elsewhere, pool as ray; ray.init(num_cpus=1, namespace='tests')\n"
        "failed = ray.remote(elsewhere.work).remote(); ray.wait([failed])\n"
        "it = ray.get_actor('it'); ray.get(it.keep.remote([failed, ray.put(5)]))"
    )
    program(text)
    assert ray.get(actor.count_kept.remote()) == 2

    def seen(self: Any) -> Any:
        with pytest.raises(ModuleNotFoundError, match="elsewhere"):
            pool.get(self.refs[0])
        return pool.get([self.refs[1], self.other.add.remote()])

    assert ray.get(actor.__ray_call__.remote(seen)) == [5, 21]


def test_what_would_be_missed_elsewhere_is_not_sent(ray: Any) -> None:
    actor = make()
    counter = Counter.remote()
    for held in (counter, ray.put([counter])):
        with pytest.raises(TypeError, match="handle of an actor"):
            ray.get(actor.keep.remote([held]))
    assert ray.get(actor.add.remote()) == 11
    with pytest.raises(ValueError, match="needs a name"):
        Counter.options(lifetime="detached").remote()


def test_constructor_gets_references(ray: Any) -> None:
    @ray.remote
    class Keeper:
        def __init__(self, refs: list[Any]) -> None:
            self.refs = refs

        def values(self) -> Any:
            return pool.get(self.refs)

    actor = Keeper.options(name="it", lifetime="detached", max_restarts=1).remote(
        [ray.put(1), double.remote(2)]
    )
    assert ray.get(actor.values.remote()) == [1, 4]


def test_references_of_the_store_take_their_objects_along(ray: Any) -> None:
    @ray.remote
    class Holder:
        def __init__(self, held: list[Any]) -> None:
            self.held = held

        def total(self, refs: list[Any]) -> float:
            return float(sum(array.sum() for array in store.get(self.held + refs)))

        def give_back(self) -> list[Any]:
            return self.held

    refs = [store.put(np.full(100_000, value)) for value in (1.0, 2.0)]
    actor = Holder.options(name="it", lifetime="detached").remote(refs[:1])
    assert ray.get(actor.total.remote(refs[1:])) == 300_000
    (back,) = ray.get(actor.give_back.remote())
    assert back == refs[0]
    del refs, back  # here they were one object, in the memory of this process
    (other,) = ray.get(actor.give_back.remote())
    assert (store.get(other) == 1).all()


def test_tasks_find_it(ray: Any) -> None:
    from raytasks import add_to

    actor = make()
    assert ray.get(add_to.remote(actor, 5)) == 15

    @ray.remote
    def look() -> Any:
        return pool.get(pool.get_actor("it").add.remote())

    assert ray.get(look.remote()) == 16


def test_command_lists_and_ends(ray: Any, capsys: pytest.CaptureFixture[str]) -> None:
    actor = make()
    pid = ray.get(actor.pid.remote())
    assert pool.__main__.main(["actors"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAMESPACE", "NAME", "CLASS", "PID", "STATE"]
    assert row.split() == ["tests", "it", "Counter", str(pid), "alive"]
    assert pool.__main__.main(["actors", "--end", "other"]) == 1
    assert pool.__main__.main(["actors", "--end", "it"]) == 0
    assert ended(pid)
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(actor.add.remote())


def test_command(ray: Any) -> None:
    def command(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pool", "actors", *options],
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    assert (command().returncode, command().stdout) == (0, "")
    pid = ray.get(make().pid.remote())
    listed = command()
    assert (listed.returncode, listed.stderr) == (0, "")
    assert listed.stdout.splitlines()[1].split() == ["tests", "it", "Counter", str(pid), "alive"]
    refused = command("--end", "other")
    assert (refused.returncode, refused.stderr) == (1, "no detached actor named 'other'\n")
    assert command("--end-all").stdout.splitlines()[1].split()[-1] == "ended"
    assert ended(pid)


@pytest.mark.parametrize("asked", [{"num_gpus": 1}, {"resources": {"disk": 1}}, {"num_gpus": 0.5}])
def test_what_nobody_could_count_is_refused(start: Any, asked: dict[str, Any]) -> None:
    start(num_cpus=1, num_gpus=1, resources={"disk": 1})
    with pytest.raises(ValueError, match="leave num_gpus and resources away"):
        make(**asked)
    with pytest.raises(ValueError, match="no actor named 'it'"):
        pool.get_actor("it")


def test_directory_that_others_can_enter_is_refused(ray: Any, runtime: Path) -> None:
    runtime.mkdir(mode=0o755)
    runtime.chmod(0o755)
    with pytest.raises(PermissionError, match="only user"):
        rendezvous.folder()
    with pytest.raises(PermissionError, match="only user"):
        ray.get_actor("it")
    with pytest.raises(exceptions.ActorDiedError, match="it"):
        ray.get(make().add.remote())
    assert ray.get(double.remote(1)) == 2
    runtime.rmdir()


@pytest.mark.parametrize("folder", ["/proc", "/sys"])
def test_a_directory_that_cannot_be_made_is_named(
    ray: Any, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
    with pytest.raises(
        exceptions.ActorDiedError, match=f"{folder}/actorpool'.*set XDG_RUNTIME_DIR"
    ):
        ray.get(make().add.remote())


# ---------------------------------------------------------------------- restarts


def insist(actor: Any) -> Any:
    """Call until a life answers: a call may be on its way to one that has just ended."""
    while True:
        try:
            return pool.get(actor.add.remote())
        except exceptions.ActorUnavailableError:
            continue


@pytest.mark.parametrize("kind", [Counter, AsyncCounter])
def test_is_started_again_after_a_crash(ray: Any, runtime: Path, kind: Any) -> None:
    actor = make(kind, max_restarts=1)
    ray.get([actor.add.remote() for _ in range(3)])
    pid = ray.get(actor.pid.remote())
    keeper = psutil.Process(pid).ppid()
    os.kill(pid, signal.SIGKILL)
    assert ended(pid)
    assert insist(actor) == 11
    again = ray.get(actor.pid.remote())
    assert again != pid and psutil.Process(again).ppid() == keeper
    os.kill(again, signal.SIGKILL)
    with pytest.raises(exceptions.ActorDiedError):
        while True:
            insist(actor)
    assert ended(keeper)
    assert not runtime.exists()


def test_calls_that_may_be_tried_again_reach_the_next_life(ray: Any, tmp_path: Path) -> None:
    folder = tmp_path / "tries"
    folder.mkdir()
    actor = make_plain(Shaky, max_restarts=-1, max_task_retries=-1)
    assert ray.get(actor.work.remote(str(folder))) == 2
    # Another program finds out how it was made.
    for path in folder.iterdir():
        path.unlink()
    found = program(
        "import pool as ray; ray.init(namespace='tests')\n"
        f"print(ray.get(ray.get_actor('it').work.remote({str(folder)!r})))"
    )
    assert found == "2\n"


def make_plain(kind: Any, **options: Any) -> Any:
    return kind.options(name="it", lifetime="detached", **options).remote()


def test_is_started_again_while_no_program_runs(ray: Any) -> None:
    pid = int(
        program(
            "import pool as ray; from raytasks import Counter; ray.init(namespace='tests')\n"
            "c = Counter.options(name='it', lifetime='detached', max_restarts=1).remote(10)\n"
            "print(ray.get([c.add.remote(), c.pid.remote()])[1])"
        )
    )
    os.kill(pid, signal.SIGKILL)
    assert ended(pid)
    found = ray.get_actor("it")
    assert ray.get(found.add.remote()) == 11
    assert ray.get(found.pid.remote()) != pid


def test_killed_or_left_for_good_it_is_not_started_again(ray: Any, runtime: Path) -> None:
    for end in ("kill", "exit", "command"):
        actor = make(max_restarts=-1)
        pid = ray.get(actor.pid.remote())
        keeper = psutil.Process(pid).ppid()
        if end == "kill":
            ray.kill(actor)
        elif end == "exit":
            with pytest.raises(exceptions.ActorDiedError, match="exit_actor"):
                ray.get(actor.exit.remote())
        else:
            assert pool.__main__.main(["actors", "--end", "it"]) == 0
        with pytest.raises(exceptions.ActorDiedError):
            while True:
                insist(actor)
        assert ended(pid)
        assert ended(keeper)
        assert not runtime.exists()


def test_one_with_a_keeper_is_killed_at_once(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not only with its keeper, a moment later: it must not tell anybody that it is there."""
    from pool._runtime import _detached

    actor = make(max_restarts=-1)
    pid = ray.get(actor.pid.remote())
    keeper = psutil.Process(pid).ppid()
    killed = []

    def kill(pid: int, connection: int) -> None:
        killed.append(pid)
        original(pid, connection)

    original = _detached.kill
    monkeypatch.setattr(_detached, "kill", kill)
    ray.kill(actor)
    assert killed == [keeper, pid]
    assert ray.get(make(max_restarts=-1).pid.remote()) != pid


def test_kill_may_leave_its_restarts(ray: Any) -> None:
    actor = make(max_restarts=1)
    pid = ray.get(actor.pid.remote())
    ray.kill(actor, no_restart=False)
    assert ended(pid)
    assert insist(actor) == 11


def test_an_exit_with_another_status_than_0_is_a_crash(ray: Any) -> None:
    actor = make(max_restarts=1)
    pid = ray.get(actor.pid.remote())
    with pytest.raises(exceptions.ActorUnavailableError):
        ray.get(actor.__ray_call__.remote(lambda self: sys.exit(1)))
    assert ended(pid)
    assert insist(actor) == 11


def test_dies_with_its_keeper(ray: Any, runtime: Path) -> None:
    actor = make(max_restarts=-1)
    pid = ray.get(actor.pid.remote())
    keeper = psutil.Process(pid).ppid()
    os.kill(keeper, signal.SIGKILL)
    assert ended(pid)
    with pytest.raises(exceptions.ActorDiedError):
        while True:
            insist(actor)
    assert not runtime.exists()


def test_constructor_that_crashes_is_not_tried_for_ever(ray: Any, runtime: Path) -> None:
    @ray.remote
    class Stillborn:
        def __init__(self) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        def add(self) -> None:
            """Never called."""

    actor = make_plain(Stillborn, max_restarts=-1)
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(actor.add.remote())
    assert not runtime.exists()


def test_a_constructor_that_leaves_a_child_and_crashes(
    ray: Any, tmp_path: Path, runtime: Path
) -> None:
    path = tmp_path / "pid"

    @ray.remote
    class Parent:
        def __init__(self) -> None:
            child = os.fork()
            if not child:
                signal.pause()
            path.write_text(str(child))
            os.kill(os.getpid(), signal.SIGKILL)

        def add(self) -> None:
            """Never called."""

    actor = make_plain(Parent, max_restarts=1)
    called = actor.add.remote()
    while not path.exists() or not path.read_text() or runtime.exists():
        time.sleep(0.01)  # its keeper ends though the child holds what the actor held
    os.kill(int(path.read_text()), signal.SIGKILL)
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(called)


def test_tasks_and_actors_log_as_the_program_does() -> None:
    printed = program(
        "import logging, re, sys, time\n"
        "import pool as ray\n"
        "class Marked(logging.Formatter):\n"
        "    def format(self, record): return 'marked ' + super().format(record)\n"
        "handler = logging.StreamHandler(sys.stdout)\n"
        "handler.setFormatter(Marked('%(message)s'))\n"
        "logging.basicConfig(level='INFO', handlers=[handler])\n"
        "class Tell:\n"
        "    def tell(self): logging.info('of %s', type(self).__name__)\n"
        "def task(): logging.info('of a task')\n"
        "Actor = ray.remote(Tell)\n"
        "kept = Actor.options(name='it', lifetime='detached').remote()\n"
        "ray.get([kept.tell.remote(), Actor.remote().tell.remote(), ray.remote(task).remote()])\n"
        "ray.kill(kept)\n"
        "ray.shutdown()\n"
    )
    lines = sorted(line.partition(") ")[2] for line in printed.splitlines())
    assert lines == ["marked of Tell", "marked of Tell", "marked of a task"], printed
