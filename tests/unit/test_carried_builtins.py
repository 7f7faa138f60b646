"""What is known of `builtins` between two pools."""

from __future__ import annotations

import builtins
import weakref
from typing import TYPE_CHECKING

from pool._workers._carried._builtins import is_changed

if TYPE_CHECKING:
    import pytest


class Large:
    pass


def test_what_a_shell_has_shown_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    value = Large()
    monkeypatch.setattr(builtins, "_", value, raising=False)
    shown = weakref.ref(value)
    assert not is_changed()
    monkeypatch.setattr(builtins, "_", 5)
    monkeypatch.undo()
    del value
    assert shown() is None


def test_a_function_by_that_name_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_changed()
    monkeypatch.setattr(builtins, "_", lambda word: word, raising=False)
    assert is_changed()
