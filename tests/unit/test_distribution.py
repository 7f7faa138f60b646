"""The tests of this project end whichever process that runs them crashes, and all are run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from distribution import Files
from hypothesis import given
from hypothesis import strategies as st
from xdist.scheduler import LoadFileScheduling


class Node:
    """A process as the scheduler sees it. It runs a test once it knows which is the next."""

    def __init__(self, number: int, tests: list[str]) -> None:
        self.gateway = SimpleNamespace(id=f"gw{number}")
        self.workerinfo = {"numprocesses": 2}
        self.tests = tests
        self.shutting_down = False
        self.given: list[int] = []

    def __str__(self) -> str:
        return str(self.gateway.id)

    def send_runtest_some(self, indices: list[int]) -> None:
        self.given += indices

    def shutdown(self) -> None:
        self.shutting_down = True

    def runs(self) -> int | None:
        """Return which test is running, if any."""
        ready = len(self.given) > 1 or self.shutting_down
        return self.given[0] if self.given and ready else None


def run(kind: type[Files], sizes: list[int], crashes: dict[int, int]) -> tuple[list[str], bool]:
    """Run tests in two processes, some of which crash.

    Parameters
    ----------
    kind : type
        The scheduler.
    sizes : list of int
        How many tests each file has.
    crashes : dict
        How many tests have begun when a process crashes, and which of those that run does.

    Returns
    -------
    ended : list of str
        The tests that were run, or that have crashed, each as often as that.
    whole : bool
        Whether nothing is waited for.
    """
    tests = [f"f{file}.py::t{number}" for file, size in enumerate(sizes) for number in range(size)]
    options = SimpleNamespace(loadscopereorder=True, verbose=0)
    config: Any = SimpleNamespace(getvalue=lambda name: ["2*popen"], option=options)
    scheduler: Any = kind(config)
    nodes: list[Any] = []

    def start() -> None:
        nodes.append(Node(len(nodes), tests))
        scheduler.add_node(nodes[-1])
        scheduler.add_node_collection(nodes[-1], tests)

    for _ in range(2):
        start()
    scheduler.schedule()
    ended: list[str] = []
    begun = 0
    while running := [node for node in nodes if node.runs() is not None]:
        begun += 1
        if begun in crashes:
            node = running[crashes[begun] % len(running)]
            nodes.remove(node)
            crashed = scheduler.remove_node(node)
            assert crashed == tests[node.runs()]
            ended.append(crashed)
            start()
            scheduler.schedule()
        else:
            node = running[begun % len(running)]
            index = node.given.pop(0)
            ended.append(tests[index])
            scheduler.mark_test_complete(node, index)
    return sorted(ended), not any(node.given for node in nodes) and scheduler.tests_finished


@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=9),
    st.dictionaries(st.integers(1, 40), st.integers(0, 1), max_size=4),
)
def test_all_are_run_once_and_the_run_ends(sizes: list[int], crashes: dict[int, int]) -> None:
    expected = [
        f"f{file}.py::t{number}" for file, size in enumerate(sizes) for number in range(size)
    ]
    assert run(Files, sizes, crashes) == (sorted(expected), True)


@pytest.mark.parametrize("crash", [3, 5])
def test_a_run_that_waits_without_end_is_noticed(crash: int) -> None:
    kind: Any = LoadFileScheduling
    ended, whole = run(kind, [1, 1, 2, 3], {crash: 0})
    assert not whole or len(ended) != 7
