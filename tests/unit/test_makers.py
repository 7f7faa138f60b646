"""Which packages are noted as the program's own since their code makes pools."""

from __future__ import annotations

import multiprocessing
import sys
from typing import Any

import pytest

import pool
from pool._faces._makers import note_maker
from pool._workers._variables import _data

# Is installed wherever these tests run.
PACKAGE = "psutil"


@pytest.fixture(autouse=True)
def noted(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    noted: set[str] = set()
    monkeypatch.setattr(_data, "noted_tops", noted)
    monkeypatch.setattr(_data, "known_tops", {})
    return noted


def make(name: str, text: str = "make[0]()", **names: Any) -> None:
    """Have a module of this name, which has these names, make a pool by such a function."""
    namespace = {"__name__": name, **names}
    exec(f"def main(make):\n    {text}\n", namespace)
    namespace["main"]([note_maker])


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("make[0]()", {"Pool": pool.Pool}),
        ("make[0]()", {"multiprocessing": pool}),
        ("make[0]()", {"get_context": pool.get_context}),
        ("from pool import Pool; make[0]()", {}),
    ],
    ids=["class", "module", "function", "in the function"],
)
def test_a_package_that_has_imported_ours_is_noted(
    noted: set[str], text: str, names: dict[str, Any]
) -> None:
    assert not _data.is_of_program(PACKAGE)
    make(f"{PACKAGE}.cli", text, **names)
    assert noted == {PACKAGE}
    assert _data.is_of_program(f"{PACKAGE}.config")


@pytest.mark.parametrize("name", ["__main__", "json.tool", "pool._context", ""])
def test_others_are_not(noted: set[str], name: str) -> None:
    make(name, Pool=pool.Pool)
    assert noted == set()


def test_a_library_that_is_given_a_pool_is_not(noted: set[str]) -> None:
    make(PACKAGE, arguments=[pool.Pool])
    assert noted == set()


@pytest.mark.parametrize("how", ["module", "class"])
def test_a_library_that_has_ours_in_place_of_the_standards_is_not(
    noted: set[str], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "module":
        monkeypatch.setitem(sys.modules, "multiprocessing", pool)
    else:
        monkeypatch.setattr(multiprocessing, "Pool", pool.Pool)
    make(PACKAGE, "from multiprocessing import Pool; make[0]()")
    assert noted == set()
