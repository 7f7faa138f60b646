"""The work that is handed out.

In a module of its own, importable by name: so every peer and every start method can have it, and
what is compared is the pools and not how they send functions. It imports next to nothing, since
workers that are not forked from this process import it too, and their memory is measured.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def increment(number: int) -> int:
    return number + 1


def render(number: int) -> str:
    """Do what needs a package that takes longer to load than to use."""
    from flask import Flask, render_template_string

    with Flask("bench").app_context():
        return render_template_string("{{ number + 1 }}", number=number)


def parse(text: str) -> str:
    """Do what needs modules of Python's own, as most programs do."""
    import csv
    import decimal
    import json
    import logging
    import urllib.parse
    import urllib.request

    logging.getLogger("bench").debug("%s", text)
    address = urllib.parse.urlsplit(urllib.request.Request(text).full_url)
    (row,) = csv.reader([address.path.strip("/").replace("/", ",")])
    return json.dumps([str(decimal.Decimal(cell)) for cell in row])


def spin(seconds: float) -> float:
    """Keep one CPU busy for so long; the time is the wall's, so tasks are what they say."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return seconds


def hold(seconds: float) -> int:
    """Return the pid after so long: long enough that one worker cannot have all tasks."""
    spin(seconds)
    return os.getpid()


def hash_rounds(rounds: int) -> int:
    """Compute for a time that depends on the CPU alone."""
    value = 1
    for number in range(rounds):
        value = (value * 6364136223846793005 + number) % (1 << 64)
    return value


def double(array: Any) -> Any:
    return array * 2


def enrich(frame: Any) -> Any:
    """Return the frame with a moving average and a rank: as much goes back as came."""
    frame["mean"] = frame["price"].rolling(20, min_periods=1).mean()
    frame["rank"] = frame["volume"].rank()
    return frame


def first(array: Any) -> Any:
    return array[0]


def add_first(array: Any, number: int) -> float:
    return float(array[0]) + number


def add_sum(array: Any, number: int) -> float:
    return float(array.sum()) + number


def add_rows(frame: Any, number: int) -> int:
    return len(frame) + number


def import_pandas(number: int) -> None:
    """Import it so that nobody's time counts; it takes so long that no worker is left out."""
    import pandas

    assert pandas
    spin(0.02)


def rows_of(frame: Any) -> int:
    return len(frame)


def ones(count: int) -> Any:
    import numpy as np

    return np.ones(count)


_remembered: list[Any] = []


def remember(array: Any) -> None:
    """Keep a copy that is an ordinary array."""
    _remembered[:] = [array.copy()]


def remembered(item: int) -> Any:
    return _remembered[item]


def build(count: int) -> tuple[Any, float]:
    """Fill an array in the store; return it and the seconds that took."""
    import store

    begun = time.perf_counter()
    array = store.empty(count)
    array[:] = 1
    return array, time.perf_counter() - begun


class Model:
    """Something large that has methods."""

    def __init__(self, weights: Any) -> None:
        self.weights = weights

    def score(self, column: int) -> float:
        return float(self.weights[:, column].sum())

    def peek(self, column: int) -> float:
        return float(self.weights[0, column])


class Guarded(Model):
    """The same with a lock, as objects have that threads share."""

    def __init__(self, weights: Any) -> None:
        import threading

        super().__init__(weights)
        self.lock = threading.Lock()
