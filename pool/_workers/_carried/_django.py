"""Django: its settings, and that it is set up, before a worker imports the program's modules."""

from __future__ import annotations

import sys
from functools import partial
from importlib.machinery import PathFinder
from typing import NamedTuple

from pool._unraisable import report
from pool._workers._imports import Finder, LoaderInPlace
from pool._workers._warmup import is_installed
from store._interrupts import shield

from ._setting import Setting, packed, unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
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


class _Given(NamedTuple):
    """What workers are told, as `marshal` takes it."""

    #: Settings that the program has configured or overridden, by name and pickled.
    own: list[bytes]
    #: Whether all others come from a module. Its name is in the environment, which workers have.
    has_module: bool
    #: Names of the databases, pickled. In tests they are not those of the settings: no task is to
    #: write to the real ones.
    databases: bytes | None
    #: The top modules of installed apps.
    tops: list[str]
    #: Whether tasks have needed Django already.
    needed: bool


def _read(module: Any) -> tuple[Any, ...] | None:
    if not sys.modules["django.apps"].apps.ready:
        return None
    own: dict[str, Any] = {}
    holder = module.settings._wrapped
    while isinstance(holder, module.UserSettingsHolder):
        own = {name: value for name, value in vars(holder).items() if name.isupper()} | own
        holder = holder.default_settings
    has_module = isinstance(holder, module.Settings)
    databases = {
        alias: database.get("NAME") for alias, database in module.settings.DATABASES.items()
    }
    entries = [entry for entry in map(packed, own.items()) if entry]
    return tuple(_Given(entries, has_module, packed(databases), _tops(), bool(_needed)))


def _write(module: Any, value: tuple[Any, ...]) -> None:
    given = _Given(*value)
    if not given.has_module and not module.settings.configured:
        module.settings.configure(**dict(map(unpacked, given.own)))
    finder = _SetUp(given)
    if given.needed:
        finder.set_up()  # much is loaded before the fork: tasks may import nothing more
    else:
        sys.meta_path.insert(0, finder)


class _SetUp(Finder):
    """Has Django set up before the first module is loaded that may need it.

    To set it up imports all modules of the program's apps. Tasks that need none of them, in a
    service that computes on the side, are not to wait for it. And none of them may be half imported
    then: they import each other, in the order that Django has them imported in.

    Parameters
    ----------
    given : _Given
        Modules of its `tops` may need it, and all that are the program's own.
    """

    def __init__(self, given: _Given) -> None:
        self._given = given

    def concerns(self, name: str) -> bool:
        top = name.partition(".")[0]
        return top in self._given.tops or _is_own(top)

    def loader(self, name: str, loader: Loader) -> Any:
        return _Loader(loader, self)

    def set_up(self) -> None:
        """Set Django up, once."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        elif not self._given.needed:
            return  # another import has done so
        # Variables of the program's modules are put in when all is over: apps set some when they
        # are ready, as they did in the program, before it had them as they are now.
        restored: Any = sys.modules.get("pool._workers._variables._restored")
        as_one_import = _at_once if restored is None else restored.importing
        # Were it interrupted, it could neither go on nor be done again: `populate` refuses that.
        token = shield.enter()
        try:
            as_one_import(partial(_set_up, self._given))
        except (Exception, SystemExit) as error:
            report(error, "raised while a worker set up Django, as the program has")
        finally:
            shield.leave(token)


def _at_once(action: Callable[[], object]) -> None:
    action()


class _Loader(LoaderInPlace):
    """Load one module as another loader does, unless it has been loaded by setting Django up."""

    def __init__(self, loader: Loader, finder: _SetUp) -> None:
        super().__init__(loader)
        self._finder = finder
        self._loaded = False

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        self._finder.set_up()
        module = sys.modules.get(spec.name)
        self._loaded = module is not None
        return module or super().create_module(spec)

    def load(self, module: ModuleType) -> None:
        if not self._loaded:
            super().load(module)


def _is_own(top: str) -> bool:
    """Return whether a top module is the program's own: neither Python's nor an installed one."""
    if top in sys.stdlib_module_names or top in ("pool", "store"):
        return False  # these packages may be used without being installed
    spec = PathFinder.find_spec(top)
    if spec is None:
        return False
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    return not any(is_installed(place) for place in places)


def _set_up(given: _Given) -> None:
    """Do what `django.setup` does, except for loggers: those are carried as they are."""
    from django.apps import apps
    from django.conf import settings

    if given.has_module:
        for name, value in map(unpacked, given.own):
            setattr(settings, name, value)
    databases = {} if given.databases is None else unpacked(given.databases)
    for alias, name in databases.items():
        if alias in settings.DATABASES:
            settings.DATABASES[alias]["NAME"] = name
    if settings.FORCE_SCRIPT_NAME:
        from django.urls import set_script_prefix

        set_script_prefix(settings.FORCE_SCRIPT_NAME)
    apps.populate(settings.INSTALLED_APPS)


SETTINGS = {"django.conf": Setting("django.conf", _read, _write)}
