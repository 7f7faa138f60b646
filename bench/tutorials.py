"""``python -m bench.tutorials``: run the same programs on `pool` and on Ray, and compare answers.

The programs are those of ``tests/actors/tutorials.py``, as people write them after a Ray tutorial.
Each library runs them in a process of its own. Without Ray the answers are compared with those that
are written beside the programs. Exit status: 1 if an answer differs or is missing, 0 otherwise.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ROOT = Path(__file__).parents[1]
PROGRAMS = ROOT / "tests" / "actors"
LIBRARIES = ("pool", "ray")
#: Two workers and two devices, for both; what the programs print is of no interest.
INIT = {"num_cpus": 2, "num_gpus": 2, "include_dashboard": False, "log_to_driver": False}
DEVICES = "5,6"
#: Seconds for all programs of one library.
TIMEOUT = 600


@dataclass(frozen=True)
class Answer:
    """What one program said on one library; `problem` is "" if it answered."""

    value: Any
    problem: str
    seconds: float


def tutorials() -> dict[Any, Any]:
    """Return the programs, and what each is to answer."""
    if str(PROGRAMS) not in sys.path:
        sys.path.insert(0, str(PROGRAMS))
    found: dict[Any, Any] = importlib.import_module("tutorials").TUTORIALS
    return found


def names(wanted: Sequence[str]) -> list[str]:
    """Return the names of the programs to run: those wanted, or all."""
    return list(wanted) or [tutorial.__name__ for tutorial in tutorials()]


def expected(wanted: Sequence[str]) -> dict[str, Answer]:
    """Return the answers that are written beside the programs."""
    answers = {tutorial.__name__: answer for tutorial, answer in tutorials().items()}
    return {name: Answer(plain(answers[name]), "", 0.0) for name in wanted}


def plain(value: Any) -> Any:
    """Return a value as JSON brings it: tuples are lists."""
    return json.loads(json.dumps(value))


# ---------------------------------------------------------------------- in a process of its own


def run_here(library: str, wanted: Sequence[str]) -> None:
    """Run programs in this process; print a line for each."""
    ray = importlib.import_module(library)
    ray.init(**INIT)
    by_name = {tutorial.__name__: tutorial for tutorial in tutorials()}
    for name in wanted:
        start = perf_counter()
        try:
            value, problem = plain(by_name[name](ray)), ""
        except Exception as error:
            traceback.print_exc()
            value, problem = None, f"{type(error).__name__}: {error}".splitlines()[0]
        seconds = perf_counter() - start
        print("answer " + json.dumps([name, value, problem, seconds]), flush=True)
    ray.shutdown()


def run(library: str, wanted: Sequence[str]) -> dict[str, Answer]:
    """Run programs on a library; return what each answered."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.tutorials", "--here", library, *wanted],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": DEVICES},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whatever a library leaves behind ends with the group.
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=TIMEOUT)
        ending = f"no answer: its process ended with status {process.returncode}"
    except subprocess.TimeoutExpired as late:
        out, err = (_text(late.stdout), _text(late.stderr))
        ending = f"no answer within {TIMEOUT} s"
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
    answers = {name: Answer(None, ending, 0.0) for name in wanted}
    for line in out.splitlines():
        if line.startswith("answer "):
            name, value, problem, seconds = json.loads(line.removeprefix("answer "))
            answers[name] = Answer(value, problem, seconds)
    if any(answer.problem for answer in answers.values()):
        print(f"--- what {library} said:", err[-4000:], sep="\n", file=sys.stderr)
    return answers


def _text(output: Any) -> str:
    return output.decode("utf-8", "replace") if isinstance(output, bytes) else output or ""


# ---------------------------------------------------------------------- the comparison


def table(ours: Mapping[str, Answer], theirs: Mapping[str, Answer], other: str) -> Iterable[str]:
    """Yield the lines of the table: a row for each program."""
    yield f"| program | | pool | {other} |"
    yield "|---|---|---|---|"
    for name, mine in ours.items():
        yours = theirs[name]
        yield f"| {name} | {verdict(mine, yours)} | {_cell(mine)} | {_cell(yours)} |"


def verdict(mine: Answer, yours: Answer) -> str:
    """Return how two answers stand to each other."""
    if mine.problem or yours.problem:
        return "no answer"
    return "same" if mine.value == yours.value else "different"


def _cell(answer: Answer) -> str:
    if answer.problem:
        return answer.problem
    text = json.dumps(answer.value)
    shown = text if len(text) <= 40 else text[:37] + "..."
    return f"`{shown}`" + (f" in {answer.seconds:.3f} s" if answer.seconds else "")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.tutorials", description=__doc__)
    parser.add_argument("--here", choices=LIBRARIES, help=argparse.SUPPRESS)
    parser.add_argument("program", nargs="*", help="only these programs")
    given = parser.parse_args(arguments)
    known = names(())
    if unknown := set(given.program) - set(known):
        parser.error(f"no such program: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    wanted = names(given.program)
    if given.here:
        run_here(given.here, wanted)
        return 0
    ours = run("pool", wanted)
    if importlib.util.find_spec("ray") is None:
        other, theirs = "expected (Ray is not installed)", expected(wanted)
    else:
        other, theirs = "ray", run("ray", wanted)
    print("\n".join(table(ours, theirs, other)))
    verdicts = [verdict(ours[name], theirs[name]) for name in wanted]
    counts = ", ".join(f"{verdicts.count(kind)} {kind}" for kind in sorted(set(verdicts)))
    print(f"\n{len(wanted)} programs: {counts}")
    return 0 if set(verdicts) == {"same"} else 1


if __name__ == "__main__":
    sys.exit(main())
