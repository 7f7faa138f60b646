"""The benchmarks' own machinery: what they say must follow from what they measured."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import bench.__main__
import bench.tutorials
from bench._chart import svg
from bench._figures import from_plain, middle, missed, ratio, to_plain
from bench._peers import PEERS, Peer, Session, find_peers
from bench._runner import run_row
from bench._table import markdown
from bench._work import ONCE, OURS, STANDARD, Bound, Result, Row, Scale, Unsupported, Work, expect
from bench.suites import NAMES, rows
from bench.suites.skew import COUNT, LONG, LONG_COUNT, ideal, orders
from bench.tutorials import Answer, table, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


def result(ours: list[float], standard: list[float], *bounds: Bound) -> Result:
    return Result("row", "a row", "s", True, list(bounds), {OURS: ours, STANDARD: standard})


def test_ratio_is_the_median_of_the_rounds_ratios() -> None:
    # One slow round hits both: the ratio of the sums would be another.
    row = result([1.0, 10.0, 1.0], [2.0, 20.0, 4.0])
    assert ratio(row, OURS, STANDARD) == 0.5
    assert middle(row, OURS) == 1.0
    assert ratio(row, OURS, "nobody") is None


def test_missed_bounds_are_named() -> None:
    row = result([1.0], [2.0], Bound(0.4), Bound(0.6), Bound(0.9, ""))
    assert missed([row]) == [
        "row: 0.5 x multiprocessing fork, which must be at most 0.4",
        "row: 1, which must be at most 0.9",
    ]


def test_a_bound_that_was_not_measured_is_missed() -> None:
    row = Result("row", "a row", "s", True, [Bound(1.0)], {}, {OURS: "fell over"})
    assert missed([row]) == ["row: not measured (fell over)"]


def test_results_survive_the_way_between_processes() -> None:
    row = result([1.0], [2.0], Bound(0.4))
    row.left_out["other"] = "has no such method"
    assert from_plain(json.loads(json.dumps(to_plain(row)))) == row


def test_table_tells_met_from_missed() -> None:
    text = markdown([result([1.0], [2.0], Bound(0.4), Bound(0.6))], {"cores": "2"})
    lines = [line for line in text.splitlines() if line.startswith("| a row")]
    assert "missed" in lines[0] and "<= 0.4" in lines[0]
    assert "met" in lines[1] and "<= 0.6" in lines[1]


def test_a_bound_by_another_contender_comes_with_the_ratio_to_that_one() -> None:
    row = result([1.0], [2.0], Bound(0.3, "ray"), Bound(0.3, "dask"))
    row.figures["ray"] = [4.0]
    lines = [line for line in markdown([row], {}).splitlines() if line.startswith("| a row")]
    assert "| 0.25 x ray | 1 | <= 0.3 x ray | met |" in lines[0]
    assert "| 0.5 | 1 | <= 0.3 x dask | not measured |" in lines[1]


def test_chart_is_well_formed_and_longer_is_faster() -> None:
    row = result([1.0], [10.0])
    row.figures["<peer>"] = [5.0]
    other = result([8.0], [10.0])
    root = ElementTree.fromstring(svg([row, other], {"cores": "2", "python": "CPython"}))
    bars = [float(bar.get("width", "0")) for bar in root.iter() if bar.tag.endswith("}rect")][-2:]
    assert bars[0] > bars[1] > 0
    assert [title.text for title in root.iter() if title.tag.endswith("}title")] == ["<peer>: 0.5"]


def test_chart_names_machine_and_versions_of_those_it_shows() -> None:
    row = result([1.0], [10.0])
    row.figures["dask"] = [5.0]
    machine = {"processor": "Z80", "python": "CPython", "distributed": "2.0", "loky": "3.0"}
    text = svg([row], machine)
    assert "? cores, Z80, CPython" in text
    assert "dask 2.0" in text
    assert "loky" not in text


class Counting(Session):
    def map(self, func: Any, items: Any) -> list[Any]:
        return [func(item) for item in items]


@contextmanager
def counting_session(workers: int) -> Iterator[Session]:
    yield Counting()


def row_of(log: list[str], outcomes: dict[str, Any]) -> Row:
    @contextmanager
    def work(peer: Peer, scale: Scale) -> Iterator[Work]:
        log.append(peer.name)
        outcome = outcomes.get(peer.name)
        if outcome is Unsupported:
            raise Unsupported
        yield Work(lambda: outcome, lambda got: expect(got, None))

    return Row("row", "a row", work)


def peers(*names: str) -> list[Peer]:
    return [Peer(name, "json", counting_session) for name in names]


def test_contenders_take_turns_and_each_begins() -> None:
    log: list[str] = []
    done = run_row(row_of(log, {}), peers("a", "b"), Scale(rounds=3))
    assert log == ["a", "b", "b", "a", "a", "b"]
    assert {name: len(figures) for name, figures in done.figures.items()} == {"a": 3, "b": 3}


def test_wrong_results_and_missing_methods_leave_a_contender_out() -> None:
    log: list[str] = []
    done = run_row(
        row_of(log, {"wrong": 7, "without": Unsupported}),
        peers("right", "wrong", "without"),
        Scale(rounds=2),
    )
    assert list(done.figures) == ["right"]
    assert done.left_out["without"] == "has no such method"
    assert "got 7" in done.left_out["wrong"]
    assert log.count("wrong") == log.count("without") == 1


def test_keys_are_unique_and_every_bound_of_the_table_is_there() -> None:
    found = [row for suite in NAMES for row in rows(suite)]
    keys = [row.key for row in found]
    assert len(keys) == len(set(keys))
    limits = {row.key: [bound.limit for bound in row.bounds] for row in found if row.bounds}
    assert {key: limit[0] for key, limit in limits.items() if key != "idle-cpu"} == {
        "program": 1.0,
        "short-pool": 0.25,
        "large-parent": 0.1,
        "apply": 0.2,
        "apply-floor": 2.5,
        "map-single": 0.03,
        "map-million": 0.5,
        "imap": 0.06,
        "imap-unordered": 0.06,
        "apply-async": 0.15,
        "skew-map": 1.1,
        "skew-imap": 1.1,
        "64-workers": 0.2,
        "idle-memory": 6.0,
        "ray-start": 0.03,
        "ray-task": 0.1,
        "ray-actor": 0.1,
        "ray-burst": 0.05,
        "ray-linear": 2,
        "ray-batches": 1.2,
        "ray-put": 0.5,
        "ray-memory": 0.1,
        "put": 1.2,
        "put-first": 2,
        "get": 10,
        "argument": 1.3,
        "result": 1.3,
        "built": 0.1,
        "broadcast": 0.006,
        "broadcast-memory": 1.1,
        "frame": 0.03,
        "frame-again": 2,
        "results": 0.15,
        "many": 0.2,
        "many-again": 0.12,
        "method-lock": 1.2,
        "method-1000": 0.05,
        "small": 0.6,
        "objects": 1.0,
        "dask-pool-map": 0.05,
        "dask-pool-apply": 1.5,
        "dask-pool-arrays": 1.5,
        "ray-pool-map": 0.05,
        "ray-pool-apply": 1.5,
        "ray-pool-arrays": 1.5,
    }


def test_unknown_peers_are_refused() -> None:
    with pytest.raises(ValueError, match="no peer is called 'mulitprocessing'"):
        find_peers(["mulitprocessing"])
    assert [peer.name for peer in find_peers()][0] == OURS == PEERS[0].name


def test_orders_of_the_skewed_job_hold_the_same_tasks() -> None:
    for seconds in orders().values():
        assert (len(seconds), seconds.count(LONG)) == (COUNT, LONG_COUNT)
    assert ideal([4.0, 1.0, 1.0], 2) == 4.0
    assert ideal([1.0] * 10, 2) == 5.0


def test_idle_cpu_sees_a_pool_that_is_not_idle() -> None:
    from bench import tasks
    from bench._system import children_cpu_seconds
    from pool import Pool

    with Pool(1) as pool:
        pool.map(abs, [1])
        before = children_cpu_seconds()
        used = 0.0
        for _ in range(100):  # on a machine that is busy, a tenth of a second is less of a CPU
            pool.map(tasks.spin, [0.1])
            used = children_cpu_seconds() - before
            if used > 0.02:
                break
    pool.join()
    assert used > 0.02


def run_bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", "--once", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
    )


def test_the_command_writes_table_chart_and_figures(tmp_path: Path) -> None:
    done = run_bench("--only", "map-single", "apply", "--results", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "chart.svg",
        "results.json",
        "results.md",
    ]
    plain = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert [row["key"] for row in plain["rows"]] == ["apply", "map-single"]
    for row in plain["rows"]:
        assert row["left_out"].keys().isdisjoint([OURS, STANDARD])
        assert row["figures"][OURS][0] > 0
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert str(ROOT) not in text and str(Path.home()) + "/" not in text


def test_what_was_measured_before_an_interrupt_is_written(tmp_path: Path) -> None:
    # All rows: however late the interrupt comes, many are still to be measured then.
    options = ["--once", "--peers", OURS, "--results", str(tmp_path)]
    running = subprocess.Popen(
        [sys.executable, "-m", "bench", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None and running.stderr is not None
    with running.stdout, running.stderr:
        first = running.stdout.readline()
        running.send_signal(signal.SIGINT)
        more, told = running.stdout.read(), running.stderr.read()
    assert running.wait() == 130 and "interrupted" in told
    plain = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    written = [row["key"] for row in plain["rows"]]
    lines = [first, *itertools.takewhile(str, more.splitlines())]
    shown = [line.split()[0] for line in lines]
    # It may have come between the last row and its line.
    assert written[: len(shown)] == shown and len(written) <= len(shown) + 1
    assert len(written) < sum(len(rows(suite)) for suite in NAMES)


def test_check_fails_when_a_bound_is_not_met(tmp_path: Path) -> None:
    # Without the standard pool in the run the ratio cannot be had, so the bound is not met.
    only = ["--only", "apply", "--peers", OURS, "--results", str(tmp_path)]
    assert run_bench("--check", *only).returncode == 1
    assert run_bench(*only).returncode == 0


def test_unknown_rows_are_refused() -> None:
    done = run_bench("--only", "appyl")
    assert done.returncode == 2
    assert "no such row: appyl" in done.stderr


def test_unknown_contenders_are_refused() -> None:
    done = run_bench("--peers", "mulitprocessing")
    assert done.returncode == 2
    assert done.stderr.startswith("no peer is called 'mulitprocessing'; there are pool, ")


def test_ours_takes_part_in_what_is_asked_for(tmp_path: Path) -> None:
    only = ["--only", "apply", "--peers", STANDARD, "--results", str(tmp_path)]
    assert run_bench(*only).returncode == 0
    plain = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert list(plain["rows"][0]["figures"]) == [OURS, STANDARD]


def test_rows_measured_anew_take_the_place_of_the_published_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured_anew(suite: str, wanted: list[Row], options: Any) -> Iterator[Result]:
        for row in wanted:
            figures = {OURS: [1.0], STANDARD: [4.0]}
            yield Result(row.key, row.title, row.unit, row.headline, list(row.bounds), figures, {})

    monkeypatch.setattr(bench.__main__, "run_suite", measured_anew)
    monkeypatch.setattr(bench.__main__, "find_peers", lambda names=None: [])
    renew = ["--renew", "--only", "apply", "--results", str(tmp_path)]
    assert bench.__main__.main(renew) == 2  # there is nothing yet
    earlier = [replace(result([2.0], [3.0]), key=key) for key in ("program", "apply", "gone")]
    bench.__main__.write(tmp_path, earlier)
    assert bench.__main__.main(renew) == 0
    path = tmp_path / "results.json"
    plain = json.loads(path.read_text(encoding="utf-8"))
    assert [(row["key"], row["figures"][OURS]) for row in plain["rows"]] == [
        ("program", [2.0]),
        ("apply", [1.0]),
    ]
    assert bench.__main__.main([*renew, "--rounds", "2"]) == 2
    plain["machine"]["processor"] = "another one"
    path.write_text(json.dumps(plain), encoding="utf-8")
    assert bench.__main__.main(renew) == 2
    assert "has no figures of this machine" in capsys.readouterr().err


def test_once_is_small() -> None:
    assert (ONCE.rounds, ONCE.count(1000)) == (1, 50)


def test_tutorials_are_compared_by_their_answers() -> None:
    one, other, none = Answer([1], "", 0.5), Answer([2], "", 0.0), Answer(None, "fell over", 0.0)
    assert verdict(one, Answer([1], "", 9.0)) == "same"
    assert verdict(one, other) == "different"
    assert verdict(one, none) == verdict(none, one) == verdict(none, none) == "no answer"
    *_, row = table({"program": one}, {"program": none}, "ray")
    assert row == "| program | no answer | `[1]` in 0.500 s | fell over |"


def test_a_tutorial_that_differs_is_seen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench.tutorials.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "path", [*sys.path])  # which gets the folder of the programs
    assert bench.tutorials.main(["streamed"]) == 0
    wrong = dict.fromkeys(bench.tutorials.tutorials(), 0)
    monkeypatch.setattr(bench.tutorials, "tutorials", lambda: wrong)
    assert bench.tutorials.main(["streamed"]) == 1
    assert "1 programs: 1 different" in capsys.readouterr().out


def test_who_leaves_threads_has_turns_after_the_others() -> None:
    wanted = [row for row in rows("actors") if row.key in ("ray-task", "ray-linear")]
    wanted += [row for row in rows("tasks") if row.key in ("apply", "apply-floor")]
    turns = [
        ([row.key for row in some], names)
        for some, names in bench.__main__.in_turns(wanted, ["pool", "loky", "dask", "ray"])
    ]
    assert turns == [
        (["ray-linear", "apply", "apply-floor"], ["pool", "loky"]),
        (["ray-task"], ["pool", "loky", "dask", "ray"]),
        (["apply"], ["dask", "ray"]),
    ]


def test_turns_of_one_row_become_one_result(capsys: pytest.CaptureFixture[str]) -> None:
    found: list[Result] = []
    bench.__main__.add(result([1.0], [2.0]), found)
    later = Result("row", "a row", "s", True, [], {"dask": [9.0]}, {"ray": "fell", OURS: "lost"})
    bench.__main__.add(later, found)
    (row,) = found
    assert row.figures == {OURS: [1.0], STANDARD: [2.0], "dask": [9.0]}
    assert row.left_out == {"ray": "fell"}
    assert len(capsys.readouterr().out.splitlines()) == 1
