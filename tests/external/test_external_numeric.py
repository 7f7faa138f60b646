"""Hand pools to libraries that take one, and compare with what they compute alone."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

import pytest
from externaltasks import fit_and_score, fit_model, log_probability, rosenbrock, square
from poolkit import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

np = pytest.importorskip("numpy")


@pytest.mark.watchdog(360)
def test_scipy_differential_evolution(make_pool: Callable[..., Any]) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    settings: dict[str, Any] = {
        "bounds": [(-2, 2)] * 3,
        "seed": 5,
        "maxiter": 15,
        "popsize": 6,
        "polish": False,
        "updating": "deferred",
    }
    alone = optimize.differential_evolution(rosenbrock, **settings)
    pool = make_pool(2)
    together = optimize.differential_evolution(rosenbrock, workers=pool.map, **settings)
    np.testing.assert_array_equal(together.x, alone.x)
    assert together.nfev == alone.nfev
    assert together.fun == alone.fun < 10


def test_scipy_brute(make_pool: Callable[..., Any]) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    grid = (slice(-2, 2, 0.25),) * 2
    alone = optimize.brute(rosenbrock, grid, finish=None)
    together = optimize.brute(rosenbrock, grid, finish=None, workers=make_pool(2).map)
    np.testing.assert_array_equal(together, alone)


def test_emcee_sampler(make_pool: Callable[..., Any]) -> None:
    emcee = pytest.importorskip("emcee")
    start = np.random.default_rng(1).normal(size=(16, 3))

    def chain(pool: Any) -> Any:
        sampler = emcee.EnsembleSampler(16, 3, log_probability, args=(0.5,), pool=pool)
        sampler.random_state = np.random.RandomState(7).get_state()
        sampler.run_mcmc(start, 30)
        return sampler.get_chain(), sampler.get_log_prob()

    alone = chain(None)
    pool = make_pool(2)
    together = chain(pool)
    np.testing.assert_array_equal(together[0], alone[0])
    np.testing.assert_array_equal(together[1], alone[1])
    # The sampler only borrows the pool.
    assert pool.map(square, range(3)) == [0, 1, 4]


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_tqdm_over_imap(make_pool: Callable[..., Any], method: str) -> None:
    tqdm = pytest.importorskip("tqdm")
    pool = make_pool(2)
    with open(os.devnull, "w") as nowhere:
        results = getattr(pool, method)(square, range(200), chunksize=7)
        bar = tqdm.tqdm(results, total=200, file=nowhere, mininterval=0)
        assert sorted(bar) == [n * n for n in range(200)]
        assert bar.n == 200
        with tqdm.tqdm(total=50, file=nowhere) as other:
            jobs = [
                pool.apply_async(square, (n,), callback=lambda _: other.update()) for n in range(50)
            ]
            assert [job.get(PATIENCE) for job in jobs] == [n * n for n in range(50)]
            assert other.n == 50


@pytest.mark.watchdog(360)
def test_scikit_learn_fits_in_tasks(make_pool: Callable[..., Any]) -> None:
    pytest.importorskip("sklearn")
    jobs = [(name, 1, seed) for name in ("logistic", "ridge") for seed in range(4)]
    alone = [fit_and_score(job)[:3] for job in jobs]
    together = make_pool(2).map(fit_and_score, jobs, chunksize=1)
    assert [result[:3] for result in together] == alone
    assert os.getpid() not in {result[3] for result in together}


@pytest.mark.watchdog(360)
def test_scikit_learn_models_travel(make_pool: Callable[..., Any]) -> None:
    pytest.importorskip("sklearn")
    from sklearn.datasets import make_regression  # slow; only this test needs them
    from sklearn.linear_model import LinearRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = make_regression(300, 5, random_state=0)
    models = [LinearRegression(), Ridge(2.0), make_pipeline(StandardScaler(), Ridge(3.0))]
    fitted = make_pool(2).map(fit_model, [(model, x, y) for model in models])
    for model, got in zip(models, fitted, strict=True):
        np.testing.assert_allclose(got.predict(x), model.fit(x, y).predict(x))


def test_numpy_arrays_are_private_and_writable(make_pool: Callable[..., Any]) -> None:
    array = np.arange(300_000.0).reshape(300, 1000)
    pool = make_pool(2)
    (back,) = pool.map(functools.partial(np.multiply, 2.0), [array])
    np.testing.assert_array_equal(back, array * 2)
    back[0, 0] = 5
    assert back.flags.writeable
    assert not np.shares_memory(back, array)
    np.testing.assert_array_equal(pool.map(np.sum, list(array)), array.sum(axis=1))
    np.testing.assert_array_equal(
        pool.map(np.sort, array[:, ::-7][:9]), np.sort(array[:, ::-7][:9])
    )
    # Changed in place between two calls: the change must be seen.
    array[:] = 1
    assert pool.apply(np.sum, (array,)) == array.size


def test_pandas_frames(make_pool: Callable[..., Any]) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {
            "group": np.arange(9000) % 3,
            "value": np.arange(9000.0),
            "when": pd.date_range("2024-01-01", periods=9000, freq="min", tz="UTC"),
            "text": pd.Series(["a", "b", None] * 3000),
            "kind": pd.Categorical(["x", "y", "z"] * 3000),
        }
    )
    pool = make_pool(2)
    groups = [group for _, group in frame.groupby("group")]
    for group, got in zip(groups, pool.map(pd.DataFrame.copy, groups), strict=True):
        pd.testing.assert_frame_equal(got, group)
        got.loc[got.index[0], "value"] = -1.0
    described = pool.map(pd.DataFrame.describe, groups)
    for group, got in zip(groups, described, strict=True):
        pd.testing.assert_frame_equal(got, group.describe())
