"""Hold the functions which other people's programs hand to a pool."""

from __future__ import annotations

import os
from typing import Any


def rosenbrock(x: Any) -> float:
    """Return the value of the well-known test function for optimisers."""
    return float(sum(100.0 * (x[1:] - x[:-1] ** 2.0) ** 2.0 + (1 - x[:-1]) ** 2.0))


def log_probability(theta: Any, centre: float) -> float:
    """Return the logarithm of a Gaussian's density, up to a constant."""
    return float(-0.5 * ((theta - centre) ** 2).sum())


def fit_and_score(job: tuple[str, int, int]) -> tuple[str, int, float, int]:
    """Fit a model to one split of a data set and return its score, and where it ran."""
    import numpy as np  # only the tasks of one test need these, and they are slow
    from sklearn.datasets import make_classification
    from sklearn.linear_model import LogisticRegression, RidgeClassifier

    name, depth, seed = job
    x, y = make_classification(200, 8, random_state=seed)
    model = LogisticRegression(C=depth) if name == "logistic" else RidgeClassifier(alpha=depth)
    score = model.fit(x[:150], y[:150]).score(x[150:], y[150:])
    assert np.isfinite(score)
    return name, seed, float(score), os.getpid()


def fit_model(job: tuple[Any, Any, Any]) -> Any:
    """Fit a model that was sent, and send it back."""
    model, x, y = job
    return model.fit(x, y)


def square(n: int) -> int:
    """Return the square."""
    return n * n
