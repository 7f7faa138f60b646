"""Files that tasks write to: what several processes write is all there, once."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest
from poolscripts import run_program

if TYPE_CHECKING:
    from pathlib import Path

# In the standard library only by inheritance, as a global.
BOTH = pytest.mark.parametrize("library", ["multiprocessing", "pool"])

HEAD = """
import sys
from {library} import Pool

def check(lines):
    text = open("out.txt").read()
    assert sorted(text.split()) == sorted(lines), text
    print("as it should be")
"""


def run(library: str, body: str, folder: Path) -> None:
    program = HEAD.format(library=library) + textwrap.dedent(body)
    assert run_program(program, folder).succeeded() == "as it should be\n"


@BOTH
@pytest.mark.parametrize("mode", ["w", "x", "r+", "a"])
def test_a_global_file(library: str, mode: str, tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text("") if mode == "r+" else None
    body = f"""
    file = open("out.txt", {mode!r})
    file.write("head\\n")
    file.flush()

    def write(n):
        file.write(f"{{n}}\\n")
        file.flush()

    with Pool(2) as p:
        p.map(write, range(100), chunksize=1)
        p.apply(write, ("one",))
        p.map(write, range(100, 110), chunksize=5)
    file.write("tail\\n")
    file.close()
    check(["head", "tail", "one", *map(str, range(110))])
    """
    run(library, body, tmp_path)


@pytest.mark.parametrize("mode", ["w", "a"])
def test_a_file_in_an_object(mode: str, tmp_path: Path) -> None:
    body = f"""
    class Report:
        def __init__(self):
            self.file = open("out.txt", {mode!r})

        def add(self, n):
            self.file.write(f"{{n}}\\n")
            self.file.flush()

    report = Report()
    with Pool(2) as p:
        p.map(report.add, range(50), chunksize=1)
        list(p.imap_unordered(report.add, range(50, 60)))
    report.add("end")
    report.file.close()
    check(["end", *map(str, range(60))])
    """
    run("pool", body, tmp_path)


@pytest.mark.parametrize("mode", ["w", "r+", "a"])
def test_what_tasks_write_is_there_with_their_results(mode: str, tmp_path: Path) -> None:
    """Forked workers of the standard pool end without writing it out."""
    (tmp_path / "out.txt").write_text("") if mode == "r+" else None
    body = f"""
    def write(text, file):
        file.write(text + "\\n")

    file = open("out.txt", {mode!r})
    with Pool(2) as p:
        file.write("head\\n")
        p.map(lambda n: write(str(n), file), range(100), chunksize=1)
        text = open("out.txt").read()
        assert sorted(text.split()) == sorted(["head", *map(str, range(100))]), text
        p.apply(write, ("one", file))
        p.apply_async(write, ("two",), {{"file": file}}).get()
        check(["head", "one", "two", *map(str, range(100))])
    """
    run("pool", body, tmp_path)


def test_where_nothing_can_be_inherited_the_file_is_refused(tmp_path: Path) -> None:
    body = """
    from pool import CannotSend

    def write(file, n):
        file.write(str(n))

    files = [0, open("out.txt", "w")]
    with Pool(2) as p:
        try:
            p.map(str, files)
        except CannotSend as error:
            assert "mode 'w'" in str(error) and "mode 'a'" in str(error), error
            check([])
    """
    run("pool", body, tmp_path)


def test_a_file_that_is_read_and_appended_to(tmp_path: Path) -> None:
    body = """
    with open("out.txt", "a+") as file, Pool(2) as p:
        file.write("abc\\n")
        file.seek(0)
        assert p.map(lambda n: file.read(), [1]) == ["abc\\n"]
        p.map(lambda n: file.write("more\\n") and None, [1])
        p.map(lambda n: file.detach().write(b"end\\n") and None, [1])
    check(["abc", "end", "more"])
    """
    run("pool", body, tmp_path)


@BOTH
def test_errors_where_a_file_is_inherited_have_no_other_one_before_them(
    library: str, tmp_path: Path
) -> None:
    """Workers are forked for such calls after an error, which is none of the tasks' business."""
    body = """
    file = open("out.txt", "w")

    def before(*_):
        file.fileno()
        try:
            1 / 0
        except ZeroDivisionError as error:
            return error.__context__

    with Pool(1) as p:
        found = [p.apply(before), p.apply_async(before, (1,)).get(), *p.map(before, [1, 2])]
        found += [*p.starmap(before, [(1, 2)]), *p.imap(before, [1])]
        found += p.imap_unordered(before, [1])
    assert found == [None] * 7, found
    check([])
    """
    run(library, body, tmp_path)
