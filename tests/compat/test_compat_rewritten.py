"""Run pools in the tests of a program: pytest makes assertions in test modules tell more."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest
from poolscripts import python, run_command

if TYPE_CHECKING:
    from pathlib import Path

HELPERS = """
    STATE = {}

    def keep(value):
        STATE["value"] = value
"""

TESTS = """
    import helpers, pytest
    from operator import methodcaller
    from helpers import STATE, keep
    import {library}

    def Pool(*args):
        return {library}.get_context({method!r} or None).Pool(*args)

    class Thing:
        x = 1

        def check(self, x):
            assert x == self.x
            return self

        @staticmethod
        def compare(x):
            assert x in (1, 2), "neither"

    def bad(x):
        assert x == 2
        return x

    def kept(x):
        assert STATE is helpers.STATE
        assert STATE["value"] == x

    def made(x):
        return Thing(), bad

    @pytest.fixture
    def workers():
        with Pool(1, keep, (5,)) as p:
            yield p
        p.join()

    def test_functions(workers):
        with pytest.raises(AssertionError, match="^assert 1 == 2"):
            workers.map(bad, [1])
        assert workers.map(bad, [2]) == [2]

    def test_methods(workers):
        with pytest.raises(AssertionError, match=r"^assert 3 == 1\\n.*where 1 = <.*Thing.*>\\.x"):
            workers.map(Thing().check, [3])
        with pytest.raises(AssertionError, match="^neither\\nassert 3 in "):
            workers.apply(Thing.compare, (3,))
        assert type(workers.apply(Thing().check, (1,))) is Thing

    def test_things_that_are_arguments(workers):
        with pytest.raises(AssertionError, match="^assert 2 == 1"):
            workers.map({call}, [Thing()])
        thing, function = workers.apply(made, (0,))
        assert type(thing) is Thing and function is bad

    def test_state_of_modules(workers):
        workers.map(kept, [5])
        with pytest.raises(AssertionError, match="^assert 5 == 6"):
            workers.map(kept, [6])
"""


@pytest.mark.parametrize(
    ("library", "method"),
    [("multiprocessing", "fork"), ("pool", ""), ("pool", "fork"), ("pool", "spawn")],
)
def test_assertions_in_tasks(library: str, method: str, tmp_path: Path) -> None:
    # Only ours sends a lambda.
    lambdas = {
        "pool": "lambda thing: thing.check(2)",
        "multiprocessing": "methodcaller('check', 2)",
    }
    (tmp_path / "helpers.py").write_text(textwrap.dedent(HELPERS))
    tests = textwrap.dedent(TESTS).format(library=library, method=method, call=lambdas[library])
    (tmp_path / "test_things.py").write_text(tests)
    command = python("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path))
    outcome = run_command(command, tmp_path)
    assert outcome.returncode == 0 and "4 passed" in outcome.out, outcome


PATCHED = """
    import pytest
    from {library} import Pool

    factor = 2

    def scaled(x):
        return x * factor

    @pytest.fixture
    def three():
        return 3

    def test_what_a_test_has_set(monkeypatch, three):
        monkeypatch.setattr("test_factors.factor", 5)
        with Pool(1) as p:
            assert p.map(scaled, [three]) == [15]
        p.join()
"""


@pytest.mark.parametrize("library", ["multiprocessing", "pool"])
def test_variables_of_a_test_module_that_has_fixtures(library: str, tmp_path: Path) -> None:
    """A fixture is what only the import of its module makes, as the module's code tells."""
    (tmp_path / "test_factors.py").write_text(textwrap.dedent(PATCHED).format(library=library))
    command = python("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path))
    outcome = run_command(command, tmp_path)
    assert outcome.returncode == 0 and "1 passed" in outcome.out, outcome
