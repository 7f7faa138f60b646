"""A step that waits for a module comes after its first import, and after no other."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pool._workers._imports import when_imported

NAME = "awaited_module"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    finders = list(sys.meta_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{NAME}.py").write_text("import builtins\nbuiltins.abs(missing)\n")
    yield tmp_path
    sys.meta_path[:] = finders
    for name in (NAME, "another_module"):
        sys.modules.pop(name, None)


def make_importable(folder: Path) -> None:
    (folder / f"{NAME}.py").write_text("value = 'of the module'\n")
    importlib.invalidate_caches()


@pytest.fixture
def steps() -> list[str]:
    """Return a list of what the steps did."""
    done: list[str] = []
    when_imported(NAME, lambda module: done.append(module.__name__))
    return done


def test_once(folder: Path, steps: list[str]) -> None:
    make_importable(folder)
    finders = len(sys.meta_path)
    assert not steps
    importlib.reload(importlib.import_module(NAME))
    assert steps == [NAME]
    assert len(sys.meta_path) == finders - 1


def test_several(folder: Path, steps: list[str]) -> None:
    when_imported(NAME, lambda module: steps.append(module.value))
    make_importable(folder)
    importlib.import_module(NAME)
    assert sorted(steps) == [NAME, "of the module"]


def test_a_module_that_is_there(folder: Path) -> None:
    make_importable(folder)
    module = importlib.import_module(NAME)
    found = []
    when_imported(NAME, found.append)
    assert found == [module]


def test_an_import_that_fails_is_not_the_last(folder: Path, steps: list[str]) -> None:
    with pytest.raises(NameError):
        importlib.import_module(NAME)
    assert not steps
    make_importable(folder)
    importlib.import_module(NAME)
    assert steps == [NAME]


def test_asking_where_it_is_imports_nothing(folder: Path, steps: list[str]) -> None:
    make_importable(folder)
    assert importlib.util.find_spec(NAME) is not None
    assert not steps
    importlib.import_module(NAME)
    assert steps == [NAME]


def test_a_loader_that_has_other_modules_too(folder: Path, steps: list[str]) -> None:
    (folder / f"{NAME}.py").unlink()
    archive = folder / "modules.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(f"{NAME}.py", "")
        file.writestr("another_module.py", "")
    sys.path.insert(0, str(archive))
    importlib.import_module(NAME)
    importlib.import_module("another_module")
    assert steps == [NAME]
