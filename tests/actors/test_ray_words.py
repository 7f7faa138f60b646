"""Ray's words as programs write them: keywords, options, names of things."""

from __future__ import annotations

import copy
import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from raytasks import Counter, count_to, double

import pool
from pool import exceptions

ROOT = Path(__file__).parents[2]


@pool.remote
class Sized:
    def __len__(self) -> int:
        return 7

    def __getitem__(self, key: Any) -> Any:
        return key

    def __call__(self, number: int = 1) -> int:
        return number

    def mro(self) -> str:  # as a class has it
        return "its own"

    double = functools.partialmethod(__call__, number=2)

    def __repr__(self) -> str:
        return "of the actor"

    @pool.method
    def plain(self) -> int:
        return 1

    @pool.method(enable_task_events=False, num_returns=2)
    def two(self) -> tuple[int, int]:
        return 1, 2


@pool.remote
class Environment:
    def value(self, name: str) -> str | None:
        return os.environ.get(name)


@pool.remote
def variable(name: str) -> str | None:
    return os.environ.get(name)


@pool.remote
def names_of_types(refs: list[Any]) -> Any:
    made = double.remote(1)
    assert isinstance(refs[0], pool.ObjectRef) and copy.deepcopy(refs)[0] is refs[0]
    return type(refs[0]).__name__, type(made).__name__


def test_wait_for_odd_lists(ray: Any) -> None:
    ref = double.remote(1)
    ray.get(ref)
    assert ray.wait([]) == ([], [])
    assert ray.wait(ray_waitables=[ref]) == ([ref], [])
    with pytest.raises(ValueError, match="twice"):
        ray.wait([ref, ref], num_returns=2)
    with pytest.raises(ValueError, match="negative"):
        ray.wait([ref], timeout=-1)
    for odd in ([5], [ref, 5], [count_to.remote(1), 5]):
        with pytest.raises(TypeError, match="there is 5 in it") as refused:
            ray.wait(odd, num_returns=2 if len(odd) == 2 else 1)
        assert type(refused.value) is TypeError


def test_cancel_by_keyword(ray: Any) -> None:
    ref = double.remote(1)
    ray.get(ref)
    ray.cancel(ray_waitable=ref)


def test_references_are_copied_as_they_are(ray: Any) -> None:
    ref = double.remote(4)
    assert copy.copy(ref) is ref
    assert ray.get(copy.deepcopy({"a": [ref]})["a"][0]) == 8
    counter = Counter.remote()
    assert copy.copy(counter) == counter == copy.deepcopy(counter)
    assert ray.get(names_of_types.remote([ref])) == ("ObjectRef", "ObjectRef")


def test_names_of_things(ray: Any) -> None:
    context = ray.get_runtime_context()
    assert context.node_id.hex() == context.get_node_id()
    assert context.job_id.hex() == context.get_job_id()
    assert isinstance(context.node_id, ray.NodeID) and isinstance(context.job_id, ray.JobID)
    assert {"node_id", "job_id", "namespace"} == set(context.get())
    ref = double.remote(1)
    assert isinstance(ref.task_id(), ray.TaskID)
    assert ray.ObjectID is ray.ObjectRef
    counter = Counter.remote()
    assert isinstance(counter._actor_id, ray.ActorID)
    assert counter._actor_id.binary() == bytes(counter._actor_id)
    with pytest.raises(exceptions.ActorDiedError) as caught:
        ray.get(counter.exit.remote())
    assert caught.value.actor_id == counter._actor_id.hex()
    assert not caught.value.actor_init_failed


def test_modules_that_programs_reach_through_ray() -> None:
    code = (
        "import cloudpickle, pool as ray\n"
        "assert ray.cloudpickle is cloudpickle\n"
        "from pool import cloudpickle as again\n"
        "import pool.cloudpickle as once_more\n"
        "assert again is once_more is cloudpickle\n"
        "twice = ray.remote(lambda x: 2 * x)\n"
        "assert isinstance(twice, ray.remote_function.RemoteFunction)\n"
        "context = ray.runtime_context.get_runtime_context()\n"
        "from pool.runtime_context import RuntimeContext\n"
        "assert isinstance(context, RuntimeContext)\n"
        "loads = ray.cloudpickle.loads(ray.cloudpickle.dumps(lambda: 5))\n"
        "print(ray.get(ray.remote(loads).remote()), ray.get(twice.remote(4)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "5 8\n", done.stderr


@pytest.mark.parametrize("environ", [{}, {"WHO": "me"}], ids=["plain", "environ"])
def test_what_an_actor_and_a_task_know_of_themselves(ray: Any, environ: dict[str, str]) -> None:
    def about() -> list[Any]:
        own = pool.get_runtime_context()
        assert own.task_id is None or own.task_id.hex() == own.get_task_id()
        return [own.actor_id, own.runtime_env, json.loads(own.get_runtime_env_string())]

    class About:
        def tell(self) -> list[Any]:
            assert pool.get_runtime_context().task_id is not None
            return about()

    options = {"runtime_env": {"env_vars": environ}, "num_cpus": 1}
    actor = ray.remote(About).options(**options).remote()
    expected = {"env_vars": environ} if environ else {}
    assert ray.get(actor.tell.remote()) == [actor._actor_id, expected, expected]
    assert ray.get(ray.remote(about).options(**options).remote()) == [None, expected, expected]
    context = ray.get_runtime_context()
    assert [context.actor_id, context.task_id, context.runtime_env] == [None, None, {}]
    assert context.get_placement_group_id() is None


def test_what_init_returns() -> None:
    with pool.init(num_cpus=1) as context:
        assert context["node_id"] == context.address_info["node_id"]
        assert pool.get(double.remote(1)) == 2
        assert context == pool.init(ignore_reinit_error=True)
    assert not pool.is_initialized()


def test_dunder_methods_of_a_handle(ray: Any) -> None:
    sized = Sized.remote()
    assert ray.get([sized.__len__.remote(), sized.__getitem__.remote(3)]) == [7, 3]
    assert ray.get([sized.__call__.remote(5), sized.double.remote()]) == [5, 2]
    assert ray.get(sized.mro.remote()) == "its own"
    assert repr(sized).startswith("Actor(Sized, ")
    with pytest.raises(AttributeError):
        _ = sized.__enter__
    assert ray.get(sized.plain.remote()) == 1
    assert ray.get(sized.two.remote()) == [1, 2]
    assert ray.get(sized.plain.options(name="x", num_returns=None).remote()) == 1


def test_what_is_remote_is_not_made_remote_again() -> None:
    for definition in (double, Counter):
        with pytest.raises(TypeError, match="is remote already"):
            pool.remote(definition)


@pytest.mark.parametrize(
    "options",
    [
        {"scheduling_strategy": "SPREAD"},
        {"scheduling_strategy": "DEFAULT"},
        {"label_selector": {"a": "b"}, "_labels": {"a": "b"}},
        {"enable_task_events": False, "memory": 1000, "runtime_env": {}, "placement_group": None},
    ],
)
def test_options_that_choose_nothing(ray: Any, options: dict[str, Any]) -> None:
    assert ray.get(double.options(num_returns=None, **options).remote(1)) == 2
    counter = Counter.options(allow_out_of_order_execution=False, **options).remote()
    assert ray.get(counter.add.remote()) == 1


def test_generators_stream_unless_they_say_otherwise(ray: Any) -> None:
    stream = count_to.options(num_returns=None).remote(2)
    assert ray.get(list(stream)) == [0, 1]


def test_environment_variables(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIVEN", "by the program")
    ray = start(num_cpus=2)
    given = {"runtime_env": {"env_vars": {"GIVEN": "by an option"}}}
    assert ray.get(variable.options(**given).remote("GIVEN")) == "by an option"
    assert ray.get(variable.remote("GIVEN")) == "by the program"
    actor = Environment.options(**given).remote()
    assert ray.get(actor.value.remote("GIVEN")) == "by an option"
    detached = Environment.options(name="env", lifetime="detached", **given).remote()
    assert ray.get(detached.value.remote("GIVEN")) == "by an option"
    ray.kill(detached)
    typed = pool.runtime_env.RuntimeEnv(env_vars={"GIVEN": "by keywords"})
    assert ray.get(variable.options(runtime_env=typed).remote("GIVEN")) == "by keywords"
    with pytest.raises(ValueError, match="not 'pip'"):
        double.options(runtime_env=pool.runtime_env.RuntimeEnv(pip=["numpy"]))
    with pytest.raises(TypeError, match="strings"):
        Environment.options(runtime_env={"env_vars": {"A": 1}})


def test_environment_variables_of_all_workers(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIVEN", "by the program")
    here = {"working_dir": ".", "excludes": ["*.bin"]}
    every = {"GIVEN": "to all", "OMP_NUM_THREADS": "3", "MINE": "to all"}
    ray = start(num_cpus=2, runtime_env={**here, "env_vars": every})
    assert os.environ["GIVEN"] == "by the program"
    own = {"runtime_env": {"env_vars": {"MINE": "to one"}}}

    @ray.remote
    def look() -> Any:
        return [os.environ.get(name) for name in every], pool.get_runtime_context().runtime_env

    @ray.remote
    class Looking:
        def look(self) -> list[str | None]:
            return [os.environ.get(name) for name in every]

        def ask(self) -> Any:
            return pool.get(look.remote())

    values = list(every.values())
    assert ray.get(look.remote()) == (values, {"env_vars": every})
    assert ray.get(look.options(num_cpus=2).remote())[0] == values
    mine = [*values[:2], "to one"]
    both = {"env_vars": {**every, "MINE": "to one"}}
    assert ray.get(look.options(**own).remote()) == (mine, both)
    assert ray.get(Looking.remote().look.remote()) == values
    assert ray.get(Looking.options(**own).remote().look.remote()) == mine
    detached = Looking.options(name="looking", lifetime="detached").remote()
    assert ray.get(detached.look.remote()) == values
    assert ray.get(detached.ask.remote())[0] == values  # in a runtime of its own
    ray.kill(detached)
    ray.shutdown()
    ray.init(num_cpus=1)
    found, environ = ray.get(look.remote())
    assert [found[0], found[2], environ] == ["by the program", os.environ.get("MINE"), {}]


def test_options_that_methods_do_not_have(ray: Any) -> None:
    for of_method in (pool.method, Counter.remote().add.options):
        with pytest.raises(ValueError, match="option 'tensor_transport' is not supported here: ."):
            of_method(tensor_transport="nccl")
        with pytest.raises(TypeError, match="concurrency_group=5"):
            of_method(concurrency_group=5)
    with pytest.raises(TypeError, match="retry_exceptions=5"):
        pool.method(retry_exceptions=5)
    with pytest.raises(ValueError, match="max_task_retries=-2"):
        pool.method(max_task_retries=-2)
    with pytest.raises(ValueError, match="unknown option 'nonsense'"):
        pool.method(nonsense=1)


def test_arguments_of_init_that_may_be_empty(start: Any) -> None:
    ray = start(num_cpus=1, runtime_env={}, local_mode=False, job_config=None, _temp_dir="/x")
    ray.shutdown()
    with pytest.raises(ValueError, match="argument 'local_mode' is not supported"):
        pool.init(local_mode=True)
    for given in ({"pip": ["numpy"]}, {"working_dir": "/"}):
        with pytest.raises(ValueError, match=f"init: runtime_env .* not '{next(iter(given))}'"):
            pool.init(runtime_env=given)
    assert not pool.is_initialized()
    with pytest.raises(ValueError, match="unknown argument 'nonsense'"):
        pool.init(nonsense=1)


def test_arguments_of_init_for_clusters(start: Any, capsys: pytest.CaptureFixture[str]) -> None:
    ray = start(
        num_cpus=1,
        log_to_driver=None,
        labels={"a": "b"},
        logging_config=pool.LoggingConfig(encoding="JSON", log_level="WARNING"),
        _system_config={"x": 1},
    )

    @ray.remote
    def say() -> None:
        print("shown")

    ray.get(say.remote())
    ray.shutdown()
    assert "shown" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [pool.ObjectRef, pool.ActorHandle, pool.actor.ActorClass])
def test_words_in_annotations(kind: Any) -> None:
    assert kind[int].__origin__ is kind
    assert kind[int].__args__ == (int,)


def test_an_argument_may_be_called_self(ray: Any) -> None:
    @ray.remote
    def pair(self: int, args: int) -> tuple[int, int]:
        return self, args

    assert ray.get(pair.remote(self=1, args=2)) == (1, 2)
    assert ray.get(pair.options(name="pair").remote(self=1, args=2)) == (1, 2)


def test_what_a_task_starts_has_its_environment(ray: Any) -> None:
    @ray.remote
    def inner() -> tuple[str | None, str | None]:
        return os.environ.get("OUTER"), os.environ.get("INNER")

    @ray.remote
    class Inner:
        def look(self) -> tuple[str | None, str | None]:
            return os.environ.get("OUTER"), os.environ.get("INNER")

    @ray.remote(runtime_env={"env_vars": {"OUTER": "a"}})
    def outer() -> list[tuple[str | None, str | None]]:
        both = inner.options(runtime_env={"env_vars": {"INNER": "b"}})
        other = inner.options(runtime_env={"env_vars": {"OUTER": "c"}})
        actor = Inner.remote()
        return list(ray.get([inner.remote(), both.remote(), other.remote(), actor.look.remote()]))

    assert ray.get(outer.remote()) == [("a", None), ("a", "b"), ("c", None), ("a", None)]
    assert ray.get(inner.remote()) == (None, None)


def test_arguments_and_options_of_one_call_together(ray: Any) -> None:
    kinds = ray.remote(lambda *args, **kwargs: [args, kwargs])
    assert ray.get(kinds._remote()) == [(), {}]
    assert ray.get(kinds._remote([1], {"b": 2}, num_returns=2)) == [(1,), {"b": 2}]
    counter = Counter._remote(args=None, kwargs={}, name="counted")
    assert ray.get(counter.add._remote(args=(5,))) == 5
    assert ray.get_actor("counted") == counter
    with pytest.raises(ValueError, match="unknown option 'num_cpu'"):
        Counter._remote(num_cpu=1)


def test_graphs_of_calls_are_refused(ray: Any) -> None:
    made = [double, double.options(num_cpus=1), Counter, Counter.options(), Counter.remote().add]
    for one in made:
        with pytest.raises(NotImplementedError, match=r"call \.remote\(\) with the references"):
            one.bind(1)
