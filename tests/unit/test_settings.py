"""What workers take over from the program that makes a pool."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import hypothesis  # noqa: F401  # what the last test speaks of
import pytest

from pool._workers import _carried
from pool._workers._carried import _logging
from pool._workers._carried._setting import Setting
from pool._workers._settings import apply_common, capture
from pool._workers._thread_limits import THREAD_VARIABLES, thread_limits


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_threads_of_all_libraries_are_limited(bare: pytest.MonkeyPatch) -> None:
    assert thread_limits(3) == dict.fromkeys(THREAD_VARIABLES, "3")


def test_what_the_user_has_set_is_left_alone(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("MKL_NUM_THREADS", "7")
    limits = thread_limits(3)
    assert "MKL_NUM_THREADS" not in limits
    assert set(limits.values()) == {"3"}


@pytest.mark.parametrize(("chosen", "expected"), [("5", "5"), ("4,2", "4"), ("", "3"), ("x", "3")])
def test_the_common_variable_holds_for_libraries_without_one_of_their_own(
    bare: pytest.MonkeyPatch, chosen: str, expected: str
) -> None:
    bare.setenv("OMP_NUM_THREADS", chosen)
    limits = thread_limits(3)
    assert limits.pop("OMP_NUM_THREADS", None) is None
    assert set(limits.values()) == {expected}


def test_environment_becomes_that_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = dict(os.environb)
    monkeypatch.setenv("POOL_TEST_KEPT", "same")
    monkeypatch.setenv("POOL_TEST_CHANGED", "before")
    settings = capture({"POOL_TEST_ADDED": "new"})
    try:
        os.environ["POOL_TEST_CHANGED"] = "after"
        os.environ["POOL_TEST_EXTRA"] = "to go"
        apply_common(settings)
        found = {name: os.environ.get(f"POOL_TEST_{name}") for name in ("KEPT", "CHANGED", "ADDED")}
        assert found == {"KEPT": "same", "CHANGED": "before", "ADDED": "new"}
        assert "POOL_TEST_EXTRA" not in os.environ
        assert dict(os.environb) == settings["environ"]
    finally:
        os.environb.clear()
        os.environb.update(kept)


def test_what_cannot_be_sent_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = Setting("sys", lambda module: object(), lambda module, value: None)
    good = Setting("os", lambda module: 7, lambda module, value: None)
    monkeypatch.setattr(_carried, "SETTINGS", (odd, good))
    assert _carried.changes().get("os") == 7
    assert "sys" not in _carried.changes()


def test_what_a_forkserver_has_is_left_out_for_its_workers() -> None:
    here = _carried.changes().get("warnings")  # the test run's own
    changed = {"warnings": here, "tempfile": "/nowhere"}
    assert _carried.not_set_here(changed) == {"tempfile": "/nowhere"}


def test_digits_are_carried_if_nothing_else_is_set() -> None:
    """Since Python 3.14 the flags of the interpreter say what the program has set."""
    before = sys.get_int_max_str_digits()
    usual = _carried.changes().get("sys")
    sys.set_int_max_str_digits(10_000)
    try:
        changed = _carried.changes()["sys"]
        assert changed[2] == 10_000
    finally:
        sys.set_int_max_str_digits(before)
    assert _carried.changes().get("sys") == usual


class FilterOfAPackage(logging.Filter):
    """What a package adds to a logger when it is imported."""

    __module__ = "hypothesis.anything"


class HandlerOfAPackage(logging.StreamHandler[Any]):
    """The same."""

    __module__ = "hypothesis.anything"


@pytest.mark.parametrize(
    ("name", "carried"), [("hypothesis.core", False), ("hypothesis", False), ("program", True)]
)
def test_what_a_package_adds_to_its_own_loggers_is_left_to_it(name: str, carried: bool) -> None:
    # Installed, and loaded here. To carry its filter, workers would have to load it.
    for method, what in (("addFilter", FilterOfAPackage()), ("addHandler", HandlerOfAPackage())):
        logger = logging.Logger(name)
        getattr(logger, method)(what)
        found = _logging._Reading().logger(name, logger)
        assert (found is not None) == carried
