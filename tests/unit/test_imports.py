"""Imports point downwards only, and asking for the Pool loads nothing heavy."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pool

ROOT = Path(pool.__file__).parents[1]

# From the ground up. A module may import from its own layer and from those before it.
LAYERS = [
    # Of the store: what is pure or a system call; memory and what is in it; then who holds it.
    [
        "store._allocator",
        "store._anonymous",
        "store._cgroups",
        "store._children",
        "store._errors",
        "store._forks",
        "store._copying",
        "store._handlers",
        "store._html",
        "store._interrupts",
        "store._ledger",
        "store._marks",
        "store._memory",
        "store._returned",
        "store._settings",
    ],
    ["store._budget", "store._mappings", "store._readers", "store._segments"],
    ["store._finding"],
    ["store._arrow", "store._codec"],
    ["store._handed", "store._orphans"],
    ["store._arena"],
    ["store._depot"],
    ["store._links", "store._pickling", "store._refs"],
    ["store._verbs"],
    ["store"],
    [
        "pool._errors",
        "pool._clock",
        "pool._cpus",
        "pool._context",
        "pool._memory",
        "pool._unraisable",
    ],
    ["pool._pickling"],
    ["pool._transport"],
    ["pool._workers"],
    ["pool._local"],
    ["pool._cluster"],
    ["pool.exceptions"],
    ["pool._objects"],
    ["pool._in_worker"],
    ["pool._runtime"],
    ["pool._ray"],
    ["pool._faces"],
    ["pool.pool", "pool.dummy", "pool.actor", "pool.util", "pool"],
]

# Upward imports that are meant, each inside a function.
EXCEPTIONS = {
    ("pool._context", "pool"): "a context makes Pools: it asks the public surface when called",
}


def layer_of(module: str) -> int:
    """Return the height of the layer whose name is the longest beginning of this one's."""
    heights = {
        name: height
        for height, names in enumerate(LAYERS)
        for name in names
        if module == name or module.startswith(name + ".")
    }
    return heights[max(heights, key=len)]


def modules() -> dict[str, Path]:
    found = {}
    for package in ("store", "pool"):
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported_by(module: str) -> Iterator[str]:
    """Return the modules of ours that one imports, anywhere except for type checkers."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{origin(node, package)}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            target = closest_module(name)
            if target is not None and target != module:
                yield target


def statements(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from statements(child)


def origin(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parts, node.module] if node.module else parts)


def closest_module(name: str) -> str | None:
    """Return the module that a dotted name, of a module or of something in it, belongs to."""
    while name not in MODULES:
        name, dot, _ = name.rpartition(".")
        if not dot:
            return None
    return name


def upward(module: str) -> list[str]:
    return [
        target
        for target in imported_by(module)
        if layer_of(target) > layer_of(module) and (module, target) not in EXCEPTIONS
    ]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_downwards(module: str) -> None:
    assert upward(module) == []


def test_exceptions_are_still_needed() -> None:
    for module, target in EXCEPTIONS:
        assert target in set(imported_by(module)), (module, target)


def test_store_knows_nothing_of_pool() -> None:
    for module, path in MODULES.items():
        if layer_of(module) == 0:
            # Nor in a text that is imported later.
            assert "import pool" not in path.read_text() and "from pool" not in path.read_text()


def test_layers_are_found_in_the_tree() -> None:
    # So that a renamed package cannot slip out of the check.
    assert {name for names in LAYERS for name in names} <= set(MODULES)
    assert layer_of("pool._faces._pool") > layer_of("pool._local._scheduler") > layer_of("store")


def test_documents_show_the_layers_in_their_order() -> None:
    # A layer goes by its first module; the last ones only give names to the others.
    layers = [names[0].removeprefix("pool.") for names in LAYERS[:-1] if "pool" in names[0]]
    assert re.findall(r"^``(\w+)`` ", pool.__doc__ or "", re.MULTILINE) == layers
    overview = (ROOT / "docs" / "design" / "overview.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `pool/(\w+)(?:\.py)?` \|", overview, re.MULTILINE)
    assert rows == ["__init__", *reversed(layers)]


def test_overview_names_what_there_is() -> None:
    overview = (ROOT / "docs" / "design" / "overview.md").read_text(encoding="utf-8")
    files = re.findall(r"`(_\w+/_\w+\.py)", overview)
    assert files
    assert [file for file in files if not (ROOT / "pool" / file).exists()] == []


def test_check_sees_an_upward_import(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    low = tmp_path / "_low.py"
    low.write_text("def f():\n    from .._faces import _pool\n    import store\n")
    monkeypatch.setitem(MODULES, "pool._transport._low", low)
    assert list(imported_by("pool._transport._low")) == ["pool._faces._pool", "store"]
    assert upward("pool._transport._low") == ["pool._faces._pool"]


HEAVY = {
    "asyncio",
    "cloudpickle",
    "concurrent",
    "ctypes",
    "dataclasses",
    "enum",
    "inspect",
    "logging",
    "multiprocessing",
    "numpy",
    "pandas",
    "pickle",
    "psutil",
    "re",
    "socket",
    "subprocess",
    "typing",
}


def loaded_by(statement: str) -> set[str]:
    """Return what a bare interpreter loads for a statement, beyond what it had before."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); before = set(sys.modules)\n"
        f"{statement}\n"
        "after = set(sys.modules); import json; print(json.dumps(sorted(after - before)))"
    )
    done = subprocess.run(
        # No site-packages hooks: they may have loaded some of these already.
        [sys.executable, "-I", "-S", "-c", program, str(ROOT)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("statement", ["import pool", "import store", "from pool import Pool"])
def test_start_is_light(statement: str) -> None:
    assert {name.partition(".")[0] for name in loaded_by(statement)} & HEAVY == set()


def test_a_forkserver_is_started_before_the_rest_is_imported() -> None:
    """Both take long, and are done at the same time on two CPUs."""
    loaded = loaded_by("from pool import Pool")
    assert "pool._workers._early" in loaded
    assert loaded & {"pool._pickling", "store._codec", "collections", "functools"} == set()
    assert "pool._pickling" in loaded_by("import pool._faces._calls")


def test_asking_for_the_class_of_a_pool_loads_nothing() -> None:
    statement = "from pool import Pool; assert Pool.__new__(Pool).__class__ is Pool"
    assert "multiprocessing" not in loaded_by(statement)


def test_check_sees_a_heavy_import() -> None:
    assert loaded_by("import inspect") >= {"inspect", "ast", "dis", "enum"}
