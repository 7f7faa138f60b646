"""Show what changes when ``from multiprocessing import Pool`` becomes ``from pool import Pool``.

Five jobs on real text and on data of realistic size run with the standard pool and with this one,
in turns; the results are compared. Then come four things that the standard pool cannot do.

There is no main guard in this file, on purpose; and no annotations, for it stands for programs as
they are written every day.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import sysconfig
import threading
from collections import Counter
from pathlib import Path
from statistics import median
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import pandas as pd

import pool
from bench._system import machine, peak_pss

WORKERS = 2
ROUNDS = 3
PATIENCE = 5.0
WORD = re.compile(r"[a-z]{2,}")

# The text: every module of the running Python's standard library.
LIBRARY = Path(sysconfig.get_path("stdlib"))
FILES = sorted(str(path) for path in LIBRARY.rglob("*.py") if "site-packages" not in path.parts)


# ---------------------------------------------------------------- the jobs; `Pool` is either one


def words_of(path):
    return Counter(WORD.findall(Path(path).read_text(encoding="utf-8", errors="replace").lower()))


def count_words(Pool):
    total = Counter()
    with Pool(WORKERS) as p:
        for counts in p.imap_unordered(words_of, FILES, chunksize=8):
            total.update(counts)
    return total


ENDINGS = ("ations", "ation", "ings", "ing", "edly", "ed", "ers", "er", "ies", "es", "s")


def stem(word):
    for ending in ENDINGS:
        if word.endswith(ending) and len(word) > len(ending) + 2:
            return word[: -len(ending)]
    return word


def group_by_stem(Pool):
    groups = {}
    with Pool(WORKERS) as p:
        for word, root in zip(VOCABULARY, p.imap(stem, VOCABULARY), strict=True):
            groups.setdefault(root, []).append(word)
    return groups


def indicators(frame):
    price = frame["price"]
    frame["mean"] = price.rolling(50, min_periods=1).mean()
    frame["change"] = price.pct_change().fillna(0.0)
    frame["turnover"] = (price * frame["volume"]).cumsum()
    return frame


def enrich_frames(Pool):
    with Pool(WORKERS) as p:
        return p.map(indicators, FRAMES, chunksize=1)


class Corpus:
    """Word frequencies of all files, and which files resemble each other."""

    def __init__(self, vocabulary):
        self.columns = {word: at for at, word in enumerate(vocabulary)}
        self.matrix = np.zeros((len(FILES), len(vocabulary)), dtype="f4")

    def add(self, row, counts):
        for word, count in counts.items():
            column = self.columns.get(word)
            if column is not None:
                self.matrix[row, column] = np.log1p(count)
        self.matrix[row] /= np.linalg.norm(self.matrix[row]) or 1

    def nearest(self, row):
        likeness = self.matrix @ self.matrix[row]
        likeness[row] = -1
        return int(likeness.argmax())

    def neighbours(self, Pool):
        with Pool(WORKERS) as p:
            return p.map(self.nearest, range(0, len(self.matrix), 25))


def lines_of(path):
    return Path(path).read_bytes().count(b"\n")


def lines_of_packages(Pool):
    """Count line by package, as a function does that is called often and makes its own pool."""
    packages = {}
    for path in FILES:
        packages.setdefault(Path(path).parent, []).append(path)
    lines = {}
    for package in sorted(packages)[:40]:
        with Pool(WORKERS) as p:
            lines[package] = sum(p.map(lines_of, packages[package]))
    return lines


# ---------------------------------------------------------------- comparing


def same(a, b):
    if isinstance(a, list) and a and isinstance(a[0], pd.DataFrame):
        return len(a) == len(b) and all(x.equals(y) for x, y in zip(a, b, strict=True))
    return a == b


def compare(title, job):
    """Run a job with both pools in turns; return a line of the final table."""
    print(f"  {title} ...", end="", flush=True)
    seconds = {"standard": [], "ours": []}
    results = {}
    started = perf_counter()
    while len(seconds["ours"]) < ROUNDS:
        if perf_counter() - started > PATIENCE:
            break  # a busy machine: fewer rounds, but an end
        for name, Pool in SIDES.items():
            begun = perf_counter()
            results[name] = job(Pool)
            seconds[name].append(perf_counter() - begun)
    if not same(results["standard"], results["ours"]):
        raise SystemExit(f"{title}: the results differ")
    memory = {}
    for name, Pool in SIDES.items():
        # A round of its own: looking at memory costs time.
        with peak_pss() as peak:
            job(Pool)
        memory[name] = peak.nbytes / 1e6
    times = {name: median(values) for name, values in seconds.items()}
    print(f" equal results, {times['standard']:.2f} s and {times['ours']:.2f} s")
    return title, times, memory


def table(lines):
    print(f"\n{'':44}{'seconds':^24}{'memory, MB':^20}")
    print(f"{'':44}{'standard':>9}{'ours':>7}{'ratio':>8}{'standard':>11}{'ours':>9}")
    for title, times, memory in lines:
        ratio = times["ours"] / times["standard"]
        print(
            f"{title:44}{times['standard']:9.2f}{times['ours']:7.2f}{ratio:8.2f}"
            f"{memory['standard']:11.0f}{memory['ours']:9.0f}"
        )


# ---------------------------------------------------------------- only here


class Scanner:
    """Has a lock, as objects have that threads share."""

    def __init__(self, needle):
        self.needle = needle
        self.lock = threading.Lock()
        self.scanned = 0

    def scan(self, path):
        with self.lock:
            self.scanned += 1
        return Path(path).read_text(encoding="utf-8", errors="replace").count(self.needle)


def stumble(number):
    if number == 13:
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out
    return number


def attempt(what, call):
    """Print what a call gives, or how it fails."""
    try:
        outcome = f"{call()}"
    except BaseException as error:
        outcome = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    print(f"  {what:10} {outcome if len(outcome) < 400 else outcome[:397] + '...'}")


def only_here():
    Standard, Ours = SIDES["standard"], SIDES["ours"]
    with Standard(WORKERS) as theirs, Ours(WORKERS) as ours:
        print("\nA method of an object that holds a lock:")
        scanner = Scanner("import threading")
        attempt("standard", lambda: sum(theirs.map(scanner.scan, FILES)))
        attempt("ours", lambda: f"{sum(ours.map(scanner.scan, FILES))} imports of threading")

        print("\nA lambda:")
        attempt("standard", lambda: theirs.map(lambda path: len(path), FILES[:3]))
        attempt("ours", lambda: ours.map(lambda path: len(path), FILES[:3]))

        print("\nA worker that is killed (item 13 of 20):")
        attempt("standard", lambda: theirs.map_async(stumble, range(20), 1).get(timeout=3))
        print("             (that was a timeout of 3 s; without one it waits for ever)")
        attempt("ours", lambda: ours.map(stumble, range(20), 1))
        kept = ours.map(stumble, range(20), 1, return_exceptions=True)
        alive = [value for value in kept if not isinstance(value, Exception)]
        print(f"  {'ours':10} with return_exceptions=True: {len(alive)} of 20 results are there")
        assert alive == [number for number in range(20) if number != 13]
        assert ours.map(stumble, range(10)) == list(range(10))
        print(f"  {'ours':10} and the pool goes on: {ours!r}")

        print("\nA progress bar, by progress=True:", flush=True)
        counts = ours.map(words_of, FILES, chunksize=16, progress=True)
        assert sum(count.total() for count in counts) == WORDS.total()


# ---------------------------------------------------------------- the demonstration

SIDES = {"standard": multiprocessing.get_context("fork").Pool, "ours": pool.Pool}

about = machine()
print(f"""\
actorpool {about["actorpool"]} on {about["python"]}, {about["cores"]} cores

Five jobs, first with multiprocessing.Pool ("standard"), then with the import swapped ("ours"); the
functions are the same. This program is bench/demo.py and has no main guard. It takes a minute.
""")
begun = perf_counter()
WORDS = Counter()
for path in FILES:
    WORDS.update(words_of(path))
megabytes = sum(os.path.getsize(path) for path in FILES) / 1e6
print(f"The text: {len(FILES)} files of this Python's standard library, {megabytes:.0f} MB")
print(f"A plain loop counts its {WORDS.total():,} words in {perf_counter() - begun:.1f} s\n")

VOCABULARY = [word for word, _ in WORDS.most_common(20_000)]
numbers = np.random.default_rng(2024)
FRAMES = [
    pd.DataFrame(
        {
            "time": pd.date_range("2024-01-01", periods=300_000, freq="s"),
            "price": 100 + numbers.normal(0, 0.01, 300_000).cumsum(),
            "volume": numbers.integers(1, 1000, 300_000),
        }
    )
    for _ in range(8)
]
corpus = Corpus(VOCABULARY[:4000])
for row, path in enumerate(FILES):
    corpus.add(row, words_of(path))

print(f"Each job with either pool in turns, up to {ROUNDS} times, {WORKERS} workers each:")
lines = [
    compare("word count, 8 files a chunk", count_words),
    compare(f"stems of {len(VOCABULARY)} words, one by one", group_by_stem),
    compare("8 frames of 300 000 rows, there and back", enrich_frames),
    compare(f"method of an object of {corpus.matrix.nbytes / 1e6:.0f} MB", corpus.neighbours),
    compare("40 short-lived pools", lines_of_packages),
]
assert count_words(pool.Pool) == WORDS
print("\nWhat only one of them can do:")
only_here()
table(lines)
print("""
Medians of the rounds; memory is the most that the whole process tree had at a time, shared pages
counted once. Jobs that mostly compute take as long with either pool; what differs is what it
costs to start workers and to hand out work. `make bench-quick` measures that with more care.""")
