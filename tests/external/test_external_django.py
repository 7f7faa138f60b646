"""Use pools in programs that have set Django up: tasks have its settings, apps and models."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest
from poolscripts import run_program

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("django")

METHODS = pytest.mark.parametrize(
    ("library", "method"),
    [("multiprocessing", "fork"), ("pool", None), ("pool", "forkserver"), ("pool", "spawn")],
)

SETTINGS = """
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "shop"]
INSTALLED_APPS.append("orders.apps.Orders")
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "data.sqlite"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "de"
# A quick one: the tests are about other things.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
LOGGING = {
    "version": 1,
    "handlers": {"out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
    "root": {"handlers": ["out"], "level": "INFO"},
}
"""

#: Modules that import each other only in the order in which Django has them imported.
MODULES = {
    "tools.py": """
        from django.conf import settings
        from django.utils import timezone

        def language():
            return settings.LANGUAGE_CODE

        def overridden(_):
            return settings.LANGUAGE_CODE, settings.ANSWER
        """,
    "shop/models.py": """
        from django.db import models
        from tools import language

        class Item(models.Model):
            name = models.CharField(max_length=9)

            def label(self):
                return f"{self.name} ({language()})"
        """,
    "orders/models.py": """
        from django.db import models
        from shop.models import Item

        class Order(models.Model):
            item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="orders")
        """,
    "orders/apps.py": """
        from django.apps import AppConfig

        class Orders(AppConfig):
            name = "orders"
            readied = 0

            def ready(self):
                Orders.readied += 1
        """,
}

HEAD = """
import os, sys
from multiprocessing import get_context as standard_context
from {library} import get_context
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
import django
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections
from django.db.models import Q
from django.utils.translation import gettext, gettext_lazy
import logging, orders.apps, tools
from orders.models import Order
from shop.models import Item

Pool = get_context({method!r}).Pool
call_command("migrate", run_syncdb=True, verbosity=0)
item = Item.objects.create(name="tea")
Order.objects.create(item=item)
User.objects.create_user("ann", password="secret")
connections.close_all()
"""


def run(library: str, method: str | None, body: str, folder: Path) -> str:
    for name, text in {"settings.py": SETTINGS, **MODULES}.items():
        file = folder / name
        if file.parent != folder:
            file.parent.mkdir(exist_ok=True)
            (file.parent / "__init__.py").touch()
        file.write_text(textwrap.dedent(text))
    head = HEAD.format(library=library, method=method)
    return run_program(head + textwrap.dedent(body), folder).succeeded()


@METHODS
def test_what_apps_set_when_they_are_ready_is_set_once(
    library: str, method: str | None, tmp_path: Path
) -> None:
    """Also where setting Django up is the first thing that a worker does."""
    body = """
    def readied(_):
        return orders.apps.Orders.readied

    connections.close_all()
    with Pool(1) as p:
        print(p.map(readied, range(2)))
    """
    assert run(library, method, body, tmp_path) == "[1, 1]\n"


@METHODS
def test_tasks_of_a_program_that_has_set_django_up(
    library: str, method: str | None, tmp_path: Path
) -> None:
    """Whatever a worker imports first; in later pools, too, whose forkserver has loaded Django."""
    body = """
    lazy = gettext_lazy("No")

    def orders_of(pk):
        return Item.objects.get(pk=pk).orders.count()

    def known(user):
        return user.username, user.check_password("secret"), User.objects.count()

    def readied(_):
        return orders.apps.Orders.readied

    def found(query):
        return [item.label() for item in Item.objects.filter(query)]

    def said(_):
        logging.getLogger("shop").info("as configured, once")
        return gettext("Yes"), str(lazy)

    def missing(_):
        Item.objects.get(pk=99)

    def language(_):
        return tools.language()

    calls = [(language, 0), (orders_of, 1), (known, User.objects.get()), (readied, 0)]
    calls += [(found, Q(name="tea") | Q(pk=7)), (said, 0), (Item.label, item), (missing, 0)]
    connections.close_all()
    for function, argument in calls + calls[:4]:
        with Pool(1) as p:
            try:
                print(p.map(function, [argument]), flush=True)
            except Item.DoesNotExist as error:
                print(error)
    """
    first = "['de']\n[1]\n[('ann', True, 1)]\n[1]\n"
    then = "[['tea (de)']]\nas configured, once\n[('Ja', 'Nein')]\n['tea (de)']\n"
    error = "Item matching query does not exist.\n"
    assert run(library, method, body, tmp_path) == first + then + error + first


def test_settings_that_the_program_has_configured(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "models.py").write_text(
        "from django.db import models\nclass Item(models.Model):\n    pass\n"
    )
    body = """
    from django.conf import settings
    settings.configure(
        INSTALLED_APPS=["shop"], DEFAULT_AUTO_FIELD="django.db.models.BigAutoField", ANSWER=42
    )
    import django
    django.setup()
    from shop.models import Item
    from pool import Pool

    with Pool(1) as p:
        print(p.map(lambda item: (item.pk, type(item) is Item, settings.ANSWER), [Item(pk=3)]))
    """
    printed = run_program(textwrap.dedent(body), tmp_path).succeeded()
    assert printed == "[(3, True, 42)]\n"


def test_looking_for_a_module_sets_nothing_up(tmp_path: Path) -> None:
    """To send an error looks for modules, without importing them."""
    body = """
    from importlib.util import find_spec
    from django.core.exceptions import AppRegistryNotReady

    def fail(_):
        raise AppRegistryNotReady("not yet")

    def look(_):
        spec = find_spec("shop")
        before = "shop.models" in sys.modules
        import shop
        return before, shop.__spec__.loader is shop.__loader__ and spec is not None

    with Pool(1) as p:
        try:
            p.map(fail, [0])
        except AppRegistryNotReady as error:
            print(error)
        print(p.map(look, [0]))
    """
    assert run("pool", "forkserver", body, tmp_path) == "not yet\n[(False, True)]\n"


def test_tasks_that_need_no_django_do_not_wait_for_it(tmp_path: Path) -> None:
    body = """
    def loaded(_):
        return [name for name in ("tools", "shop.models", "orders") if name in sys.modules]

    with Pool(1) as p:
        print(p.map(loaded, [0]))
    """
    assert run("pool", "forkserver", body, tmp_path) == "[[]]\n"


@METHODS
def test_tests_of_a_program(library: str, method: str | None, tmp_path: Path) -> None:
    """Tasks find the database that a test has made, and what the test has overridden."""
    body = """
    from django.conf import settings
    from django.test.utils import override_settings, setup_databases, teardown_databases

    settings.DATABASES["default"]["TEST"]["NAME"] = "test.sqlite"

    def look(_):
        Item.objects.create(name="made")
        names = sorted(item.name for item in Item.objects.all())
        return names, settings.LANGUAGE_CODE, settings.ANSWER, len(settings.INSTALLED_APPS)

    made = setup_databases(0, False)
    Item.objects.create(name="test")
    connections.close_all()
    with override_settings(LANGUAGE_CODE="fr"), override_settings(ANSWER=42):
        with Pool(1) as p:
            print(p.map(look, [0]))
        with Pool(1) as p:
            print(p.map(tools.overridden, [0]))
    teardown_databases(made, 0)
    print([item.name for item in Item.objects.all()])
    """
    expected = "[(['made', 'test'], 'fr', 42, 4)]\n[('fr', 42)]\n['tea']\n"
    assert run(library, method, body, tmp_path) == expected


def test_an_interrupt_while_django_is_set_up(tmp_path: Path) -> None:
    """It strikes afterwards: Django could neither go on nor begin anew."""
    for name, text in {
        "settings.py": "INSTALLED_APPS = ['shop.apps.Shop']",
        "shop/__init__.py": "",
        "shop/apps.py": """
            import signal
            from django.apps import AppConfig

            class Shop(AppConfig):
                name = "shop"

                def ready(self):
                    signal.raise_signal(signal.SIGINT)
            """,
        "tools.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text))
    body = """
    import os
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    import django.apps, django.conf
    from pool._workers._carried import _django
    _django._write(django.conf, _django._Given([], True, None, ["shop"], False))
    try:
        import tools
    except KeyboardInterrupt:
        print("struck", django.apps.apps.ready)
    import tools
    """
    assert run_program(textwrap.dedent(body), tmp_path).succeeded() == "struck True\n"
