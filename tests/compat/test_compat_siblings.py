"""Classes of which a package keeps account, in modules that only the main module imports."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest
from poolscripts import run_as_fork as run

if TYPE_CHECKING:
    from pathlib import Path

as_forks = pytest.mark.parametrize("library", ["multiprocessing", "pool"])

#: Finds classes by name when they are first used, as SQLAlchemy does.
MAPPING = """
    class Meta(type):
        def __init__(cls, name, bases, names):
            super().__init__(name, bases, names)
            if bases:
                cls.registry[name] = cls

    class Registry:
        def __init__(self):
            self.names = {}
        def __setitem__(self, name, kind):
            self.names[name] = kind

    class Schema:
        names = {}
        def __init_subclass__(cls):
            Schema.names[cls.__name__] = cls
    """

MODELS = {
    "base": """
        from mapping import Meta, Registry
        registry = Registry()

        class Base(metaclass=Meta):
            registry = registry
        """,
    "user": """
        from base import Base
        from mapping import Schema

        class User(Base):
            related = "Order"

            def orders(self):
                return self.registry.names[self.related].__name__

        class UserSchema(Schema):
            nested = "OrderSchema"

            def orders(self):
                return Schema.names[self.nested].__name__
        """,
    "order": """
        from base import Base

        class Order(Base):
            pass
        """,
    "schemas": """
        from mapping import Schema

        class OrderSchema(Schema):
            pass
        """,
    "session": """
        from base import registry

        def names(n):
            return sorted(registry.names)
        """,
}

MAIN = """
    import sys
    sys.path.append("site-packages")
    import user, session
    import order, schemas

    def orders(n):
        return user.User().orders(), user.UserSchema().orders()

    if __name__ == "__main__":
        {before}
        with Pool({arguments}) as p:
            print(p.map(orders, [1]), p.map(session.names, [1]))
    """

EXPECTED = "[('Order', 'OrderSchema')] [['Order', 'User']]\n"


def install(tmp_path: Path) -> None:
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "mapping.py").write_text(textwrap.dedent(MAPPING))


@as_forks
@pytest.mark.parametrize("arguments", ["1", 'context=__import__("pool").get_context("spawn")'])
def test_classes_that_are_found_by_name(library: str, arguments: str, tmp_path: Path) -> None:
    install(tmp_path)
    if library == "multiprocessing":
        arguments = "1"
    main = MAIN.format(arguments=arguments, before="pass")
    assert run(library, tmp_path, **MODELS, main=main) == EXPECTED


@as_forks
def test_beside_a_thread(library: str, tmp_path: Path) -> None:
    """Then nothing is forked from the program, so all of it is imported."""
    install(tmp_path)
    before = "import threading, time; threading.Thread(target=time.sleep, args=(2,)).start()"
    main = MAIN.format(arguments="1", before=before)
    assert run(library, tmp_path, **MODELS, main=main) == EXPECTED


@as_forks
def test_models_of_the_main_module(library: str, tmp_path: Path) -> None:
    """Those of other modules may be related to them, though a task does not name them."""
    install(tmp_path)
    main = """
    import sys
    sys.path.append("site-packages")
    import user
    from base import Base

    Base._sa_registry = Base.registry

    class Order(Base):
        pass

    def orders(n):
        return user.User().orders()

    if __name__ == "__main__":
        with Pool(1) as p:
            print(p.map(orders, [1]))
    """
    assert run(library, tmp_path, **MODELS, main=main) == "['Order']\n"


@as_forks
def test_a_class_that_a_call_has_mapped(library: str, tmp_path: Path) -> None:
    """As `map_imperatively` of SQLAlchemy's does, by which a class stays free of it."""
    venue = """
    class Venue:
        pass
    """
    main = """
    import venue

    def start_mappers():
        venue.Venue._sa_class_manager = object()
        venue.Venue.__mapper__ = [venue.Venue]

    def task(n):
        return hasattr(venue.Venue, "__mapper__")

    if __name__ == "__main__":
        start_mappers()
        with Pool(1) as p:
            print(p.map(task, [1]))
    """
    assert run(library, tmp_path, venue=venue, main=main) == "[True]\n"
