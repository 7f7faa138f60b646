"""The special globals of a module: its file, package, docstring, spec and loader.

Functions use them: relative imports and resources are found by ``__package__``, and tracebacks ask
the loader for source lines. So a namespace that stands for a module in a worker has them too.
"""

from __future__ import annotations

import _pickle
from _frozen_importlib import ModuleSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TEXTS = ("__file__", "__package__", "__doc__", "__cached__")

#: Modules whose loaders work in any process. Other loaders may refer to any object.
_LOADERS = ("_frozen_importlib", "_frozen_importlib_external", "zipimport")


def facts_of(names: dict[str, Any]) -> bytes:
    """Return the facts about the module whose globals are `names`, pickled."""
    try:
        return _pickle.dumps(_facts(names), 5)
    except Exception:
        return b""  # the program has bound these names to objects of other types


def _facts(names: dict[str, Any]) -> tuple[Any, ...]:
    path = names.get("__path__")
    spec = names.get("__spec__")
    return (
        {name: _text(names[name]) for name in _TEXTS if name in names},
        None if path is None else _texts(path),
        _parts(spec) if isinstance(spec, ModuleSpec) else None,
        _loader(names.get("__loader__") or getattr(spec, "loader", None)),
    )


def take_over(names: dict[str, Any], facts: bytes) -> None:
    """Set in `names` what `facts_of` returned elsewhere."""
    texts, path, parts, loader = _pickle.loads(facts)
    names.update(texts)
    if path is not None:
        names["__path__"] = path
    names["__loader__"] = None if loader is None else _loaded(loader)
    if parts is not None:
        names["__spec__"] = _spec(names["__loader__"], *parts)


def _text(value: Any) -> Any:
    # A plain `str`: under pdb the file is of a subclass.
    return value if value is None else str(value)


def _texts(path: Any) -> list[str]:
    # A plain list: the path of a namespace package is of a class that searches for it again.
    return [str(entry) for entry in path]


def _parts(spec: ModuleSpec) -> tuple[Any, ...]:
    """Return the parts of a spec, without those that hold in this process only."""
    places = spec.submodule_search_locations
    return (
        spec.name,
        _text(spec.origin),
        None if places is None else _texts(places),
        spec.has_location,
        _text(spec.cached),
    )


def _spec(
    loader: Any,
    name: str,
    origin: str | None,
    places: list[str] | None,
    has_location: bool,
    cached: str | None,
) -> ModuleSpec:
    spec = ModuleSpec(name, loader, origin=origin)
    spec.submodule_search_locations = places
    spec.has_location = has_location
    spec.cached = cached
    return spec


def is_usual(loader: Any) -> bool:
    """Return whether a loader is one of importlib's own."""
    kind = loader if isinstance(loader, type) else type(loader)
    return kind.__module__ in _LOADERS


def _loader(loader: Any) -> bytes | None:
    if not is_usual(loader):
        return None
    try:
        return _pickle.dumps(loader, 5)
    except Exception:
        return None  # a version of Python whose loaders cannot be pickled


def _loaded(loader: bytes) -> Any:
    try:
        return _pickle.loads(loader)
    except Exception:
        return None  # a worker can do without it
