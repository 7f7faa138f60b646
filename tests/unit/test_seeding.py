"""``seed=``: an item's random numbers depend on the seed and its index, and on nothing else."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pool._faces._seeding import SeededCall, seed_item, seed_sequence, seeded_map


@pytest.fixture(autouse=True)
def generators_of_the_test_run() -> Any:
    python, numpy = random.getstate(), np.random.get_state()
    yield
    random.setstate(python)
    np.random.set_state(numpy)


def draw(item: object) -> tuple[object, float, float]:
    return item, random.random(), float(np.random.random())


def add(a: int, b: int) -> tuple[int, float]:
    return a + b, random.random()


def root(seed: object = 42) -> bytes:
    found = seed_sequence(seed)
    assert found is not None
    return found


def test_numbers_do_not_depend_on_order_or_neighbours() -> None:
    call = SeededCall(draw, root())
    forward = [call(index, "x") for index in range(20)]
    random.random()
    np.random.random(100)
    backward = [call(index, "x") for index in reversed(range(20))]
    assert forward == backward[::-1]
    assert len({numbers for _, *numbers_ in forward for numbers in numbers_}) == 40


def test_arguments_are_those_of_the_item() -> None:
    (plain, items), (star, tuples) = (
        seeded_map(draw, [None] * 4, 42, False),
        seeded_map(add, [(1, number) for number in range(4)], 42, True),
    )
    assert list(items)[3] == (3, None)
    arguments = list(tuples)[3]
    assert arguments == (3, 1, 3)
    assert star(*arguments) == (4, plain(3, None)[1])


def test_survives_pickling() -> None:
    call = SeededCall(add, root())
    copy = pickle.loads(pickle.dumps(call))
    assert copy(7, 1, 2) == call(7, 1, 2)
    assert copy.__wrapped__ is add


def test_equal_seeds_give_equal_roots() -> None:
    assert root(5) == root(np.int64(5)) == root(5)
    assert len({root(5), root(-5), root(6), root(0), root(2**200)}) == 5
    assert len(root(5)) == 32


def test_seed_sequence_is_taken_and_not_advanced() -> None:
    sequence = np.random.SeedSequence(9)
    child = np.random.SeedSequence(9).spawn(1)[0]
    assert root(sequence) == root(sequence) == root(np.random.SeedSequence(9))
    assert root(sequence) != root(child)
    assert root(sequence) != root(9)
    assert sequence.n_children_spawned == 0


def test_none_means_no_seeding() -> None:
    assert seed_sequence(None) is None


@pytest.mark.parametrize("seed", ["five", 1.5, b"x", [1]])
def test_other_seeds_are_refused(seed: object) -> None:
    with pytest.raises(TypeError, match="seed must be an int"):
        seed_sequence(seed)


def test_python_and_numpy_do_not_get_the_same_stream() -> None:
    seed_item(root(), 0)
    python = [random.getrandbits(32) for _ in range(5)]
    numpy = np.random.randint(0, 2**32, size=5, dtype=np.uint64).tolist()
    assert python != numpy


def test_error_of_the_function_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        SeededCall(lambda x: 1 / x, root())(0, 0)


NUMPY_COMES_LATE = """
import sys
from pool._faces._seeding import SeededCall, seed_sequence

def draw(item):
    import numpy.random
    return float(numpy.random.random())

call = SeededCall(draw, seed_sequence(42))
assert "numpy" not in sys.modules
for index in map(int, sys.argv[1:]):
    print(call(index, None))
loader = sys.modules["numpy.random"].__loader__
assert type(loader).__module__ != "pool._faces._seeding", loader
assert sys.modules["numpy.random"].__spec__.loader is loader
assert not any("_seeding" in type(finder).__module__ for finder in sys.meta_path)
"""

NUMPY_COMES_BETWEEN = """
from pool._faces._seeding import SeededCall, seed_sequence

call = SeededCall(lambda item: None, seed_sequence(42))
call(0, None)
import numpy.random
print(numpy.random.random())
"""


def lines_of(script: str, *args: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", script, *args],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_numpy_imported_by_the_task_is_seeded_then() -> None:
    first = lines_of(NUMPY_COMES_LATE, "5", "6")
    second = lines_of(NUMPY_COMES_LATE, "6", "5")
    here = [str(SeededCall(draw, root())(index, None)[2]) for index in (5, 6)]
    assert first == second[::-1] == here


def test_numpy_imported_between_items_is_left_alone() -> None:
    first, second = (lines_of(NUMPY_COMES_BETWEEN) for _ in range(2))
    assert first != second
