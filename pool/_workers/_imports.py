"""Run a step when a module has been imported, for modules that most processes never import.

And what else takes part in the imports of some modules.
"""

from __future__ import annotations

import sys
from _thread import _local as local

from store._interrupts import shield

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

    Step = Callable[[ModuleType], object]

    #: ``around(load)`` calls ``load()``, and does something before and after that.
    Around = Callable[[Callable[[], object]], object]


def _as_it_is(load: Callable[[], object]) -> None:
    load()


class Finder:
    """Finds modules as the finders behind it do, and has some of them loaded in another way."""

    def concerns(self, name: str) -> bool:
        """Return whether a module is one of these."""
        raise NotImplementedError

    def loader(self, name: str, loader: Loader) -> Loader:
        """Return what is to load such a module in place of the loader that was found."""
        raise NotImplementedError

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not self.concerns(name):
            return None
        finders: list[Any] = list(sys.meta_path)
        if self not in finders:
            return None  # another thread has just removed it
        for finder in finders[finders.index(self) + 1 :]:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = self.loader(name, spec.loader)
                return spec
        return None


class LoaderInPlace:
    """Load one module as another loader does.

    Whatever else is done is not done when the module is found: a caller may have wanted the spec
    alone. And that loader stays as it is: it may be the loader of other modules, too, of all in an
    archive for one.

    Parameters
    ----------
    loader : Loader
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        # What the module sees is what it would see without this.
        module.__loader__ = module.__spec__.loader = self._loader
        self.load(module)

    def load(self, module: ModuleType) -> None:
        """Run the module's code."""
        self._loader.exec_module(module)


class _Afterwards(Finder):
    """Takes a step after each of some modules is loaded.

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

    def concerns(self, name: str) -> bool:
        return name in self._steps

    def loader(self, name: str, loader: Loader) -> Any:
        return _LoaderWith(loader, lambda module, load: self._load(name, module, load))

    def _load(self, name: str, module: ModuleType, load: Callable[[], object]) -> None:
        """Load a module, and take its step, once."""
        step = self._steps.get(name)
        try:
            self._around(lambda: self._load_now(name, module, load))
        except BaseException:
            # The import has failed, were it at the last moment: by an interrupt. So the module will
            # be another one when it is imported again, and the step is due again.
            if step is not None and self._steps.setdefault(name, step) is step:
                if self not in sys.meta_path:
                    sys.meta_path.insert(0, self)
            raise

    def _load_now(self, name: str, module: ModuleType, load: Callable[[], object]) -> None:
        load()
        step = self._steps.pop(name, None)
        if not self._steps and self in sys.meta_path:
            sys.meta_path.remove(self)
        if step is not None:
            step(module)


class _LoaderWith(LoaderInPlace):
    """Load a module by ``action(module, load)``, where ``load()`` runs its code."""

    def __init__(
        self, loader: Loader, action: Callable[[ModuleType, Callable[[], object]], None]
    ) -> None:
        super().__init__(loader)
        self._action = action

    def load(self, module: ModuleType) -> None:
        load = super().load
        self._action(module, lambda: load(module))


class Outermost(local):
    """What is done around imports of some modules: once, though one import is within the other.

    It is for `when_each_is_imported`. Each thread has its own imports.
    """

    _under_way = False

    def __call__(self, load: Callable[[], object]) -> None:
        """Call ``load()``, which imports one module or several."""
        if self._under_way:
            load()
            return
        # An interrupt of the task strikes in the modules' own code, or when all this is over: never
        # while one half of what is done around them is.
        token = shield.enter()
        try:
            self.begin()
            self._under_way = True
            # Where it was closed already, by whoever imports, it stays so.
            shield.opened(load) if token else load()
        finally:
            self._under_way = False
            try:
                self.end()
            finally:
                shield.leave(token)

    def begin(self) -> None:
        """Do something before the outermost import."""

    def end(self) -> None:
        """Do something when the outermost import is over, or has failed."""


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
