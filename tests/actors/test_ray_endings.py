"""How actors begin and end: constructors on the event loop, and what is tidied up at the end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from raytasks import Counter, double

import pool
from pool import exceptions


@pool.remote
class Diary:
    """Write down how it ends, in the order in which it does."""

    def __init__(self, folder: str) -> None:
        import atexit
        import warnings

        warnings.simplefilter("ignore", ResourceWarning)  # its files are left to its end
        self.folder = folder
        self.file = open(os.path.join(folder, "file"), "w")  # closed by its end
        self.file.write("buffered")
        self.lifeline = os.open(os.path.join(folder, "alive"), os.O_WRONLY)
        atexit.register(note, folder, "atexit")

    def ready(self) -> None:
        """Do nothing."""

    def hold_itself(self) -> None:
        self.me = self

    def exit(self) -> None:
        pool.actor.exit_actor()

    def sys_exit(self) -> None:
        sys.exit()

    def sys_exit_1(self) -> None:
        sys.exit(1)

    def __ray_shutdown__(self) -> None:
        note(self.folder, "shutdown")

    def __del__(self) -> None:
        note(self.folder, "del")


@pool.remote
class AsyncDiary:
    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.lifeline = os.open(os.path.join(folder, "alive"), os.O_WRONLY)
        self.loop = asyncio.get_running_loop()

    async def ready(self) -> None:
        assert asyncio.get_running_loop() is self.loop

    async def exit(self) -> None:
        pool.actor.exit_actor()

    def __ray_shutdown__(self) -> None:
        note(self.folder, "shutdown")

    def __del__(self) -> None:
        note(self.folder, "del")


def note(folder: str, text: str) -> None:
    with open(os.path.join(folder, "diary"), "a") as file:
        file.write(text + "\n")


@pytest.fixture
def watch(tmp_path: Path) -> Any:
    """Return a function that waits until the actor of this test is gone."""
    os.mkfifo(tmp_path / "alive")
    alive = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(alive, True)

    def gone() -> tuple[list[str], str]:
        """Wait; return what the diary and the file say."""
        assert os.read(alive, 1) == b""
        diary, file = tmp_path / "diary", tmp_path / "file"
        return (
            diary.read_text().split() if diary.exists() else [],
            file.read_text() if file.exists() else "",
        )

    yield gone
    os.close(alive)


ORDER = ["shutdown", "atexit", "del"]


@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize("how", ["ready", "hold_itself", "exit", "sys_exit", "__ray_terminate__"])
def test_an_actor_tidies_up(
    ray: Any, tmp_path: Path, watch: Callable[[], Any], how: str, concurrency: int
) -> None:
    diary = Diary.options(max_concurrency=concurrency).remote(str(tmp_path))
    ray.get(diary.ready.remote())
    ref = getattr(diary, how).remote()
    if how in ("ready", "hold_itself"):
        ray.get(ref)
        del diary
    else:
        with pytest.raises(exceptions.ActorDiedError):
            ray.get(ref)
    assert watch() == (ORDER, "buffered")


def test_an_actor_that_exits_with_another_status_than_0_tidies_up(
    ray: Any, tmp_path: Path, watch: Callable[[], Any]
) -> None:
    diary = Diary.remote(str(tmp_path))
    with pytest.raises(exceptions.ActorDiedError, match="exited with code 1"):
        ray.get(diary.sys_exit_1.remote())
    assert watch()[1] == "buffered"
    assert watch()[0][:2] == ORDER[:2]


class Exiting:
    def exit(self, status: object) -> None:
        sys.exit(status)  # type: ignore[arg-type]  # mypy knows no objects as statuses

    def pid(self) -> int:
        return os.getpid()


class AsyncExiting(Exiting):
    async def exit(self, status: object) -> None:  # type: ignore[override]  # as the one above, but async
        sys.exit(status)  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize("kind", [Exiting, AsyncExiting])
@pytest.mark.parametrize("concurrency", [1, 2])
def test_exits_with_another_status_than_0_are_crashes(
    ray: Any, kind: type, concurrency: int
) -> None:
    options = {"max_restarts": 1, "max_concurrency": concurrency}
    for status in (1, "wrong"):
        actor = ray.remote(kind).options(**options).remote()
        first = ray.get(actor.pid.remote())
        with pytest.raises(exceptions.ActorUnavailableError, match="exited with code 1"):
            ray.get(actor.exit.remote(status))
        assert ray.get(actor.pid.remote()) != first
    for status in (0, None):
        actor = ray.remote(kind).options(**options).remote()
        for method, given in (("exit", [status]), ("pid", [])):
            with pytest.raises(exceptions.ActorDiedError, match="left by exit_actor"):
                ray.get(getattr(actor, method).remote(*given))


@pytest.mark.parametrize("how", ["ready", "exit"])
def test_an_async_actor_tidies_up(
    ray: Any, tmp_path: Path, watch: Callable[[], Any], how: str
) -> None:
    diary = AsyncDiary.remote(str(tmp_path))
    ray.get(diary.ready.remote())
    if how == "exit":
        diary.exit.remote()
    del diary
    assert watch() == (["shutdown", "del"], "")


def test_the_name_of_an_actor_that_has_left_is_free_while_it_tidies_up(
    ray: Any, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    class Busy:
        def exit(self) -> None:
            pool.actor.exit_actor()

        def add(self, number: int) -> int:
            return number + 1

        def __ray_shutdown__(self) -> None:
            gate.read_text()

    some = ray.remote(Busy).options(name="it")
    leaving = some.remote()
    with pytest.raises(exceptions.ActorDiedError, match="left by exit_actor"):
        ray.get(leaving.exit.remote())
    with pytest.raises(ValueError, match="no actor named 'it'"):
        ray.get_actor("it")
    assert ray.get(some.remote().add.remote(1)) == 2
    gate.write_text("")


def test_a_detached_actor_tidies_up(ray: Any, tmp_path: Path, watch: Callable[[], Any]) -> None:
    diary = Diary.options(name="diary", lifetime="detached").remote(str(tmp_path))
    ray.get(diary.ready.remote())
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(diary.exit.remote())
    assert watch() == (ORDER, "buffered")


def test_a_detached_async_actor_tidies_up(
    ray: Any, tmp_path: Path, watch: Callable[[], Any]
) -> None:
    diary = AsyncDiary.options(name="async diary", lifetime="detached").remote(str(tmp_path))
    ray.get(diary.ready.remote())
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(diary.exit.remote())
    assert watch() == (["shutdown", "del"], "")


@pytest.mark.parametrize("how", ["kill", "shutdown"])
def test_an_actor_that_is_ended_does_not(
    ray: Any, tmp_path: Path, watch: Callable[[], Any], how: str
) -> None:
    diary = Diary.remote(str(tmp_path))
    ray.get(diary.ready.remote())
    if how == "kill":
        ray.kill(diary)
    else:
        ray.shutdown()
    assert watch()[0] == []


@pool.remote
class Leaving:
    def hold(self, gate: str) -> str:
        with open(gate) as file:
            return file.read()

    def exit(self) -> None:
        pool.actor.exit_actor()


@pool.remote
class AsyncLeaving:
    async def hold(self, gate: str) -> str:
        return await asyncio.to_thread(Path(gate).read_text)

    async def exit(self) -> None:
        pool.actor.exit_actor()


@pytest.mark.parametrize("kind", [Leaving, AsyncLeaving])
@pytest.mark.parametrize("options", [{}, {"name": "leaving", "lifetime": "detached"}])
def test_calls_that_run_when_an_actor_leaves_go_on_to_their_ends(
    ray: Any, tmp_path: Path, kind: Any, options: dict[str, str]
) -> None:
    gate, never = tmp_path / "gate", tmp_path / "never"
    os.mkfifo(gate)
    os.mkfifo(never)
    actor = kind.options(max_concurrency=2, **options).remote()
    running = actor.hold.remote(str(gate))
    with open(gate, "w") as file:  # it runs
        leaving = actor.exit.remote()
        assert ray.wait([leaving, running], timeout=0.1) == ([], [leaving, running])
        late = actor.hold.remote(str(never))
        file.write("done")
    assert ray.get(running) == "done"
    for ref in (leaving, late):
        with pytest.raises(exceptions.ActorDiedError):
            ray.get(ref)


@pool.remote
class Leaver:
    """Leave by a task of its own."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    async def ready(self) -> None:
        """Do nothing."""

    async def exit(self) -> None:
        pool.actor.exit_actor()

    async def awaited(self) -> None:
        await asyncio.create_task(self.exit())

    async def gathered(self) -> None:
        await asyncio.gather(self.exit(), asyncio.sleep(30))

    async def grouped(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.exit())

    async def limited(self) -> None:
        await asyncio.wait_for(self.exit(), 30)

    async def hold(self, gate: str) -> str:
        return await asyncio.to_thread(Path(gate).read_text)

    async def in_background(self) -> None:
        self.task = asyncio.create_task(self.exit())

    async def by_a_callback(self) -> None:
        asyncio.get_running_loop().call_soon(sys.exit)

    def __ray_shutdown__(self) -> None:
        note(self.folder, "shutdown")


@pytest.mark.parametrize("lifetime", [None, "detached"])
@pytest.mark.parametrize("method", ["awaited", "gathered", "grouped", "limited"])
def test_an_async_actor_leaves_by_a_task_of_its_own(
    ray: Any, tmp_path: Path, method: str, lifetime: str | None
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    options = {"lifetime": lifetime, "name": "it", "max_restarts": 1}
    leaver = Leaver.options(**options).remote(str(tmp_path))
    held = leaver.hold.remote(str(gate))
    with open(gate, "w") as file:
        left = getattr(leaver, method).remote()
        ray.wait([left], timeout=0.1)
        file.write("held")
    assert ray.get(held) == "held"
    for ref in (left, leaver.exit.remote()):
        with pytest.raises(exceptions.ActorDiedError, match="exit_actor"):
            ray.get(ref)
    diary = tmp_path / "diary"
    while not (diary.exists() and diary.read_text() == "shutdown\n"):
        time.sleep(0.01)


@pytest.mark.parametrize("method", ["in_background", "by_a_callback"])
def test_an_async_actor_leaves_beside_its_calls(ray: Any, tmp_path: Path, method: str) -> None:
    leaver = Leaver.options(max_restarts=1).remote(str(tmp_path))
    assert ray.get(getattr(leaver, method).remote()) is None
    with pytest.raises(exceptions.ActorDiedError, match="exit_actor"):
        while True:
            ray.get(leaver.ready.remote())
    assert (tmp_path / "diary").read_text() == "shutdown\n"


def test_a_failing_end_is_told(ray: Any, capsys: pytest.CaptureFixture[str]) -> None:
    @ray.remote
    class Clumsy:
        def ready(self) -> None:
            """Do nothing."""

        def __ray_shutdown__(self) -> None:
            print("so far")
            raise ValueError("so clumsy")

    clumsy = Clumsy.options(name="clumsy", num_cpus=2).remote()
    ray.get(clumsy.ready.remote())
    del clumsy
    # The CPUs are free when it is gone.
    ray.get(ray.remote(num_cpus=2)(os.getpid).remote())
    seen = capsys.readouterr()
    assert "so far" in seen.out
    assert "ValueError: so clumsy" in seen.err and "Clumsy.__ray_shutdown__" in seen.err


def test_an_end_that_takes_too_long_is_cut_short(
    ray: Any, tmp_path: Path, watch: Callable[[], Any]
) -> None:
    @ray.remote
    class Endless:
        def __init__(self, folder: str) -> None:
            from pool._in_worker import _graceful_exit

            _graceful_exit.GRACE = 1
            self.lifeline = os.open(os.path.join(folder, "alive"), os.O_WRONLY)

        def ready(self) -> None:
            """Do nothing."""

        def __ray_shutdown__(self) -> None:
            while True:
                signal.pause()

    endless = Endless.remote(str(tmp_path))
    ray.get(endless.ready.remote())
    del endless
    watch()


# ---------------------------------------------------------------------- beginnings


@pool.remote
class Ticking:
    def __init__(self) -> None:
        self.ticked = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.task = asyncio.get_event_loop().create_task(self.run())

    async def run(self) -> None:
        await asyncio.sleep(0)
        self.ticked.set()

    async def wait(self) -> bool:
        await self.ticked.wait()
        return asyncio.get_running_loop() is self.loop


@pytest.mark.parametrize("options", [{}, {"name": "ticking", "lifetime": "detached"}])
def test_an_async_actor_is_made_on_its_event_loop(ray: Any, options: dict[str, str]) -> None:
    ticking = Ticking.options(**options).remote()
    assert ray.get(ticking.wait.remote())
    ray.kill(ticking)


def test_an_async_actor_that_cannot_be_made(ray: Any) -> None:
    @ray.remote
    class Refusing:
        def __init__(self) -> None:
            asyncio.get_running_loop().create_task(self.run())
            raise ValueError("not today")

        async def run(self) -> None:
            await asyncio.sleep(0)

    with pytest.raises(exceptions.ActorDiedError, match="not today"):
        ray.get(Refusing.remote().run.remote())


def test_an_actor_that_leaves_as_it_is_made(ray: Any, capfd: pytest.CaptureFixture[str]) -> None:
    @ray.remote(max_restarts=1)
    class Reluctant:
        def __init__(self) -> None:
            pool.actor.exit_actor()

        def ready(self) -> None:
            """Never called."""

    with pytest.raises(exceptions.ActorDiedError, match=r"exit_actor\(\) was called"):
        ray.get(Reluctant.remote().ready.remote())
    ray.shutdown()
    assert "Traceback" not in capfd.readouterr().err


def test_what_comes_in_the_midst_of_the_end_is_not_begun(
    ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody would end it, and who waits for it would hold up the end."""
    made = Counter.options(name="made").remote()
    ray.get(made.add.remote())
    processes = made._ref._home.processes
    end_all = processes.end_all
    late = []

    def meanwhile() -> None:
        end_all()
        for act in (
            Counter.remote,
            lambda: ray.get_actor("made"),
            lambda: ray.get(double.options(num_cpus=2).remote(1)),
        ):
            with pytest.raises((pool.PoolTerminated, ValueError)) as refused:
                act()
            late.append(str(refused.value))

    monkeypatch.setattr(processes, "end_all", meanwhile)
    ray.shutdown()
    shut_down = "the runtime was shut down"
    assert late[0] == late[2] == shut_down
    assert "no actor named 'made'" in late[1]
