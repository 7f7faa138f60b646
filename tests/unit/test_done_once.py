"""Which imports are not to be done a second time, going by a module's code."""

from __future__ import annotations

import textwrap

import pytest

from pool._workers._variables import _once
from pool._workers._variables._once import COSTLY, HARMFUL, again, may_be


def found(text: str) -> int:
    text = textwrap.dedent(text)
    return may_be(text.encode()) and again(compile(text, "module", "exec"))


@pytest.mark.parametrize(
    "text",
    [
        'import os\nos.makedirs("runs")',
        "import sys\nn = int(sys.stdin.readline())",
        "n = int(input())",
        "import tempfile\nfolder = tempfile.mkdtemp()",
        "import fcntl\nfcntl.flock(1, 2)",
        'import shutil\nshutil.rmtree("out", ignore_errors=True)',
        'out = open("out", "w")',
        'from pathlib import Path\nout = Path("out").open("wb")',
        'import logging\nlogging.basicConfig(filename="log", filemode="w")',
        'import os, time\nos.makedirs(time.strftime("%Y"), exist_ok=True)',
        'import os, time\nos.makedirs(f"run-{time.time()}", exist_ok=True)',
        "class Paths:\n    import tempfile\n    folder = tempfile.mkdtemp()",
        'def make():\n    open("out", "w")\nmake()',
        'def make():\n    return inner()\ndef inner():\n    open("out", "w")\nfound = make()',
        'class Log:\n    def __init__(self):\n        self.file = open("log", "w")\nlog = Log()',
    ],
)
def test_what_does_harm(text: str) -> None:
    assert found(text) == HARMFUL


@pytest.mark.parametrize(
    "text",
    [
        'print("loaded")',
        'import spacy\nnlp = spacy.load("en")',
        'import pandas as pd\ntable = pd.read_csv("table.csv")',
        'import pickle\ndef load():\n    return pickle.load(open("model", "rb"))\nmodel = load()',
    ],
)
def test_what_costs(text: str) -> None:
    assert found(text) == COSTLY
    assert found(f"{text}\nopen('out', 'w')") == HARMFUL


@pytest.mark.parametrize(
    "text",
    [
        "import math\nhalf = math.pi / 2",
        'import os\nos.makedirs("out", exist_ok=True)',
        'import os\nif not os.path.exists("out"):\n    os.mkdir("out")',
        'import os, time\nbegin = time.perf_counter()\nos.makedirs("out", exist_ok=True)',
        'text = open("in").read()',
        'import json\nwith open("in") as file:\n    config = json.load(file)',
        'import yaml\ndef read():\n    return yaml.load(open("in"))\nconfig = read()',
        'import pickle\ndef load():\n    return pickle.load(open("model", "rb"))',
        'with open("in", "r") as file:\n    text = file.read()',
        "from tempfile import mkdtemp\ndef make():\n    return mkdtemp()",
        'from shutil import rmtree\ndef clean():\n    rmtree("out")\ncommands = {"clean": clean}',
        'def run():\n    open("out", "w")\ndef row(*a):\n    return a\nrows = [row(run), row(run)]',
        'class Log:\n    def save(self):\n        open("log", "w")\nlog = Log()',
        "def show(text):\n    print(text)\nshown = {1: show}",
        'def main():\n    open("out", "w")\nif __name__ == "__main__":\n    main()',
        'if __name__ == "__main__":\n    import sys\n    open("out", "w").write(sys.stdin.read())',
    ],
)
def test_what_may_be_done_again(text: str) -> None:
    assert not found(text)


def test_texts_with_any_of_the_names_are_looked_at() -> None:
    names = _once._ALWAYS | _once._FOLDERS | _once._FILES | _once._LOADS
    assert [name for name in names if not may_be(f"{name}(1)".encode())] == []
