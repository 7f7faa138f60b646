"""What is sent of remote functions, and when it is made anew."""

from __future__ import annotations

from typing import Any

import pytest

from pool._objects import _codes
from pool._objects._codes import Code

FACTOR = 1


def work() -> int:
    return FACTOR


def test_a_function_is_pickled_anew_when_what_it_uses_has_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = Code(work)
    first = code.payload()
    assert code.payload() is first
    monkeypatch.setitem(globals(), "FACTOR", 2)
    assert code.payload() is code.payload()


def test_what_another_thread_meets_meanwhile_belongs_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = Code(work)
    first = code.payload()
    fresh = _codes.FunctionPayload(_codes.Encoded(b"other", []), True)
    monkeypatch.setattr(_codes, "kept_payload", lambda definition: fresh)
    met: list[Any] = []

    def same(one: Any, other: Any) -> bool:
        monkeypatch.undo()
        monkeypatch.setattr(_codes, "kept_payload", lambda definition: fresh)
        met.append(code.payload().encoded.data)
        return False

    monkeypatch.setattr(_codes, "_same", same)
    assert code.payload().encoded.data == b"other"
    assert met == [b"other"]
    assert code.payload().encoded.data == b"other" != first.encoded.data
