"""Run a step when a module has been imported, for modules that most processes never import."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any


class _Afterwards:
    """A finder that finds one module as the others do, and takes a step after it is loaded.

    Parameters
    ----------
    name : str
        Of the module.
    step : callable
        ``step(module)`` is called once, when the module is loaded.
    """

    def __init__(self, name: str, step: Callable[[ModuleType], object]) -> None:
        self._name = name
        self._step = step

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        finders: list[Any] = list(sys.meta_path)
        if name != self._name or self not in finders:
            return None
        for finder in finders[finders.index(self) + 1 :]:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    loader: Any = _Loader(spec.loader, self)
                    spec.loader = loader
                return spec
        return None

    def loaded(self, module: ModuleType) -> None:
        """Take the step, once.

        Not when the module is found: a caller may have wanted the spec alone, and an import may
        fail.
        """
        if self in sys.meta_path:
            sys.meta_path.remove(self)
            self._step(module)


class _Loader:
    """Load one module as another loader does.

    That one stays as it is: it may be the loader of other modules, too, of all in an archive for
    one.
    """

    def __init__(self, loader: Loader, finder: _Afterwards) -> None:
        self._loader = loader
        self._finder = finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        # What the module sees is what it would see without this.
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._finder.loaded(module)


def when_imported(name: str, step: Callable[[ModuleType], object]) -> None:
    """Call ``step(module)``: now if the module is loaded, otherwise as soon as it is imported.

    Parameters
    ----------
    name : str
        Of the module, in full.
    step : callable
        Called when all of the module's code has run, before `import` returns.
    """
    module = sys.modules.get(name)
    if module is not None:
        step(module)
    else:
        sys.meta_path.insert(0, _Afterwards(name, step))
