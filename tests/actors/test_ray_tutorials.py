"""Programs written for Ray, run here and, where Ray is installed, on Ray itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tutorials import TUTORIALS

import pool


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda tutorial: tutorial.__name__)
def test_tutorial(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tutorial: Callable[[Any], Any]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6")
    assert tutorial(start(num_cpus=2)) == TUTORIALS[tutorial]


ON_RAY = """
import json, sys
sys.path.insert(0, {folder!r})
import ray
from tutorials import TUTORIALS
ray.init(num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
print("answers " + json.dumps({{t.__name__: t(ray) for t in TUTORIALS}}))
"""


@pytest.mark.watchdog(300)
def test_ray_itself_gives_the_same_answers() -> None:
    pytest.importorskip("ray")
    done = subprocess.run(
        [sys.executable, "-c", ON_RAY.format(folder=str(Path(__file__).parent))],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "5,6"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("answers ")]
    answers = json.loads(line.removeprefix("answers "))
    expected = {tutorial.__name__: answer for tutorial, answer in TUTORIALS.items()}
    assert answers == json.loads(json.dumps(expected))


@pytest.mark.watchdog(120)
def test_web_service_with_an_actor_pool_under_concurrent_requests(ray: Any) -> None:
    flask = pytest.importorskip("flask")

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
        rows = np.arange(start, start + 500 * 3.0).reshape(500, 3)
        refs = [models[i % 2].predict.remote(part) for i, part in enumerate(np.split(rows, 10))]
        return flask.jsonify(np.concatenate(ray.get(refs)).tolist())

    replies: dict[int, Any] = {}

    def request(start: int) -> None:
        replies[start] = app.test_client().get(f"/predict/{start}").json

    threads = [threading.Thread(target=request, args=(start,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for start, reply in replies.items():
        rows = np.arange(start, start + 500 * 3.0).reshape(500, 3)
        assert reply == (rows @ np.arange(3.0)).tolist()
    assert len(replies) == 8


def test_pool_of_ray_is_ours() -> None:
    from pool.util.multiprocessing import Pool

    assert Pool is pool.Pool
    with Pool(1) as workers:
        assert workers.map(abs, [-1, -2]) == [1, 2]
