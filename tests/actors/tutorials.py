"""Programs as people write them after a Ray tutorial; each takes the module and gives an answer.

Nothing here knows which module it is: ``import ray`` and ``import pool as ray`` must agree.
"""

from __future__ import annotations

import importlib
import os
import threading
from typing import Any

import numpy as np


def sum_of_a_shared_list(ray: Any) -> Any:
    numbers = ray.put(list(range(1_000)))

    @ray.remote
    def part(numbers: list[int], start: int, stop: int) -> int:
        return sum(numbers[start:stop])

    pending = [part.remote(numbers, start, start + 100) for start in range(0, 1_000, 100)]
    total = 0
    while pending:
        ready, pending = ray.wait(pending, num_returns=min(3, len(pending)))
        total += sum(ray.get(ready))
    return total


def counters(ray: Any) -> Any:
    @ray.remote
    class Counter:
        def __init__(self) -> None:
            self.n = 0

        def increment(self) -> int:
            self.n += 1
            return self.n

    many = [Counter.remote() for _ in range(10)]
    first = ray.get([counter.increment.remote() for counter in many])
    second = ray.get([many[0].increment.remote() for _ in range(5)])
    return first, second


def image_filters(ray: Any) -> Any:
    image = np.arange(400 * 300 * 3, dtype=np.float64).reshape(400, 300, 3) % 251
    shared = ray.put(image)

    @ray.remote
    def filtered(image: Any, kind: str) -> Any:
        if kind == "grey":
            return image.mean(axis=2)
        if kind == "negative":
            return 255 - image
        return image[::2, ::2]

    results = ray.get([filtered.remote(shared, kind) for kind in ("grey", "negative", "half")])
    return [(result.shape, round(float(result.sum()), 3)) for result in results]


def keyword_search(ray: Any) -> Any:
    import pandas as pd

    texts = pd.Series([f"line {n} with {'needle' if n % 7 == 0 else 'hay'}" for n in range(500)])
    shared = ray.put(texts)

    @ray.remote
    def search(texts: Any, word: str, part: int) -> tuple[int, int]:
        found = texts[part::5].str.contains(word)
        return part, int(found.sum())

    pending = [search.remote(shared, "needle", part) for part in range(5)]
    hits = {}
    while pending:
        (ready,), pending = ray.wait(pending)
        part, count = ray.get(ready)
        hits[part] = count
    return sorted(hits.items())


def pipeline(ray: Any) -> Any:
    @ray.remote
    def load(n: int) -> list[int]:
        return list(range(n))

    @ray.remote
    def square(values: list[int]) -> list[int]:
        return [value * value for value in values]

    @ray.remote
    def merge(*parts: list[int]) -> int:
        return sum(map(sum, parts))

    return ray.get(merge.remote(*(square.remote(load.remote(n)) for n in range(10))))


def tree_of_tasks(ray: Any) -> Any:
    @ray.remote
    def count(depth: int) -> int:
        if not depth:
            return 1
        return sum(ray.get([count.remote(depth - 1) for _ in range(2)])) + 1

    return ray.get(count.remote(3))


def parameter_server(ray: Any) -> Any:
    @ray.remote
    class Server:
        def __init__(self, size: int) -> None:
            self.weights = np.zeros(size)

        def push(self, gradient: Any) -> None:
            self.weights = self.weights + gradient

        def pull(self) -> Any:
            return self.weights

    @ray.remote
    def worker(server: Any, rank: int) -> None:
        for _ in range(3):
            weights = ray.get(server.pull.remote())
            ray.get(server.push.remote(np.ones_like(weights) * rank))

    server = Server.remote(5)
    ray.get([worker.remote(server, rank) for rank in range(4)])
    return ray.get(server.pull.remote()).tolist()


def actor_pool_of_models(ray: Any) -> Any:
    @ray.remote
    class Model:
        def __init__(self, weights: Any) -> None:
            self.weights = weights

        def predict(self, batch: Any) -> float:
            return float(batch @ self.weights)

    weights = ray.put(np.arange(4.0))
    models = ray.util.ActorPool([Model.remote(weights) for _ in range(2)])
    batches = [np.full(4, float(n)) for n in range(6)]
    return list(models.map(lambda model, batch: model.predict.remote(batch), batches))


def as_they_come(ray: Any) -> Any:
    @ray.remote
    def square(x: int) -> int:
        return x * x

    refs = [square.remote(x) for x in range(25)]
    done = list(ray.util.as_completed(refs, chunk_size=5))
    more = ray.util.map_unordered(square, range(300), backpressure_size=7)
    return len(done), sorted(done)[-1], sum(more)


def gpu_actors(ray: Any) -> Any:
    @ray.remote(num_gpus=1)
    class Device:
        def visible(self) -> tuple[str | None, Any]:
            return os.environ.get("CUDA_VISIBLE_DEVICES"), ray.get_gpu_ids()

    devices = [Device.remote() for _ in range(2)]
    return sorted(seen for seen, _ in ray.get([device.visible.remote() for device in devices]))


def errors(ray: Any) -> Any:
    @ray.remote
    def divide(a: int, b: int) -> float:
        return a / b

    @ray.remote(max_retries=0)
    def crash() -> None:
        os._exit(1)

    @ray.remote
    class Frail:
        def crash(self) -> None:
            os._exit(1)

        def ping(self) -> str:
            return "pong"

    seen = []
    for ref in (divide.remote(1, 0), crash.remote()):
        try:
            ray.get(ref)
        except ZeroDivisionError as error:
            seen.append(isinstance(error, ray.exceptions.RayTaskError))
        except ray.exceptions.WorkerCrashedError:
            seen.append("crashed")
    frail = Frail.remote()
    frail.crash.remote()
    try:
        ray.get(frail.ping.remote())
    except ray.exceptions.RayActorError:
        seen.append("died")
    return seen


def named_actor(ray: Any) -> Any:
    @ray.remote
    class Registry:
        def __init__(self) -> None:
            self.items: dict[str, int] = {}

        def add(self, key: str, value: int) -> None:
            self.items[key] = value

        def all(self) -> dict[str, int]:
            return self.items

    @ray.remote
    def register(n: int) -> None:
        ray.get(ray.get_actor("registry").add.remote(f"task {n}", n))

    registry = Registry.options(name="registry").remote()
    ray.get([register.remote(n) for n in range(3)])
    return sorted(ray.get(registry.all.remote()).items())


def killed_and_detached_actors(ray: Any) -> Any:
    @ray.remote
    class Model:
        def __init__(self, weight: int) -> None:
            self.weight = weight

        def predict(self, x: int) -> int:
            return self.weight * x

    kept = Model.options(name="kept", lifetime="detached").remote(3)
    found = ray.get_actor("kept")
    assert found == kept
    seen = [ray.get(found.predict.remote(2))]
    ray.kill(found)
    try:
        ray.get(found.predict.remote(2))
    except ray.exceptions.RayActorError:
        seen.append("died")
    return seen


def web_service(ray: Any) -> Any:
    import threading

    import flask

    @ray.remote
    class Model:
        def __init__(self, weights: Any) -> None:
            self.weights = weights

        def predict(self, rows: Any) -> Any:
            return rows @ self.weights

    weights = ray.put(np.arange(3.0))
    models = [Model.remote(weights) for _ in range(2)]
    app = flask.Flask(__name__)

    @app.get("/predict/<int:start>")
    def predict(start: int) -> Any:
        parts = np.split(request_rows(start), 10)
        refs = [models[i % 2].predict.remote(part) for i, part in enumerate(parts)]
        return flask.jsonify(np.concatenate(ray.get(refs)).tolist())

    replies: dict[int, Any] = {}

    def request(start: int) -> None:
        replies[start] = app.test_client().get(f"/predict/{start}").json

    threads = [threading.Thread(target=request, args=(start,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [sum(replies[start]) for start in range(8)]


def request_rows(start: int) -> Any:
    """Return what one request asks 500 predictions for."""
    return np.arange(start, start + 500 * 3.0).reshape(500, 3)


def streamed(ray: Any) -> Any:
    @ray.remote
    def lines(n: int) -> Any:
        for number in range(n):
            yield f"line {number}"

    return [ray.get(ref) for ref in lines.remote(3)]


def class_attributes(ray: Any) -> Any:
    @ray.remote
    class Config:
        SIZE = 3
        made = 0

        @staticmethod
        def double(x: int) -> int:
            return x * Config.SIZE

        def make(self) -> int:
            Config.made += 1
            return Config.made

    config = Config.remote()
    return Config.SIZE, Config.double(2), ray.get([config.make.remote() for _ in range(2)])


def wrong_arguments(ray: Any) -> Any:
    @ray.remote
    def add(a: int, b: int) -> int:
        return a + b

    @ray.remote
    class Adder:
        def __init__(self, start: int) -> None:
            self.sum = start

        def add(self, number: int) -> None:
            self.sum += number

    adder = Adder.remote(1)
    refused = 0
    for call in (
        lambda: add.remote(1),
        lambda: add.remote(1, c=2),
        lambda: Adder.remote(),
        lambda: adder.add.remote(1, 2),
    ):
        try:
            call()
        except TypeError:
            refused += 1
    return refused


def generators(ray: Any) -> Any:
    @ray.remote
    def numbers(n: int) -> Any:
        for number in range(n):
            yield number * 2

    @ray.remote
    def total(generator: Any) -> int:
        return sum(ray.get(list(generator)))

    streams = [numbers.remote(n) for n in (2, 3)]
    found = []
    while streams:
        (stream,), _ = ray.wait(streams)
        try:
            found.append(ray.get(next(stream)))
        except StopIteration:
            streams.remove(stream)
    at_once = numbers.options(num_returns="dynamic").remote(4)
    return sorted(found), ray.get(total.remote(at_once)), len(ray.get(at_once))


def queue_of_work(ray: Any) -> Any:
    queue = importlib.import_module(ray.__name__ + ".util.queue")

    @ray.remote
    def work(todo: Any, done: Any) -> None:
        while True:
            try:
                done.put(todo.get_nowait() ** 2)
            except queue.Empty:
                return

    todo, done = queue.Queue(), queue.Queue(maxsize=10)
    todo.put_nowait_batch(list(range(10)))
    ray.get([work.remote(todo, done) for _ in range(2)])
    try:
        done.put_nowait(None)
    except queue.Full:
        return sorted(done.get_nowait_batch(10))


def ticking_actor(ray: Any) -> Any:
    @ray.remote
    class Ticking:
        def __init__(self) -> None:
            import asyncio

            self.ticked = asyncio.Event()
            self.task = asyncio.get_running_loop().create_task(self.run())

        async def run(self) -> None:
            self.ticked.set()

        async def wait(self) -> str:
            await self.ticked.wait()
            return "ticked"

    return ray.get(Ticking.remote().wait.remote())


def concurrency_groups(ray: Any) -> Any:
    @ray.remote(concurrency_groups={"control": 1})
    class Trainer:
        def __init__(self) -> None:
            self.stopped = threading.Event()
            self.runs: list[int] = []

        def train(self, run: int) -> int:
            self.runs.append(run)
            self.stopped.wait()
            return run

        @ray.method(concurrency_group="control")
        def stop(self) -> None:
            self.stopped.set()

        def trained(self) -> list[int]:
            return self.runs

    trainer = Trainer.remote()
    runs = [trainer.train.remote(run) for run in range(40)]
    ray.get(trainer.stop.remote())
    assert ray.get(runs) == list(range(40))
    return ray.get(trainer.trained.options(concurrency_group="control").remote())


_IMAGE = np.arange(400 * 300 * 3, dtype=np.float64).reshape(400, 300, 3) % 251

#: Program, and what it answers.
TUTORIALS = {
    sum_of_a_shared_list: 499_500,
    counters: ([1] * 10, [2, 3, 4, 5, 6]),
    image_filters: [
        ((400, 300), round(float(_IMAGE.mean(axis=2).sum()), 3)),
        ((400, 300, 3), float((255 - _IMAGE).sum())),
        ((200, 150, 3), float(_IMAGE[::2, ::2].sum())),
    ],
    keyword_search: [(part, sum(n % 7 == 0 for n in range(part, 500, 5))) for part in range(5)],
    pipeline: sum(sum(v * v for v in range(n)) for n in range(10)),
    tree_of_tasks: 15,
    parameter_server: [18.0] * 5,
    actor_pool_of_models: [6.0 * n for n in range(6)],
    as_they_come: (25, 576, 8955050),
    gpu_actors: ["5", "6"],
    errors: [True, "crashed", "died"],
    named_actor: [("task 0", 0), ("task 1", 1), ("task 2", 2)],
    killed_and_detached_actors: [6, "died"],
    web_service: [float((request_rows(start) @ np.arange(3.0)).sum()) for start in range(8)],
    streamed: ["line 0", "line 1", "line 2"],
    class_attributes: (3, 6, [1, 2]),
    wrong_arguments: 4,
    generators: ([0, 0, 2, 2, 4], 12, 4),
    queue_of_work: [n**2 for n in range(10)],
    ticking_actor: "ticked",
    concurrency_groups: list(range(40)),
}
