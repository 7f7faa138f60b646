"""The examples in docstrings of public names: what they show is what one gets."""

from __future__ import annotations

import doctest

import pytest

import pool

FOUND = [
    test
    for name in sorted(pool._HOMES)
    if name != "ThreadPool"
    for test in doctest.DocTestFinder(recurse=False).find(getattr(pool, name), name)
    if test.examples
]


@pytest.mark.parametrize("test", FOUND, ids=lambda test: test.name)
def test_examples_of_docstrings(test: doctest.DocTest) -> None:
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF)
    assert runner.run(test, out=report.append).failed == 0, "".join(report)


def test_the_pool_has_examples() -> None:
    assert "Pool" in [test.name for test in FOUND]
