"""``python -m bench``: run the suites, write table and chart, say which bounds are missed."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench._chart import svg
from bench._figures import amount, from_plain, measured, middle, missed, number, to_plain
from bench._peers import LINGERING, USUAL, find_peers
from bench._system import machine
from bench._table import markdown
from bench._work import FULL, ONCE, OURS, QUICK, Result
from bench.suites import NAMES, rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench._work import Row

RESULTS = Path(__file__).parent / "results"

#: With these, every start would compile what it imports, or write each line by itself. An installed
#: package is compiled, so that would be measuring something else.
UNUSUAL = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONPYCACHEPREFIX")

#: Seconds after which a suite is ended; rows that were done by then count.
SUITE_TIMEOUT = 3600


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--quick", action="store_true", help="few rounds, few peers, no long rows: two minutes"
    )
    size.add_argument("--once", action="store_true", help="one small round: does it run at all?")
    size.add_argument(
        "--renew",
        action="store_true",
        help="put rows in the place of those published, measured on the same machine",
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bound is missed")
    parser.add_argument("--only", nargs="+", default=[], metavar="ROW", help="only these rows")
    parser.add_argument("--suite", nargs="+", default=list(NAMES), choices=NAMES, metavar="SUITE")
    parser.add_argument("--peers", nargs="+", metavar="PEER", help="ours and these, no others")
    parser.add_argument("--rounds", type=int, help="rounds for each row")
    parser.add_argument(
        "--results", type=Path, help="folder to write to; else bench/results, its quick/ for a part"
    )
    parser.add_argument("--list", action="store_true", help="list rows and contenders")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit status."""
    given = parse(arguments)
    if given.list:
        return show_list()
    folder = given.results or (RESULTS if given.renew or is_full(given) else RESULTS / "quick")
    try:
        check(given)
        peers = contenders(given)
        kept = published(folder) if given.renew else []
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    results: list[Result] = []
    interrupted = False
    try:
        measure(given, peers, results)
    except KeyboardInterrupt:
        interrupted = True
        print("interrupted: only these rows are written", file=sys.stderr)
    results = renewed(kept, results)
    if results or not interrupted:
        write(folder, results)
    if interrupted:
        return 130
    lines = missed(results)
    print("\n".join(["", "missed bounds:", *lines] if lines else ["", "all bounds are met"]))
    return 1 if given.check and lines else 0


def keys() -> list[str]:
    """Return the keys of all rows, in the order of the table."""
    return [row.key for suite in NAMES for row in rows(suite)]


def check(given: argparse.Namespace) -> None:
    """Raise `ValueError` for rows that there are not, and for options that exclude each other."""
    if unknown := set(given.only).difference(keys()):
        raise ValueError(f"no such row: {', '.join(sorted(unknown))}; see --list")
    if given.renew and (given.peers or given.rounds):
        raise ValueError("--renew measures as a full run does, with all peers and rounds")


def contenders(given: argparse.Namespace) -> list[str]:
    """Return who takes part."""
    names = list(USUAL) if given.quick or given.once else None
    if given.peers:
        names = [OURS, *given.peers]
    return [peer.name for peer in find_peers(names)]


def measure(given: argparse.Namespace, peers: list[str], results: list[Result]) -> None:
    """Measure the rows that are wanted, and enter each in `results` when it is done."""
    scale = ONCE if given.once else QUICK if given.quick else FULL
    if given.rounds:
        scale = replace(scale, rounds=given.rounds)
    for suite in given.suite:
        wanted = [row for row in rows(suite) if scale.has(row, given.only)]
        for some, turns in in_turns(wanted, peers):
            only = [row.key for row in some]
            options = {"peers": turns, "only": only, "scale": asdict(scale)}
            for result in run_suite(suite, some, options):
                add(result, results)


def renewed(kept: list[Result], results: list[Result]) -> list[Result]:
    """Return `results`, and of those published the others that still have a row, in order."""
    order = keys()
    anew = {result.key for result in results}
    others = [result for result in kept if result.key in order and result.key not in anew]
    return sorted([*results, *others], key=lambda result: order.index(result.key))


def in_turns(wanted: list[Row], peers: list[str]) -> Iterator[tuple[list[Row], list[str]]]:
    """Yield rows, and who does them, for one process each."""
    lingering = [name for name in peers if name in LINGERING]
    others = [name for name in peers if name not in LINGERING]
    # Those that are about one of them: ours has its turns beside it.
    about = [row for row in wanted if set(row.peers) & set(lingering)]
    rest = [row for row in wanted if row not in about]
    yield rest, others
    if lingering:
        yield about, peers
        yield [row for row in rest if not row.peers], lingering


def add(result: Result, results: list[Result]) -> None:
    """Enter what one process has measured, beside what another one has of the same row."""
    for known in results:
        if known.key == result.key:
            known.figures.update(result.figures)
            result.left_out.pop(OURS, None)  # it has had its turn
            known.left_out.update(result.left_out)
            return
    results.append(result)
    print(one_line(result), flush=True)


def published(folder: Path) -> list[Result]:
    """Return the rows in a folder.

    Raises
    ------
    ValueError
        If they are not of this machine with these versions, or there are none.
    """
    file = folder / "results.json"
    plain = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if plain.get("machine") != machine():
        raise ValueError(
            f"{folder} has no figures of this machine with these versions: run everything"
        )
    return [from_plain(row) for row in plain["rows"]]


def is_full(given: argparse.Namespace) -> bool:
    """Return whether it is a run whose figures may take the place of the published ones."""
    parts = (given.quick, given.once, given.only, given.peers, given.rounds)
    return not any(parts) and given.suite == list(NAMES)


def run_suite(suite: str, wanted: list[Row], options: dict[str, object]) -> Iterator[Result]:
    """Run one suite in a process of its own and yield its rows as they are done."""
    if not wanted:
        return
    process = subprocess.Popen(
        [sys.executable, "-m", "bench._suite", suite, json.dumps(options)],
        cwd=Path(__file__).parent.parent,
        env={name: value for name, value in os.environ.items() if name not in UNUSUAL},
        stdout=subprocess.PIPE,
        text=True,
        # Whatever a contender leaves behind ends with the group.
        start_new_session=True,
    )
    assert process.stdout is not None
    done = set()
    try:
        for line in process.stdout:
            if line.startswith('{"key"'):
                result = from_plain(json.loads(line))
                done.add(result.key)
                yield result
        process.wait(SUITE_TIMEOUT)
    finally:
        process.stdout.close()
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
    for row in wanted:
        if row.key not in done:
            lost = {OURS: f"the suite ended with status {process.returncode}"}
            yield Result(row.key, row.title, row.unit, row.headline, list(row.bounds), {}, lost)


def one_line(result: Result) -> str:
    """Return a row's outcome for the terminal."""
    ours = middle(result, OURS)
    parts = [f"{result.key:16}", "-" if ours is None else amount(ours, result.unit)]
    for bound in result.bounds:
        value = measured(result, bound)
        if value is not None:
            of = f" x {bound.against}" if bound.against else ""
            parts.append(f"{number(value)}{of} (bound {bound.limit:.3g})")
    if OURS in result.left_out:
        parts.append(result.left_out[OURS])
    return "  ".join(parts)


def write(folder: Path, results: Sequence[Result]) -> None:
    """Write table, chart and all figures."""
    folder.mkdir(parents=True, exist_ok=True)
    about = machine()
    (folder / "results.md").write_text(markdown(results, about), encoding="utf-8")
    (folder / "chart.svg").write_text(svg(results, about), encoding="utf-8")
    plain = {"machine": about, "rows": [to_plain(result) for result in results]}
    (folder / "results.json").write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    names = ", ".join(
        f"{folder.name}/{name}" for name in ("results.md", "chart.svg", "results.json")
    )
    print(f"\nwritten: {names}")


def show_list() -> int:
    """Print what there is."""
    for suite in NAMES:
        print(suite)
        for row in rows(suite):
            print(f"    {row.key:16} {row.title}")
    print("contenders:", ", ".join(peer.name for peer in find_peers()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
