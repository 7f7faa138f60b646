"""Errors that no caller can catch: what is shown of them says where they come from."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from pool._unraisable import report


def test_standard_hook_shows_the_message(capsys: pytest.CaptureFixture[str]) -> None:
    hook, sys.unraisablehook = sys.unraisablehook, sys.__unraisablehook__
    try:
        report(KeyError("absent"), "raised by the callback of <AsyncResult 7>")
    finally:
        sys.unraisablehook = hook
    shown = capsys.readouterr().err
    assert "actorpool (raised by the callback of <AsyncResult 7>)" in shown.splitlines()[0]
    assert "KeyError: 'absent'" in shown.splitlines()[-2:]  # Python 3.15 shows the note, too


def test_another_hook_gets_the_error_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: told.append(args.exc_value))
    error = KeyError("absent")
    report(error, "raised by a callback")
    assert told == [error]
    assert error.__notes__ == ["raised by a callback"]
