"""Whose references are whose, while messages about them are under way and when their home ends."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import signal
import socket
import threading
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from raytasks import Counter, hold, total

import pool
import store
from pool import exceptions
from pool._faces._awaited import Guests
from pool._objects import _home
from pool._objects._refs import ObjectRef, new_name
from pool._transport._channel import Channel
from pool._transport._sockets import socket_pair


@pool.remote
class Keeper:
    """Keep what its constructor was given."""

    def __init__(self, kept: list[Any]) -> None:
        self.kept = kept

    def first(self) -> Any:
        return pool.get(self.kept[0])

    def all(self) -> Any:
        return self.kept

    def ask(self) -> Any:
        return pool.get(self.kept[0].first.remote())


def test_constructors_may_keep_references(ray: Any) -> None:
    keepers = [Keeper.options(num_cpus=0).remote([ray.put(i)]) for i in range(8)]
    assert ray.get([keeper.first.remote() for keeper in keepers]) == list(range(8))


def test_constructors_may_keep_handles(ray: Any) -> None:
    some = Keeper.options(num_cpus=0)
    askers = [some.remote([some.remote([ray.put(i)])]) for i in range(4)]
    assert ray.get([asker.ask.remote() for asker in askers]) == list(range(4))


# ---------------------------------------------------------------------- whose home has ended


def test_values_opened_after_shutdown_have_the_references_of_their_time(ray: Any) -> None:
    inner = ray.put([1, 2])
    outer = ray.put([inner, Counter.remote()])
    ray.shutdown()
    found, counter = ray.get(outer)
    assert found is inner
    assert ray.get(found) == [1, 2]
    with pytest.raises(exceptions.ActorDiedError, match="shut down"):
        ray.get(counter.add.remote())
    assert not ray.is_initialized()


def test_values_opened_in_a_forked_child_have_the_references_of_the_parent(ray: Any) -> None:
    outer = ray.put([ray.put([1, 2])])
    pid = os.fork()
    if not pid:
        try:
            found = ray.get(ray.get(outer)[0], timeout=60)
            status = int(found != [1, 2] or ray.is_initialized())
        except BaseException:
            status = 2
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# ---------------------------------------------------------------------- what is over


def fifos(folder: Path, *names: str) -> list[str]:
    """Return the paths of new fifos."""
    paths = [str(folder / name) for name in names]
    for path in paths:
        os.mkfifo(path)
    return paths


def test_nobody_queues_behind_an_actor_that_was_killed_before_its_arguments_were_there(
    start: Any, tmp_path: Path
) -> None:
    ray = start(num_cpus=1, resources={"seat": 2})
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    sitting = Counter.options(resources={"seat": 1}).remote()
    argument = hold.remote(str(gate))
    killed = Counter.options(resources={"seat": 2}).remote(argument)
    ray.kill(killed)
    gate.write_text("go")
    ray.get(argument)
    another = Counter.options(resources={"seat": 1}).remote()
    assert ray.get([sitting.add.remote(), another.add.remote()]) == [1, 1]


def test_what_is_to_be_started_may_be_killed_without_harm(ray: Any, tmp_path: Path) -> None:
    (gate,) = fifos(tmp_path, "gate")
    held = hold.remote(gate)
    actor = Keeper.options(num_cpus=0, max_restarts=1).remote(held)
    once = Keeper.options(num_cpus=0).remote(held)
    for one in (actor, once):
        ray.kill(one, no_restart=False)
    Path(gate).write_text("late")
    assert ray.get(actor.all.remote()) == "late"
    with pytest.raises(exceptions.ActorUnavailableError, match="exited with code 3"):
        ray.get(actor.__ray_call__.remote(lambda _: os._exit(3)))
    with pytest.raises(exceptions.ActorDiedError, match="ended by kill"):
        ray.get(once.all.remote())


def test_a_process_for_one_task_leaves_nothing_with_who_has_submitted_it(
    ray: Any, tmp_path: Path
) -> None:
    told, gate = fifos(tmp_path, "told", "gate")

    @ray.remote
    def parent(told: str, gate: str) -> str:
        pool.get(total.options(num_cpus=0).remote(1, pool.put(2)))
        Path(told).write_text("x")
        return Path(gate).read_text()

    ref = parent.remote(told, gate)
    Path(told).read_text()
    assert not ref._home.locked(lambda: ref._call.children)
    Path(gate).write_text("over")
    assert ray.get(ref) == "over"


@pool.remote
class Definer:
    """Define a remote function and a class in each call, and use them."""

    def define(self, number: int) -> Any:
        data = bytes(100_000)

        @pool.remote
        def size() -> int:
            return len(data) + number

        @pool.remote
        class Sized:
            def size(self) -> int:
                return len(data) - number

        return pool.get([size.remote(), Sized.remote().size.remote()])

    def collect(self) -> None:
        gc.collect()  # a class is a cycle


def test_functions_that_are_defined_by_each_call_are_not_kept(ray: Any) -> None:
    definer = Definer.remote()
    for number in range(5):
        assert ray.get(definer.define.remote(number)) == [100_000 + number, 100_000 - number]
    ray.get(definer.collect.remote())
    (borrower,) = _home.current().lending.borrowers  # type: ignore[attr-defined]  # of the program's runtime
    assert not borrower._codes


@pool.remote
def yield_late(gate: str) -> Any:
    yield Path(gate).read_text()


@pool.remote
class Impatient:
    """Give up on the next value of a generator, and ask for it once more."""

    async def read(self, gate: str) -> Any:
        values = yield_late.remote(gate)
        given_up = asyncio.ensure_future(values.__anext__())
        await asyncio.sleep(0)
        given_up.cancel()
        again = asyncio.ensure_future(values.__anext__())
        await asyncio.to_thread(Path(gate).write_text, "x")
        found = [await (await asyncio.wait_for(again, 60))]
        async for ref in values:
            found.append(await ref)
        return found


def test_a_value_that_somebody_gave_up_on_is_there_for_who_asks_again(
    ray: Any, tmp_path: Path
) -> None:
    (gate,) = fifos(tmp_path, "gate")
    assert ray.get(Impatient.options(num_cpus=0).remote().read.remote(gate)) == ["x"]


def test_a_second_reader_of_one_value_does_not_wait_for_ever(ray: Any, tmp_path: Path) -> None:
    (gate,) = fifos(tmp_path, "gate")
    values = yield_late.remote(gate)
    Path(gate).write_text("x")
    assert ray.get(next(values)) == "x"
    assert values._stream.take(0) is None
    assert list(values) == []


def test_a_process_for_one_task_is_not_tried_again_at_the_end(ray: Any, tmp_path: Path) -> None:
    (gate,) = fifos(tmp_path, "gate")
    held = hold.options(num_cpus=0, max_retries=-1).remote(gate)
    with open(gate, "w"):  # waits until it runs
        ray.shutdown()
    with pytest.raises(exceptions.WorkerCrashedError, match="shut down"):
        ray.get(held, timeout=60)


def test_what_is_handed_in_while_all_is_closed_is_done(ray: Any) -> None:
    class Late(deque[Any]):
        """Have another thread shut down just before the first action is handed in."""

        begun = False

        def append(self, action: Any) -> None:
            if not self.begun:
                self.begun = True
                closing = threading.Thread(target=pool.shutdown)
                closing.start()
                closing.join()
            super().append(action)

    runtime: Any = _home.current()
    runtime._actions = Late()
    done: list[int] = []
    runtime.later(lambda: done.append(1))
    assert done == [1]


def test_threads_that_receive_a_reference_at_once_get_the_same_one(
    ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime: Any = _home.current()
    name = new_name()
    found: list[Any] = []
    other = threading.Thread(target=lambda: found.append(runtime.lent("o", name)))
    make = ObjectRef.__init__

    def make_slowly(self: Any, *args: Any) -> None:
        if other.ident is None:
            other.start()
            other.join(0.5)  # not for ever: it has to wait until this one is made
        make(self, *args)

    monkeypatch.setattr(ObjectRef, "__init__", make_slowly)
    found.append(runtime.lent("o", name))
    other.join()
    assert found[0] is found[1]


def test_an_action_that_fails_keeps_nothing_else_from_the_end(
    ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda raised: told.append(raised.exc_value))
    counter = Counter.remote()
    assert ray.get(counter.add.remote()) == 1
    runtime: Any = _home.current()
    done: list[int] = []
    runtime._actions += [lambda: done[0], lambda: done.append(1)]
    runtime.abort(RuntimeError("given up"))
    assert (done, [type(error) for error in told]) == ([1], [IndexError])
    with pytest.raises(exceptions.ActorDiedError, match="given up"):
        ray.get(counter.add.remote())


def test_a_guest_that_comes_too_late_is_told(ray: Any) -> None:
    runtime: Any = _home.current()
    pool.shutdown()
    line: Any = Channel(socket_pair()[0])
    for admit in (
        lambda fd: runtime.admit_guest(fd, line),
        lambda fd: Guests().admit(1, "borrower", [fd], line),
    ):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        admit(theirs.detach())
        with ours:
            while ours.recv(100):
                pass
    line.close()
    assert not pool.is_initialized()


def test_a_future_of_what_never_comes(ray: Any) -> None:
    ref = pool.ObjectRef(_home.current())
    pool.shutdown()
    assert isinstance(ref.future().exception(timeout=60), pool.PoolTerminated)


def test_shutdown_leaves_what_another_thread_has_started_since(
    ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    home: Any = _home.found()

    def stop() -> None:
        monkeypatch.undo()
        home.stop()
        ray.put(0)  # as by another thread

    monkeypatch.setattr(home, "stop", stop)
    ray.shutdown()
    assert ray.is_initialized()
    assert _home.found() is not home


def test_futures_of_a_parent_tell_a_forked_child_that_nobody_keeps_its_promise(
    ray: Any, tmp_path: Path
) -> None:
    (gate,) = fifos(tmp_path, "gate")
    pending, there = hold.remote(gate), ray.put(1)
    pid = os.fork()
    if not pid:
        status = 1
        try:
            assert there.future().result(60) == 1
            pending.future().result(60)
        except exceptions.OwnerDiedError:
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    Path(gate).write_text("x")
    assert ray.get(pending) == "x"


def test_the_name_of_an_actor_that_was_killed_is_free_at_once(ray: Any) -> None:
    home: Any = _home.found()
    some = Counter.options(name="it", num_cpus=0)
    actor = some.remote()
    ray.get(actor.add.remote())

    def kill_and_find() -> Any:
        actor._ref.record.kill(True)
        return home.directory.find("it", None)

    # Under the lock, so that nobody reads of its end in between.
    assert home.locked(kill_and_find) is None
    ray.kill(some.remote())
    assert ray.get(some.remote().add.remote(2)) == 2


@pool.remote(num_cpus=0)
class Ending:
    """Keep an array; put it, and end at once."""

    def keep(self, array: Any) -> int:
        self.kept = array
        return os.getpid()

    def pass_on(self, keeper: Any) -> None:
        keeper.take.remote([pool.put(self.kept)])
        os.kill(os.getpid(), signal.SIGKILL)


@pool.remote(num_cpus=0)
class Taker:
    """Take a reference."""

    def take(self, refs: list[Any]) -> None:
        self.refs = refs

    def first(self) -> Any:
        return pool.get(self.refs[0])[0]


def test_what_an_actor_has_passed_on_outlives_it(ray: Any) -> None:
    home: Any = _home.found()
    taker, ending = Taker.remote(), Ending.remote()
    pid = os.pidfd_open(ray.get(ending.keep.remote(np.full(1 << 18, 7.0))))

    def pass_on() -> Any:
        ref = ending.pass_on.remote(taker)
        select.select([pid], [], [], 60)
        return ref

    # Under the lock, so that its end is there when what it has passed on is read.
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(home.locked(pass_on))
    os.close(pid)
    other = [store.put(np.full(1 << 18, 9.0)) for _ in range(2)]
    assert ray.get(taker.first.remote()) == 7
    del other


def test_a_call_may_be_cancelled_on_its_way_to_the_mailbox(ray: Any) -> None:
    home: Any = _home.found()
    counter = Counter.options(num_cpus=0).remote()
    ray.get(counter.add.remote())

    def call_and_cancel() -> Any:
        ref = counter.add.remote()
        ray.cancel(ref)
        return ref

    # Under the lock, where the mailbox has not got it yet.
    with pytest.raises(exceptions.TaskCancelledError):
        ray.get(home.locked(call_and_cancel))
    assert ray.get(counter.add.remote()) == 2


@pytest.mark.parametrize("ends", [False, True])
def test_a_task_for_which_no_process_can_be_started_is_tried_again_later(
    ray: Any, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    def connect(*given: Any) -> Any:
        raise pool.StartError("none comes up")

    @ray.remote(num_cpus=0, max_retries=-1)
    def answer() -> int:
        return 1

    with monkeypatch.context() as patch:
        patch.setattr("pool._workers._launcher.connect", connect)
        wanted, cancelled = answer.remote(), answer.remote()
        assert ray.wait([wanted], timeout=0.2) == ([], [wanted])
        ray.cancel(cancelled)
        with pytest.raises(exceptions.TaskCancelledError):
            ray.get(cancelled)
        future = wanted.future()
        if ends:
            pool.shutdown()
            with pytest.raises(pool.PoolTerminated, match="shut down"):
                future.result(10)
    assert ends or ray.get(wanted) == future.result() == 1


def test_an_actor_for_which_no_forkserver_comes_up_is_dead(
    ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*given: Any) -> Any:
        raise pool.StartError("none comes up")

    with monkeypatch.context() as patch:
        patch.setattr("pool._workers._launcher.connect", connect)
        counter = Counter.options(num_cpus=0).remote()
        with pytest.raises(exceptions.ActorDiedError, match="none comes up"):
            ray.get(counter.add.remote())
    assert ray.get(Counter.options(num_cpus=0).remote().add.remote()) == 1
