"""``progress=``: what is shown, when, and that nothing which goes wrong there harms the job."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from pool._faces import _progress
from pool._faces._progress import ProgressEvent, line_of_text, make_progress
from pool._faces._results import failures


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A clock that the test turns: ``clock[0]`` is the time."""
    now = [100.0]
    monkeypatch.setattr(_progress, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def no_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)


def test_callable_gets_events(clock: list[float]) -> None:
    events: list[ProgressEvent] = []
    progress = make_progress(events.append, 10, "map f")
    clock[0] += 1.5
    progress.update(3)
    clock[0] += 0.5
    progress.update(7, errors=1)
    progress.close()
    progress.close()
    seen = [(e.done, e.total, e.elapsed, e.label, e.errors) for e in events]
    assert seen == [(3, 10, 1.5, "map f", 0), (10, 10, 2.0, "map f", 1)]
    assert repr(events[1]) == "<map f: 10/10 done, 1 failed, 2.0 s elapsed>"


def test_callable_is_told_of_a_failed_job_and_of_an_empty_one() -> None:
    events: list[ProgressEvent] = []
    progress = make_progress(events.append, 5, "map f")
    progress.update(2)
    progress.fail()
    progress.close()
    progress.fail()
    assert [(e.done, e.errors) for e in events] == [(2, 0), (2, 1)]
    make_progress(events.append, 0, "map g").close()
    assert (events[-1].done, events[-1].total) == (0, 0)


def test_error_of_the_callable_is_reported_and_the_job_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    calls = []

    def broken(event: ProgressEvent) -> None:
        calls.append(event.done)
        raise KeyError("broken")

    progress = make_progress(broken, 4, "map f")
    progress.update(2)
    progress.update(2)
    progress.close()
    assert calls == [2, 4]
    assert [args.exc_type for args in unraisable] == [KeyError, KeyError]
    assert "progress of map f" in unraisable[0].exc_value.__notes__[0]


@pytest.mark.parametrize("progress", [False, None])
def test_falsy_shows_nothing(progress: Any, capsys: pytest.CaptureFixture[str]) -> None:
    silent = make_progress(progress, 10, "map f")
    silent.update(10, errors=1)
    silent.fail()
    silent.close()
    assert capsys.readouterr() == ("", "")


def test_values_that_refuse_to_tell_what_they_are_did_not_fail() -> None:
    class Refuses:
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(name)

    assert failures([Refuses(), ValueError(), 1], False, True) == 1


def test_other_values_are_refused() -> None:
    with pytest.raises(TypeError, match="progress must be"):
        make_progress("yes", 10, "map f")  # type: ignore[arg-type]  # that is the test


def test_plain_line_is_redrawn_at_most_ten_times_a_second(
    clock: list[float], no_tqdm: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = make_progress(True, 100, "map f")
    for number in range(100):
        progress.update(errors=number < 2)
        clock[0] += 0.01
    progress.close()
    progress.close()
    lines = terminal.getvalue().split("\r")[1:]
    assert len(lines) == 10 + 1
    assert all("\n" not in line for line in lines[:-1])
    assert lines[-1].rstrip(" \n") == f"map f: 100% |{'#' * 30}| 100/100 [1.0s<0.0s, 2 failed]"
    assert lines[-1].endswith("\n")


def test_shorter_line_wipes_out_the_longer_one(
    clock: list[float], no_tqdm: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = make_progress(True, 10, "f")
    clock[0] += 1000.0
    progress.update(1)
    clock[0] += 1.0
    progress.update(8)
    _, long, short = terminal.getvalue().split("\r")
    assert long.endswith("1/10 [1000.0s<9000.0s]")
    assert short.endswith("9/10 [1001.0s<111.2s] ")
    assert len(short) == len(long)


def test_plain_line_is_not_drawn_where_nobody_looks(
    no_tqdm: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = io.StringIO()
    closed.close()
    file = io.StringIO()
    for stream in (file, None, closed):
        monkeypatch.setattr(sys, "stderr", stream)
        progress = make_progress(True, 2, "map f")
        progress.update(2)
        progress.close()
    assert file.getvalue() == ""


def test_plain_line_in_a_notebook(no_tqdm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class OutStream(io.StringIO):
        __module__ = "ipykernel.iostream"

    cell = OutStream()
    monkeypatch.setattr(sys, "stderr", cell)
    make_progress(True, 2, "map f").close()
    assert "map f:   0%" in cell.getvalue()


def test_line_of_text_of_an_unknown_length() -> None:
    assert line_of_text(12, None, 3.0, "imap f", 0) == "imap f: 12 [3.0s]"
    assert line_of_text(12, None, 3.0, "imap f", 1) == "imap f: 12 [3.0s, 1 failed]"


def test_line_of_text_estimates_the_rest() -> None:
    assert line_of_text(5, 10, 2.0, "f", 0) == f"f:  50% |{'#' * 15}{' ' * 15}| 5/10 [2.0s<2.0s]"


class Bar:
    """What we use of tqdm's interface."""

    made: list[Bar] = []

    def __init__(self, total: int | None, desc: str) -> None:
        self.total, self.desc, self.n, self.closed, self.postfix = total, desc, 0, False, ""
        Bar.made.append(self)

    def update(self, n: int) -> None:
        self.n += n

    def set_postfix_str(self, text: str, refresh: bool) -> None:
        self.postfix = text

    def close(self) -> None:
        self.closed = True


def test_class_with_tqdms_interface_takes_its_place() -> None:
    progress = make_progress(Bar, 10, "map f")  # type: ignore[arg-type]  # that is the test
    bar = Bar.made.pop()
    progress.update(4, errors=3)
    progress.close()
    assert (bar.total, bar.desc, bar.n, bar.postfix) == (10, "map f", 4, "3 failed")
    assert bar.closed


def test_tqdm_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = make_progress(True, 10, "map f")
    progress.update(4)
    progress.fail()
    shown = terminal.getvalue()
    assert "map f" in shown and "4/10" in shown and "1 failed" in shown


def test_bar_that_cannot_be_made_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import ModuleType

    def refuse(**options: object) -> None:
        raise OSError("no screen")

    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    module = ModuleType("tqdm.auto")
    module.tqdm = refuse  # type: ignore[attr-defined]  # made here
    monkeypatch.setitem(sys.modules, "tqdm", ModuleType("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", module)
    make_progress(True, 10, "map f").update(1)
    assert [args.exc_type for args in unraisable] == [OSError]
