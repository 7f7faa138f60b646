"""The documents: links lead somewhere, code is code, and nothing of this machine is in them."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

import pool
import store

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "README.ko.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```python[ \t]*\n(.*?)^```", re.MULTILINE | re.DOTALL)

# Written by `make bench`; a fresh clone has them, a copy of the sources may not.
MADE = re.compile(r"bench/results/")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def broken_links(path: Path) -> list[str]:
    targets = LINK.findall(path.read_text(encoding="utf-8"))
    return [
        target
        for target in targets
        if "://" not in target and not MADE.search(target) and not leads_somewhere(path, target)
    ]


def leads_somewhere(path: Path, target: str) -> bool:
    """Return whether a link of a document is to a file that exists, and to a heading in it."""
    file, _, anchor = target.partition("#")
    found = path.parent / file if file else path
    return found.exists() and (not anchor or anchor in anchors(found))


def anchors(path: Path) -> set[str]:
    """Return what the headings of a document are called in links."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_lead_to_files(path: Path) -> None:
    assert broken_links(path) == []


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text(
        "# What it's for\n[a](there.md), [b](https://example.org/not-looked-at), "
        "[c](#what-its-for), [d](document.md#what-for)"
    )
    assert broken_links(document) == ["there.md", "document.md#what-for"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_code_can_be_parsed(path: Path) -> None:
    for source in BLOCK.findall(path.read_text(encoding="utf-8")):
        ast.parse(source)


def test_every_page_is_reached_from_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = [page for page in DOCUMENTS if "docs" in page.parts]
    assert pages, "no pages found"
    assert [name(page) for page in pages if f"({name(page)})" not in text] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebooks_are_small_and_were_run_in_order(path: Path) -> None:
    assert path.stat().st_size < 50_000
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    counts = [cell["execution_count"] for cell in cells if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))
    outputs = [out["output_type"] for cell in cells for out in cell.get("outputs", [])]
    assert "error" not in outputs


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebooks_show_what_the_guide_says_of_them(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    defined = [
        found for source in code for found in re.findall(r"^def (\w+)", source, re.MULTILINE)
    ]
    assert len(defined) > len(set(defined)), "no function is redefined"
    assert not any("__main__" in source for source in code)
    assert any("SIGINT" in source for source in code), "nobody presses stop"
    outputs = json.dumps([cell.get("outputs", []) for cell in cells], ensure_ascii=False)
    assert "100%|██████████|" in outputs, "no progress bar came to its end"
    assert "<b>pool.Pool</b>" in outputs, "no pool shows itself as a table"


def test_notebooks_are_found() -> None:
    assert len(NOTEBOOKS) >= 5


def test_every_public_name_is_in_the_reference() -> None:
    pages = sorted((ROOT / "docs" / "reference").glob("*.md"))
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    described = set(re.findall(r"^\.\. auto\w+:: (\w+\.\w+)", text, re.MULTILINE))
    # The codec is what `pool` and `store` are made with; a user has no need of it.
    inner = {"OUT_OF_BAND_MIN", "Encoded", "decode", "encode"}
    ours = {f"pool.{name}" for name in {*pool._HOMES, *pool._RAY} - {"ThreadPool"}}
    assert described >= ours | {f"store.{name}" for name in set(store.__all__) - inner}


# These say in their first docstring what each module is for, those of the store in a document.
PACKAGES = sorted(path.parent for path in (ROOT / "pool").glob("_*/**/__init__.py"))


def unmentioned(package: Path, text: str) -> list[str]:
    """Return the modules of a package that a text about it leaves out."""
    modules = {path.stem for path in package.glob("_*.py")}
    modules |= {path.parent.name for path in package.glob("_*/__init__.py")}
    named = set(re.findall(r"`(_\w+)`", text))
    return sorted(modules - named - {"__init__", "__main__"})


@pytest.mark.parametrize("package", PACKAGES, ids=name)
def test_packages_say_what_their_modules_are_for(package: Path) -> None:
    tree = ast.parse((package / "__init__.py").read_text(encoding="utf-8"))
    assert unmentioned(package, ast.get_docstring(tree) or "") == []


def test_the_design_says_what_the_modules_of_the_store_are_for() -> None:
    document = ROOT / "docs" / "design" / "store.md"
    assert unmentioned(ROOT / "store", document.read_text(encoding="utf-8")) == []
