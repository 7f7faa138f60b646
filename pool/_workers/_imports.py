"""Run a step when a module has been imported, for modules that most processes never import."""

from __future__ import annotations

import sys
from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

    Step = Callable[[ModuleType], object]

    #: ``around(load)`` calls ``load()``, and does something before and after that.
    Around = Callable[[Callable[[], object]], object]


def _as_it_is(load: Callable[[], object]) -> None:
    load()


class _Afterwards:
    """A finder that finds modules as the others do, and takes a step after each is loaded.

    Parameters
    ----------
    steps : dict
        By name of a module: ``step(module)`` is called once, when the module is loaded.
    around : callable, optional
        ``around(load)`` calls ``load()``, which runs a module's code and takes its step; one import
        may be part of another.
    """

    def __init__(self, steps: dict[str, Step], around: Around = _as_it_is) -> None:
        self._steps = steps
        self._around = around

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name not in self._steps:
            return None
        finders: list[Any] = list(sys.meta_path)
        if self not in finders:
            return None
        for finder in finders[finders.index(self) + 1 :]:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    loader: Any = _Loader(spec.loader, partial(self.load, name))
                    spec.loader = loader
                return spec
        return None

    def load(self, name: str, loader: Loader, module: ModuleType) -> None:
        """Run the code of a module, and take its step, once.

        Not when the module is found: a caller may have wanted the spec alone, and an import may
        fail.
        """
        step = self._steps.get(name)
        try:
            self._around(partial(self._load, name, loader, module))
        except BaseException:
            # The import has failed, were it at the last moment: by an interrupt. So the module will
            # be another one when it is imported again, and the step is due again.
            if step is not None and self._steps.setdefault(name, step) is step:
                if self not in sys.meta_path:
                    sys.meta_path.insert(0, self)
            raise

    def _load(self, name: str, loader: Loader, module: ModuleType) -> None:
        loader.exec_module(module)
        self._take_step(name, module)

    def _take_step(self, name: str, module: ModuleType) -> None:
        step = self._steps.pop(name, None)
        if not self._steps and self in sys.meta_path:
            sys.meta_path.remove(self)
        if step is not None:
            step(module)


class _Loader:
    """Load one module as another loader does.

    That one stays as it is: it may be the loader of other modules, too, of all in an archive for
    one.
    """

    def __init__(self, loader: Loader, load: Callable[[Loader, ModuleType], None]) -> None:
        self._loader = loader
        self._load = load

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        # What the module sees is what it would see without this.
        module.__loader__ = module.__spec__.loader = self._loader
        self._load(self._loader, module)


def when_imported(name: str, step: Step) -> None:
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
        sys.meta_path.insert(0, _Afterwards({name: step}))


def when_each_is_imported(steps: Mapping[str, Step], around: Around) -> None:
    """Call ``step(module)`` for each of many modules; by one finder, which each import asks.

    Parameters
    ----------
    steps : dict
        By name of the module, as for `when_imported`.
    around : callable
        ``around(load)`` calls ``load()``, which runs such a module's code and takes its step; one
        import may be part of another.
    """
    later = {name: step for name, step in steps.items() if name not in sys.modules}
    if later:
        sys.meta_path.insert(0, _Afterwards(later, around))
    for name, step in steps.items():
        if name not in later:
            step(sys.modules[name])
