"""What is lost with a machine of a cluster, and what is not."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import clustertasks as tasks
import psutil
import pytest
from agentcluster import AgentCluster, HeldAgent, let_go
from forking import run_in_fork
from poolkit import Gate, has_ended
from pooltasks import hold

from pool import CannotSend, Pool, PoolError, StartError, WorkerDied, WorkerLost
from pool._cluster import _messages
from pool._cluster._agent import SEEN
from pool._cluster._engine import ClusterEngine
from pool._cluster._engines import ClusterEngines


@pytest.fixture
def agents(here: list[AgentCluster]) -> Iterator[Callable[[], list[HeldAgent]]]:
    """Give a function that returns the agents of the last pool in this process."""
    yield lambda: here[-1].agents
    let_go(here)


def test_a_lost_agent_fails_what_it_had_and_nothing_else(
    agents: Callable[[], list[HeldAgent]], gate: Gate
) -> None:
    with Pool(2, engine="here") as pool:
        result = pool.map_async(hold, [gate.path] * 2, 1)
        for _ in range(2):
            gate.entered()
        agents()[0].shoot()
        gate.release(2)
        with pytest.raises(WorkerLost, match="it was shot") as caught:
            result.get(60.0)
        assert isinstance(caught.value, WorkerDied) and caught.value.host
        assert "while it had item" in str(caught.value)
        assert pool.map(tasks.square, range(20), 1) == [x * x for x in range(20)]
        assert pool.stats()["restarts"] == 1
        assert len(agents()) == 3


def test_an_idle_agent_that_is_lost_is_replaced(agents: Callable[[], list[HeldAgent]]) -> None:
    with Pool(2, engine="here") as pool:
        pool.map(tasks.square, range(4))
        agents()[1].shoot()
        assert pool.map(tasks.square, range(50), 1) == [x * x for x in range(50)]


def test_what_a_lost_agent_had_is_run_again_if_asked_for(
    agents: Callable[[], list[HeldAgent]], gate: Gate
) -> None:
    with Pool(1, engine="here") as pool:
        result = pool.map_async(hold, [gate.path] * 2, 1, retries=1)
        gate.entered()
        agents()[0].shoot()
        gate.entered()
        gate.release(3)
        assert len(result.get(60.0)) == 2


def test_nothing_runs_twice_and_nothing_is_lost_while_agents_go(
    agents: Callable[[], list[HeldAgent]], tmp_path: Path
) -> None:
    choice = random.Random(7)
    with Pool(3, engine="here") as pool:
        items = [(str(tmp_path), number) for number in range(400)]
        result = pool.starmap_async(tasks.note, items, 1, return_exceptions=True)
        for shots in range(6):
            while len(os.listdir(tmp_path)) < 40 * (1 + shots) and not result.ready():
                time.sleep(0.001)
            # Not those that are starting: a pool gives up if that goes wrong time and again.
            standing = [agent for agent in agents() if "run" in agent.methods and not agent.gone]
            if standing:
                choice.choice(standing).shoot()
        values = result.get(120.0)
    lost = [value for value in values if isinstance(value, WorkerLost)]
    assert [v for v in values if not isinstance(v, WorkerLost)] == [
        number for number, v in enumerate(values) if not isinstance(v, WorkerLost)
    ]
    runs = {int(path.name): len(path.read_text().split()) for path in tmp_path.iterdir()}
    assert max(runs.values()) == 1
    assert set(range(400)) - set(runs) <= {n for n, v in enumerate(values) if v in lost}


def test_calls_end_with_a_cluster_that_the_program_has_left(
    here: list[AgentCluster], gate: Gate
) -> None:
    with Pool(2, engine="here") as pool:
        result = pool.map_async(hold, [gate.path] * 3, 1)
        for _ in range(2):
            gate.entered()
        here[-1].left = "the program has left it"
        with pytest.raises(StartError, match="the program has left it"):
            result.get(60.0)
        gate.release(2)
        # Where it is now, if it has been connected again.
        assert pool.map(tasks.square, range(5)) == [x * x for x in range(5)]
    let_go(here)


def test_agents_that_start_late_hold_nothing_up(
    agents: Callable[[], list[HeldAgent]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AgentCluster, "late", {1})
    with Pool(2, engine="here") as pool:
        assert pool.map(tasks.square, range(40), 1) == [x * x for x in range(40)]
        assert "run" not in agents()[1].methods
        agents()[1].up.set()


def test_agents_that_never_start_end_the_pool(
    agents: Callable[[], list[HeldAgent]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AgentCluster, "late", {0, 1, 2})
    with Pool(1, engine="here") as pool:
        for number in range(3):
            while len(agents()) <= number:
                time.sleep(0.01)
            agents()[number].shoot()
        with pytest.raises(WorkerLost, match="while starting.*it was shot"):
            pool.map(tasks.square, range(3))


def test_what_a_lost_agent_had_given_back_is_not_lost(
    agents: Callable[[], list[HeldAgent]], gate: Gate
) -> None:
    with Pool(1, engine="here") as pool:
        pool.map(tasks.hold_at_three, [(gate.path, 0)] * 30, 1)  # cheap: they travel together
        agents()[0].methods.clear()
        items = [(gate.path, number) for number in range(60)]
        result = pool.map_async(tasks.hold_at_three, items, 1, return_exceptions=True)
        gate.entered()
        while "go_on" not in agents()[0].methods:
            time.sleep(0.01)  # until it has given back what is behind that one
        agents()[0].shoot()
        values = result.get(60.0)
        lost = {number for number, value in enumerate(values) if isinstance(value, WorkerLost)}
        assert 3 in lost and not lost & {0, 1, 2}  # what was sent again may be lost once more
        assert [number for number in values if isinstance(number, int)] == [
            number for number in range(60) if number not in lost
        ]
        gate.release(1)


def test_what_an_agent_is_told_late_to_forget_is_not_what_it_has_since(
    agents: Callable[[], list[HeldAgent]], monkeypatch: pytest.MonkeyPatch, gate: Gate
) -> None:
    urge = HeldAgent.urge
    late: list[Any] = []

    def put_off(agent: HeldAgent, method: str, *args: Any) -> None:
        late.append(args) if method == "forget" and any(args) else urge(agent, method, *args)

    monkeypatch.setattr(HeldAgent, "urge", put_off)
    # Too large to be kept beyond its calls; they flow in a stream, whose jobs have it in common.
    names: dict[str, Any] = {"hold": hold}
    exec(f"def large(path, x):\n    'long {' ' * 100_000}'\n    hold(path)\n    return x", names)
    large = names["large"]
    gate.release(40)
    with Pool(1, engine="here") as pool:
        assert pool.apply_async(large, (gate.path, 1)).get(60.0) == 1
        while not late:
            time.sleep(0.01)
        results = [pool.apply_async(large, (gate.path, x)) for x in range(30)]
        results[3].get(60.0)
        urge(agents()[0], "forget", *late[0])
        assert [result.get(60.0) for result in results] == list(range(30))


def test_agents_keep_nothing_of_what_is_over(agents: Callable[[], list[HeldAgent]]) -> None:
    with Pool(1, engine="here") as pool:
        for _ in range(100):
            pool.apply(tasks.square, (3,))
        table = bytes(200_000)
        pool.map(lambda x: table[x], range(30), 1)
        agents()[0].methods.clear()
        cancelled = [pool.map_async(tasks.sleep, [60.0] * 4, 1) for _ in range(3)]
        while "go_on" not in agents()[0].methods:
            time.sleep(0.01)  # until one is under way and has been answered for
        for result in cancelled:
            result.cancel()
        assert pool.apply(tasks.square, (3,)) == 9
        agent = agents()[0].agent
        assert len(agent._seen) <= SEEN
        while agent._errands or agent._called_off or len(agent._functions) > 2:
            time.sleep(0.01)  # the watchdog ends a test that waits in vain


def test_a_message_that_comes_again_is_not_run_again(
    agents: Callable[[], list[HeldAgent]],
) -> None:
    # As Dask repeats a call whose result it has lost.
    with Pool(1, engine="here") as pool:
        pool.apply(tasks.square, (3,))
        agent = agents()[0].agent
        with pytest.raises(RuntimeError, match="has come before"):
            agent.run(agent._seen[-1], [], [], [], [])


def test_a_large_function_is_sent_once(here: list[AgentCluster]) -> None:
    table = bytes(3_000_000)
    with Pool(3, engine="here") as pool:
        assert pool.map(lambda x: table[x], range(30), 1) == [0] * 30
        assert here[-1].shared == 1
        crew = pool._engines.main.driver.crew
        pool.apply(tasks.square, (3,))
        while crew._shared:
            time.sleep(0.01)  # as above
    let_go(here)


def test_other_versions_are_refused(
    agents: Callable[[], list[HeldAgent]], monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = iter([(3, 99, "0.0.1")])
    real = _messages.version
    monkeypatch.setattr("pool._cluster._engine.version", lambda: next(versions, real()))
    with Pool(1, engine="here") as pool:
        with pytest.raises(StartError, match=r"Python 3\.99 and actorpool 0\.0\.1.*same versions"):
            pool.map(tasks.square, [1])


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="engine must be 'local', 'ray' or 'dask', not 'spark'"):
        Pool(2, engine="spark")
    with pytest.raises(ValueError, match="for engine='ray' and engine='dask'"):
        Pool(2, address="auto")
    import multiprocessing

    with pytest.raises(ValueError, match="context says how processes of this machine"):
        Pool(2, engine="dask", context=multiprocessing.get_context("spawn"))


def test_a_forked_child_is_told(agents: Callable[[], list[HeldAgent]]) -> None:
    with Pool(1, engine="here") as pool:
        pool.map(tasks.square, [1])

        def use() -> None:
            with pytest.raises(RuntimeError, match="belongs to the process that was forked"):
                pool.map(tasks.square, [1])

        run_in_fork(use)
        assert pool.map(tasks.square, [2]) == [4]


def test_a_pool_that_could_not_start_lets_go_of_the_cluster(here: list[AgentCluster]) -> None:
    with pytest.raises(CannotSend, match="generator"):
        Pool(2, initializer=print, initargs=((n for n in ()),), engine="here")
    assert here[-1].closed and not here[-1].agents


@pytest.mark.usefixtures("agents")
def test_a_pool_ends_in_the_midst_of_getting_other_workers(
    here: list[AgentCluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Pool(2, engine="here") as pool:
        pool._engine.dispose()
        begin = ClusterEngine._begin

        def interrupted(engine: ClusterEngine) -> None:
            pool.terminate()  # as a signal handler may at that moment
            begin(engine)

        monkeypatch.setattr(ClusterEngine, "_begin", interrupted)
        with pytest.raises(ValueError, match="not running"):
            pool._engines.current()
        assert [cluster.closed for cluster in here[-2:]] == [True, True]


def test_a_pool_that_was_never_used_lets_go_of_the_cluster(here: list[AgentCluster]) -> None:
    for end in ("close", "finish"):
        engines = ClusterEngines("here", None, {}, 2, None, (), None, None, None)
        assert not here[-1].closed
        getattr(engines, end)()
        assert here[-1].closed


@pytest.fixture(params=["dask", "ray"])
def system(request: pytest.FixtureRequest) -> str:
    """Give the name of a system whose processes can be killed."""
    request.getfixturevalue(request.param)
    name: str = request.param
    return name


@pytest.mark.elsewhere
def test_the_process_of_an_agent_is_killed(system: str, gate: Gate) -> None:
    with Pool(2, engine=system) as pool:
        holders = set(pool.map(tasks.parent_pid, range(40), 1))
        assert os.getpid() not in holders
        result = pool.map_async(hold, [gate.path] * 2, 1, return_exceptions=True)
        for _ in range(2):
            gate.entered()
        os.kill(holders.pop(), signal.SIGKILL)
        gate.release(2)
        values = result.get(60.0)
        assert any(isinstance(value, WorkerLost) for value in values)
        assert pool.map(tasks.square, range(20), 1) == [x * x for x in range(20)]


@pytest.mark.elsewhere
def test_a_worker_of_dask_is_retired() -> None:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
        Pool(2, engine="dask") as pool,
    ):
        squares = [x * x for x in range(40)]
        assert pool.map(tasks.square, range(40), 1) == squares
        workers = list(client.scheduler_info()["workers"])
        client.retire_workers(workers[:1])
        assert list(client.scheduler_info()["workers"]) == workers[1:]
        assert pool.map_async(tasks.square, range(40), 1).get(60.0) == squares


@pytest.mark.elsewhere
def test_a_cluster_that_adapts_itself_gets_its_first_worker_for_the_pool() -> None:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=0, threads_per_worker=1, dashboard_address=":0", silence_logs=50
        ) as cluster,
        distributed.Client(cluster),
    ):
        cluster.adapt(minimum=0, maximum=1, interval="200ms")
        with Pool(1, engine="dask") as pool:
            assert pool.map(tasks.square, range(3)) == [0, 1, 4]


@pytest.mark.elsewhere
def test_a_pool_finds_its_scheduler_again_when_the_client_is_closed(dask: Any) -> None:
    import distributed

    client = distributed.Client(dask.scheduler.address, set_as_default=False)
    with Pool(1, engine="dask", address=client) as pool:
        client.close()
        with pytest.raises(StartError, match="is closed"):
            Pool(1, engine="dask", address=client)
        pool._engine.dispose()
        assert pool.map(tasks.square, range(3)) == [0, 1, 4]


@pytest.mark.elsewhere
def test_a_task_that_uses_ray_finds_the_cluster(ray: Any) -> None:
    with Pool(1, engine="ray") as pool:
        assert pool.apply(tasks.address_of_ray) == ray.get_runtime_context().gcs_address


SHUT_DOWN = """
import sys
sys.path[:0] = {path!r}
import clustertasks as tasks
from pool import Pool, StartError
import ray

ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
pool = Pool(1, engine="ray")
assert pool.map(tasks.square, range(3)) == [0, 1, 4]
waiting = pool.map_async(tasks.sleep, [60.0] * 3, 1)
ray.shutdown()
for result in (waiting.get, lambda: pool.map(tasks.square, range(3))):
    try:
        result()
    except StartError as error:
        assert "Ray has been shut down in this program" in str(error)
    else:
        raise AssertionError
pool.terminate()
pool.join()
print(ray.is_initialized())
"""


@pytest.mark.elsewhere
def test_a_pool_whose_ray_was_shut_down_starts_no_other_one() -> None:
    pytest.importorskip("ray")
    program = SHUT_DOWN.format(path=[entry for entry in sys.path if entry])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["False"], done.stderr


UNFINISHED = """
import os, sys, time
sys.path[:0] = {path!r}
import clustertasks as tasks
from distributed import Client, LocalCluster
from pool import Pool

client = Client(LocalCluster(1, processes=False, dashboard_address=":0", silence_logs=50))
pool = Pool(2, engine="dask")
assert pool.map(tasks.square, range(3)) == [0, 1, 4]
pool.starmap_async(tasks.touch_and_sleep, [({begun!r}, 60.0)] * 4, 1)
while not os.path.exists({begun!r}):
    time.sleep(0.01)
"""


@pytest.mark.elsewhere
def test_a_program_ends_in_the_midst_of_its_tasks_without_a_word(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    path, begun = [entry for entry in sys.path if entry], str(tmp_path / "begun")
    program = UNFINISHED.format(path=path, begun=begun)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and "never retrieved" not in done.stderr


PROGRAM = """
import sys, os, time
sys.path[:0] = {path!r}
import clustertasks as tasks
from pool import Pool

if __name__ == "__main__":
    pool = Pool(2, engine="dask", address={address!r})
    pids = sorted(set(pool.map(tasks.pid, range(20), 1)))
    pool.starmap_async(tasks.touch_and_sleep, [({begun!r}, 600.0)] * 4, 1)
    while not os.path.exists({begun!r}):
        time.sleep(0.01)
    print(*pids, flush=True)
    time.sleep(600)
"""


@pytest.mark.elsewhere
def test_a_program_that_is_killed_leaves_nothing_on_the_cluster(dask: Any, tmp_path: Path) -> None:
    path, begun = [entry for entry in sys.path if entry], str(tmp_path / "begun")
    program = PROGRAM.format(path=path, address=dask.scheduler_info()["address"], begun=begun)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        workers = [psutil.Process(int(pid)) for pid in running.stdout.readline().split()]
        assert workers
        running.kill()
    _, alive = psutil.wait_procs(workers, timeout=120.0)
    assert not [worker for worker in alive if not has_ended(worker)]


def test_errors_are_of_the_package() -> None:
    error = WorkerLost(3, "node7", "the Dask worker is gone", "while it had item 2 of map(f)")
    assert isinstance(error, PoolError)
    import pickle

    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and again.host == "node7" and again.worker_id == 3
    assert str(error).startswith(
        "worker 3 on node7 was lost while it had item 2 of map(f): the Dask worker is gone"
    )
