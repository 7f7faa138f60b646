"""Bytes from a worker become lines with authors, wherever the pipe happens to cut them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pool._in_worker._output import BEGINNING, END
from pool._runtime._output import LINE_MAX, SIGNATURE_MAX, Lines

Shown = list[tuple[str, int, str]]


def signature(name: str, pid: int = 1) -> bytes:
    return BEGINNING + f"{pid};{name}".encode() + END


def shown(*pieces: bytes) -> Shown:
    """Feed pieces and return what was shown, the text of one author joined."""
    found: Shown = []
    lines = Lines(lambda name, pid, text: found.append((name, pid, text)))
    for piece in pieces:
        lines.feed(piece)
    lines.complete()
    joined: Shown = []
    for name, pid, text in found:
        assert text.endswith("\n")
        if joined and joined[-1][:2] == (name, pid):
            text = joined.pop()[2] + text
        joined.append((name, pid, text))
    return joined


WRITTEN = (
    signature("first", 7)
    + b"one\ntwo\nhalf"
    + signature("second", 8)
    + "größer\n".encode()
    + b"\x1b[31mred\x1b[0m\nno end"
)
EXPECTED = [
    ("first", 7, "one\ntwo\nhalf\n"),
    ("second", 8, "größer\n\x1b[31mred\x1b[0m\nno end\n"),
]


@given(st.lists(st.integers(0, len(WRITTEN)), max_size=8))
def test_cut_anywhere_it_reads_the_same(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(WRITTEN)]
    pieces = [WRITTEN[start:stop] for start, stop in zip(edges, edges[1:], strict=False)]
    assert shown(*pieces) == EXPECTED


def test_half_a_line_waits_for_its_end() -> None:
    found: Shown = []
    lines = Lines(lambda name, pid, text: found.append((name, pid, text)))
    lines.feed(signature("f") + b"half")
    assert found == [] and lines.within_line
    lines.feed(b" and half\n")
    assert found == [("f", 1, "half and half\n")] and not lines.within_line


def test_a_line_without_end_is_shown_in_pieces() -> None:
    found: Shown = []
    lines = Lines(lambda name, pid, text: found.append((name, pid, text)))
    for _ in range(10):
        lines.feed(b"x" * LINE_MAX)
    lines.complete()
    assert sum(len(text.rstrip("\n")) for _, _, text in found) == 10 * LINE_MAX
    assert all(len(text) <= 2 * LINE_MAX + 1 for _, _, text in found)


def test_a_signature_that_is_cut_behind_a_long_line() -> None:
    written = b"x" * (LINE_MAX + 1) + signature("f")
    for cut in range(LINE_MAX + 1, len(written)):
        assert shown(written[:cut], written[cut:] + b"mine\n")[-1] == ("f", 1, "mine\n")


def test_what_only_begins_like_a_signature_is_text() -> None:
    text = BEGINNING + b"y" * SIGNATURE_MAX + b"\nnext\n"
    assert shown(text) == [("", 0, text.decode())]
    assert shown(BEGINNING + b"no number" + END + b"z\n") == [("", 0, "z\n")]
