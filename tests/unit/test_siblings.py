"""Which modules workers import with which others."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from pool._workers._patches import _siblings
from pool._workers._patches._siblings import siblings

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[[str, str], ModuleType]

HOOKS = """
class Meta(type): pass
class Hooked:
    def __init_subclass__(cls): pass
class Tables: pass
"""


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return what makes a module of the program's own, and make one that is installed."""
    own: dict[str, ModuleType] = {}

    def add(name: str, text: str) -> ModuleType:
        module = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(text, vars(module))
        own[name] = module
        return module

    add("bought", HOOKS).__file__ = "/usr/lib/site-packages/bought.py"
    add("pydantic", HOOKS).__file__ = "/usr/lib/site-packages/pydantic.py"
    own.clear()
    monkeypatch.setattr(_siblings, "_known", {})
    monkeypatch.setattr(_siblings.snapshots, "modules", lambda: own)
    return add


def test_all_come_with_the_first_and_that_with_each(make: Make) -> None:
    make("one", "import bought\nclass A(metaclass=bought.Meta): pass")
    make("two", "import bought\nclass B(metaclass=bought.Meta): pass")
    make("three", "import bought\nclass C(bought.Hooked): pass")
    make("user", "import bought\ntables = bought.Tables()")
    make("apart", "from one import A\nimport bought\nimport enum\nclass D(enum.Enum): X = 1")
    assert sorted(siblings()[0]) == [
        ("one", "three"),
        ("one", "two"),
        ("three", "one"),
        ("two", "one"),
        ("user", "one"),
    ]


def test_a_hook_of_the_programs_own_that_calls_that_of_a_package(make: Make) -> None:
    make("meta", "import bought\nclass Own(bought.Meta): pass")
    make("one", "import meta\nclass A(metaclass=meta.Own): pass")
    make("two", "import one\nclass B(one.A): pass")
    assert set(siblings()[0]) == {("one", "two"), ("two", "one")}


@pytest.mark.parametrize(
    "text",
    [
        "import abc\nclass A(abc.ABC): pass",
        "import pydantic\nclass A(pydantic.Hooked): pass",
        "class A:\n def __init_subclass__(cls): pass",
        "import bought\nA = bought.Hooked",
    ],
)
def test_nothing_of_which_no_package_keeps_account(text: str, make: Make) -> None:
    make("one", text)
    make("two", text.replace("class A", "class B"))
    assert siblings()[0] == []


def test_a_site_of_django_is_set_up_as_a_whole(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    make("one", "import bought\nclass A(bought.Hooked): pass")
    make("two", "import bought\nclass B(bought.Hooked): pass")
    assert len(siblings()[0]) == 2
    monkeypatch.setitem(sys.modules, "django.apps", ModuleType("django.apps"))
    assert siblings()[0] == []


def test_what_is_defined_later_counts(make: Make) -> None:
    make("one", "import bought\nclass A(bought.Hooked): pass")
    make("two", "import bought")
    assert siblings()[0] == []
    exec("class B(bought.Hooked): pass", vars(sys.modules["two"]))
    assert set(siblings()[0]) == {("one", "two"), ("two", "one")}
    del sys.modules["two"].__dict__["B"]
    assert siblings()[0] == []


def test_mapped_by_a_call_or_by_a_decorator(make: Make) -> None:
    make("one", "class A:\n _sa_class_manager = 1\n __tablename__ = 'a'")
    assert siblings()[1] == ""
    make("two", "class B:\n _sa_class_manager = 1")
    assert siblings()[1] == "two.B"


def test_models_of_the_main_module(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    main = ModuleType("__main__")
    exec("class Order:\n _sa_registry = None", vars(main))
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert siblings()[1] == ""
    make("one", "import bought\nclass A(bought.Hooked): pass")
    assert siblings()[1] == "__main__.Order"
