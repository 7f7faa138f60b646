"""Run the interpreter's own tests of `multiprocessing.Pool` on ours, and on the original."""

from __future__ import annotations

import ast
import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from leftout import CLASSES, LEFT_OUT
from poolscripts import finish, orphans_come_here, python, start

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNNER = Path(__file__).with_name("stdlibrunner.py")
# The original is the control: where it fails, the runner is wrong.
LIBRARIES = [
    ("multiprocessing", "fork"),
    ("pool", "default"),
    ("pool", "fork"),
    ("pool", "spawn"),
]
# After so many tests that hang, the rest is not tried.
PATIENCE_FOR_HANGS = 2
# Seconds for all of them.
RUN_LIMIT = 600


def find_source() -> Path | None:
    """Find the interpreter's own test module; some distributions do not ship it."""
    if importlib.util.find_spec("test") is None:
        return None
    spec = importlib.util.find_spec("test._test_multiprocessing")
    return Path(spec.origin) if spec and spec.origin else None


SOURCE = find_source()
pytestmark = [
    pytest.mark.skipif(SOURCE is None, reason="this Python has no test._test_multiprocessing"),
    # Many of these tests sleep, and they are run one after the other for the first that asks.
    pytest.mark.watchdog(PATIENCE_FOR_HANGS * (RUN_LIMIT + 50)),
]


def own_tests() -> list[str]:
    """List the tests by reading the module, without importing it."""
    if SOURCE is None:
        return ["none"]
    found = []
    for node in ast.parse(SOURCE.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name in CLASSES:
            wanted = CLASSES[node.name]
            found += [
                f"{node.name}.{item.name}"
                for item in node.body
                if isinstance(item, ast.FunctionDef)
                and item.name.startswith("test")
                and (not wanted or item.name in wanted)
            ]
    return found


TESTS = own_tests()


def run_all(library: str, method: str, folder: Path) -> dict[str, dict[str, Any]]:
    """Run all tests on a library; go on after a test that hangs."""
    results: dict[str, dict[str, Any]] = {}
    for _ in range(PATIENCE_FOR_HANGS):
        arguments = [library, method, *results]
        with orphans_come_here():
            outcome = finish(start(python(str(RUNNER), *arguments), folder), limit=RUN_LIMIT)
        for line in outcome.out.splitlines():
            if line.startswith('{"test"'):
                result = json.loads(line)
                results[result["test"]] = result
        hung = [result for result in results.values() if result["outcome"] == "begun"]
        for result in hung:
            result["outcome"], result["text"] = "hangs", outcome.err
        if outcome.returncode == 0:
            break
    return results


@pytest.fixture(scope="module")
def all_results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Give a function that returns the results of a library, which are computed once."""
    known: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}

    def results(library: str, method: str) -> dict[str, dict[str, Any]]:
        key = (library, method)
        if key not in known:
            known[key] = run_all(library, method, tmp_path_factory.mktemp("stdlib"))
        return known[key]

    yield results


@pytest.mark.parametrize("name", TESTS)
@pytest.mark.parametrize(("library", "method"), LIBRARIES)
def test_own(all_results: Any, library: str, method: str, name: str) -> None:
    result = all_results(library, method).get(name)
    assert result, f"{name} was not run: tests before it hang"
    if result["outcome"] == "skipped":
        pytest.skip(result["text"])
    if library == "pool" and name in LEFT_OUT:
        stale = result["outcome"] != "failed"
        assert not stale, f"{name} passes: its entry in LEFT_OUT is stale"
        pytest.skip(LEFT_OUT[name])
    assert result["outcome"] == "passed", f"{result['outcome']}\n{result['text']}"


def test_reasons_are_given_for_tests_that_exist() -> None:
    versions = {name.split(".")[0] for name in LEFT_OUT}
    assert versions <= set(CLASSES)
    assert all(len(reason.split()) > 3 for reason in LEFT_OUT.values())
    # Present in this version, or in another supported one (the pool tests are older than 3.11).
    assert set(LEFT_OUT) <= set(TESTS)


def test_there_is_something_to_run() -> None:
    assert len(TESTS) >= 30
    assert {name.split(".")[0] for name in TESTS} >= set(CLASSES) - {"MiscTestCase"}
