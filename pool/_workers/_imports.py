"""Steps that wait until a module is imported, for modules that most processes do without."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any


class _Afterwards:
    """A finder that leaves the finding to others and adds a step after the loading."""

    def __init__(self, name: str, step: Callable[[ModuleType], object]) -> None:
        self._name = name
        self._step = step
        self._is_finding = False

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name != self._name or self._is_finding:
            return None
        from importlib.util import find_spec

        self._is_finding = True
        try:
            spec = find_spec(name)
        finally:
            self._is_finding = False
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            # Not before: who asked may have wanted the spec alone, and an import may fail. And a
            # loader may be that of other modules as well, of all in an archive for one.
            if module.__name__ == self._name and self in sys.meta_path:
                sys.meta_path.remove(self)
                self._step(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]  # of this one loader
        return spec


def when_imported(name: str, step: Callable[[ModuleType], object]) -> None:
    """Do something with a module: now if it is there, or else when it is imported.

    Parameters
    ----------
    name : str
    step : callable
        Called with the module.
    """
    module = sys.modules.get(name)
    if module is not None:
        step(module)
    else:
        sys.meta_path.insert(0, _Afterwards(name, step))
