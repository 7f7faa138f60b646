"""README and its translation say the same: headings, tables, links, quoted code and programs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENGLISH, KOREAN = "README.md", "README.ko.md"

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r" *#.*")


def prose(document: str) -> str:
    """Return a document without its blocks of code."""
    return BLOCK.sub("", (ROOT / document).read_text(encoding="utf-8"))


def headings(document: str) -> list[str]:
    return re.findall(r"^(#+) ", prose(document), re.MULTILINE)


def blocks(document: str) -> list[tuple[str, str]]:
    """Return language and text of each block; comments may be translated."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return [(language, COMMENT.sub("", code)) for language, code in BLOCK.findall(text)]


def links(document: str) -> list[str]:
    """Return where links lead; the list of the pages, which are in English, is README's own."""
    targets = re.findall(r"\]\(([^)]+)\)", prose(document))
    return [to for to in targets if to not in (ENGLISH, KOREAN) and not to.startswith("docs/")]


def tables(document: str) -> list[list[list[str]]]:
    """Return the tables, as rows of what each cell has between backticks."""
    found: list[list[list[str]]] = []
    inside = False
    for line in prose(document).splitlines():
        if line.startswith("|"):
            if not inside:
                found.append([])
            cells = line.strip("|").split("|")
            found[-1].append(["; ".join(sorted(re.findall(r"`([^`]+)`", cell))) for cell in cells])
        inside = line.startswith("|")
    return found


@pytest.mark.parametrize("part", [headings, blocks, links, tables])
def test_both_have_the_same(part: object) -> None:
    assert callable(part)
    assert part(ENGLISH), "nothing found"
    assert part(KOREAN) == part(ENGLISH), f"what changes in {ENGLISH} changes in {KOREAN} too"


def test_each_leads_to_the_other() -> None:
    assert f"]({KOREAN})" in prose(ENGLISH)
    assert f"]({ENGLISH})" in prose(KOREAN)
