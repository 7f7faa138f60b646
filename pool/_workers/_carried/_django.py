"""Django: its settings, and that it is set up, before a worker imports the program's modules."""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder

from pool._unraisable import report
from pool._workers._warmup import is_installed

from ._setting import Setting, packed, unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any


#: Parts of Django that can be imported before it is set up, and look at no settings then.
_EARLY = frozenset({"apps", "conf", "core", "db", "dispatch", "utils"})

#: Parts that only tasks import: others come with handlers of Django's that loggers have.
_TELLING = ("django.db.", "django.utils.translation.")

#: Those that tasks of this program have had to import.
_needed: set[str] = set()


def wait_for_set_up(names: Iterable[str]) -> set[str]:
    """Return those of `names` that workers alone may import, after they have set Django up.

    Modules with models register them, which fails before that or, once done, makes a second
    import fail.
    """
    tops = set(_tops()) - {"django"}
    _needed.update(name for name in names if name.startswith(_TELLING))
    return {
        name
        for name in names
        if (parts := name.split(".", 2))[0] in tops
        or (parts[0] == "django" and len(parts) > 1 and parts[1] not in _EARLY)
    }


def _tops() -> list[str]:
    """Return the top modules of Django and of the apps that are installed."""
    apps = sys.modules["django.apps"].apps
    names = ["django"]
    if apps.ready:
        names += (app.name.partition(".")[0] for app in apps.get_app_configs())
    return list(dict.fromkeys(names))


def _read(module: Any) -> tuple[list[bytes], list[str], bool] | None:
    """Return what `settings.configure` was given, and what `_SetUp` is to know.

    That is the top modules of installed apps, and whether tasks have needed Django already.
    """
    if not sys.modules["django.apps"].apps.ready:
        return None
    settings = module.settings._wrapped
    own = []
    # With a module of settings, its name is in the environment, which workers have.
    if not hasattr(settings, "SETTINGS_MODULE") or settings.SETTINGS_MODULE is None:
        own = [packed(entry) for entry in vars(settings).items() if entry[0].isupper()]
    return [entry for entry in own if entry], _tops(), bool(_needed)


def _write(module: Any, value: tuple[list[bytes], list[str], bool]) -> None:
    own, tops, needed = value
    if own and not module.settings.configured:
        module.settings.configure(**dict(map(unpacked, own)))
    if needed:
        _set_up()  # much of it is loaded before the fork: tasks may use it and import nothing more
    else:
        sys.meta_path.insert(0, _SetUp(tops))


class _SetUp:
    """Finder that finds as the others do; Django is set up before the first module is loaded.

    The first that may need it, that is. To set it up imports all modules of the program's apps.
    Tasks that need none of them, in a service that computes on the side, are not to wait for it.
    And none of them may be half imported then: they import each other, in the order that Django
    has them imported in.

    Parameters
    ----------
    tops : list of str
        The top modules that may need it, besides all that are the program's own.
    """

    def __init__(self, tops: Sequence[str]) -> None:
        self._tops = frozenset(tops)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        finders: list[Any] = list(sys.meta_path)
        if self not in finders:
            return None  # another thread is at it
        top = name.partition(".")[0]
        if top not in self._tops and not _is_own(top):
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

    def set_up(self) -> None:
        """Set Django up, once."""
        if self not in sys.meta_path:
            return
        sys.meta_path.remove(self)
        try:
            _set_up()
        except (Exception, SystemExit) as error:
            report(error, "raised while a worker set up Django, as the program has")


class _Loader:
    """Load one module as another loader does, unless it has been loaded by setting Django up.

    Not when the module is found: a caller may have wanted the spec alone.
    """

    def __init__(self, loader: Loader, finder: _SetUp) -> None:
        self._loader = loader
        self._finder = finder
        self._loaded = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        self._finder.set_up()
        module = sys.modules.get(spec.name)
        self._loaded = module is not None
        return module or self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        # What the module sees is what it would see without this.
        module.__loader__ = module.__spec__.loader = self._loader
        if not self._loaded:
            self._loader.exec_module(module)


def _is_own(top: str) -> bool:
    """Return whether a top module is the program's own: neither Python's nor an installed one."""
    if top in sys.stdlib_module_names:
        return False
    spec = PathFinder.find_spec(top)
    if spec is None:
        return False
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    return not any(is_installed(place) for place in places)


def _set_up() -> None:
    """Do what `django.setup` does, except for loggers: those are carried as they are."""
    from django.apps import apps
    from django.conf import settings

    if settings.FORCE_SCRIPT_NAME:
        from django.urls import set_script_prefix

        set_script_prefix(settings.FORCE_SCRIPT_NAME)
    apps.populate(settings.INSTALLED_APPS)


SETTINGS = {"django.conf": Setting("django.conf", _read, _write)}
