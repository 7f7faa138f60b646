"""Classes of the main module, with all that a class can be."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from picklingpeer import run_main

from pool._pickling._classes import is_accounted_for


def test_enums(tmp_path: Path) -> None:
    run_main(
        """
        import dataclasses, enum
        class Coord(bytes, enum.Enum):
            def __new__(cls, value, label):
                self = bytes.__new__(cls, [value])
                self._value_ = value
                self.label = label
                return self
            PX = (1, "P.X")
            PY = (2, "P.Y")
        class Planet(enum.Enum):
            EARTH = (6.0, 2.0)
            MARS = (1.0, 4.0)
            def __init__(self, mass, radius):
                self.mass, self.radius = mass, radius
            @property
            def gravity(self): return self.mass / self.radius
        class Alias(enum.Enum):
            A = 1
            B = 1
            C = 2
        class Number(enum.IntEnum):
            ONE = 1
            TWO = enum.auto()
        class Flag(enum.Flag):
            R = enum.auto()
            W = enum.auto()
            RW = R | W
        class Bits(enum.IntFlag):
            A = enum.auto()
            B = enum.auto()
        class Name(enum.StrEnum):
            ALPHA = enum.auto()
            @classmethod
            def _missing_(cls, value): return cls.ALPHA
        @dataclasses.dataclass
        class Data:
            x: int
            y: int
        class Mixed(Data, enum.Enum):
            P = 1, 2
        class Tuple(tuple, enum.Enum):
            A = (1, 2),
        Functional = enum.Enum("Functional", "X Y")
        def look():
            return repr([
                Coord.PX.label, bytes(Coord.PX), Coord.PX.value, Coord(2) is Coord.PY,
                Planet.EARTH.gravity, Planet((1.0, 4.0)) is Planet.MARS, list(Alias.__members__),
                Alias.B is Alias.A, Alias["B"], Number.TWO + 1, Flag.RW == Flag.R | Flag.W,
                Flag(3), Flag.RW & Flag.W, Bits.A | Bits.B, ~Bits.A, Name("odd"), Mixed.P,
                Mixed.P.x, Tuple.A, Tuple.A.value, Functional.Y, len(Planet), list(Number),
                isinstance(Coord.PX, bytes), Name.ALPHA.upper()])
        assert w(look) == look(), w(look)
        for member in (Coord.PX, Planet.MARS, Alias.B, Number.TWO, Flag.R, Bits.B, Name.ALPHA,
                       Mixed.P, Tuple.A, Functional.X):
            assert w(lambda m: m, member) is member
            assert w(lambda m: type(m)(m.value) is m, member)
        both = w(lambda: Bits.A | Bits.B)
        assert both == Bits.A | Bits.B and type(both) is Bits
        """,
        tmp_path,
    )


def test_metaclasses_and_hooks(tmp_path: Path) -> None:
    run_main(
        """
        class Plugin:
            known = {}
            def __init_subclass__(cls, *, key): cls.known[key] = cls
        class Json(Plugin, key="json"): pass
        class Meta(type):
            def __new__(meta, name, bases, space, extra):
                cls = super().__new__(meta, name, bases, space)
                cls.extra = extra
                return cls
            def __init__(cls, name, bases, space, extra): super().__init__(name, bases, space)
            def __len__(cls): return 7
        class Made(metaclass=Meta, extra=3): pass
        class Named:
            def __set_name__(self, owner, name): self.name = name
        class Owner:
            field = Named()
        class Quiet:
            seen = []
            def __init_subclass__(cls): cls.seen.append(cls.__name__)
        class Child(Quiet): pass
        def look():
            return (Plugin.known["json"] is Json, Made.extra, type(Made) is Meta, len(Made),
                    Owner.field.name, Quiet.seen)
        assert w(look) == look(), w(look)
        def later():
            class Another(Json, key="another"): pass
            return sorted(Plugin.known)
        assert w(later) == ["another", "json"] and sorted(Plugin.known) == ["json"]
        """,
        tmp_path,
    )


def test_abstract_slotted_generic_and_cooperative(tmp_path: Path) -> None:
    run_main(
        """
        import abc, collections, dataclasses, functools, typing
        class Shape(abc.ABC):
            @abc.abstractmethod
            def area(self): ...
            @property
            @abc.abstractmethod
            def name(self): ...
        class Square(Shape):
            __slots__ = ("side",)
            def __init__(self, side): self.side = side
            def area(self): return self.side ** 2
            name = "square"
        @Shape.register
        class Registered: pass
        class Base:
            def __init__(self, **rest): self.log = ["Base"]
        class Left(Base):
            def __init__(self, **rest): super().__init__(**rest); self.log.append("Left")
        class Right(Base):
            def __init__(self, **rest): super().__init__(**rest); self.log.append("Right")
        class Both(Left, Right):
            def __init__(self): super().__init__(); self.log.append(__class__.__name__)
        T = typing.TypeVar("T")
        class Stack(typing.Generic[T]):
            def __init__(self) -> None: self.items: list[T] = []
            def push(self, item: T) -> "Stack[T]": self.items.append(item); return self
        class IntStack(Stack[int]): pass
        class Proto(typing.Protocol):
            def area(self) -> int: ...
        @dataclasses.dataclass(order=True)
        class Item:
            weight: float
            tags: list = dataclasses.field(default_factory=list, compare=False)
            kind: typing.ClassVar[str] = "item"
        @dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
        class Frozen:
            a: int = 1
        class Typed(typing.TypedDict):
            x: int
        class Lazy:
            @functools.cached_property
            def value(self): return 42
            @functools.singledispatchmethod
            def kind(self, x): return "other"
            @kind.register
            def _(self, x: int): return "int"
            add = functools.partialmethod(lambda self, a, b: a + b, 1)
        def look():
            try:
                Shape()
                abstract = False
            except TypeError:
                abstract = True
            try:
                Square(1).other = 1
                slotted = "other" in Square.__slots__
            except AttributeError:
                slotted = True
            try:
                Frozen().a = 2
            except dataclasses.FrozenInstanceError:
                frozen = True
            return (abstract, slotted, frozen, Square(3).area(), isinstance(Registered(), Shape),
                    Both().log, IntStack().push(1).items, IntStack.__orig_bases__[0].__args__,
                    isinstance(Square(1), Square), sorted([Item(2.0), Item(1.0)])[0].weight,
                    Item(1.0).tags, Item.kind, dataclasses.asdict(Frozen(a=3)),
                    dataclasses.replace(Frozen(), a=9).a,
                    [f.name for f in dataclasses.fields(Item)],
                    Typed(x=1), Typed.__annotations__, Lazy().value, Lazy().kind(1),
                    Lazy().kind(""), Lazy().add(2), Shape.__doc__)
        assert w(look) == look(), (w(look), look())
        for thing in Square(2), Both(), IntStack(), Item(3.0), Frozen(a=5), Lazy():
            assert type(w(lambda t: t, thing)) is type(thing)
        assert w(lambda f: f, Frozen(a=5)) == Frozen(a=5)
        assert w(lambda s: s.area(), Square(5)) == 25
        """,
        tmp_path,
    )


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated at once")
def test_annotations_are_looked_up_in_the_class_itself(tmp_path: Path) -> None:
    run_main(
        """
        import abc, gc
        class Plain:
            kind: Inner = 3
            class Inner: pass
        class Abstract(abc.ABC):  # whose namespace cannot be pickled
            first: int = 1
            later: Missing
            @abc.abstractmethod
            def run(self): ...
        def look(kind):
            captured = vars(kind)["__annotate_func__"].__closure__[0].cell_contents
            return captured is gc.get_referents(vars(kind))[0]
        assert look(Plain) and w(look, Plain) and w(look, Abstract)
        assert w(lambda: Plain.__annotations__["kind"] is Plain.Inner)
        def added():
            Abstract.Missing = str
            return Abstract.__annotations__["later"]
        assert w(added) is str
        """,
        tmp_path,
    )


def test_classes_that_refer_to_each_other(tmp_path: Path) -> None:
    run_main(
        """
        class Node:
            def __init__(self, value): self.value, self.leaf = value, None
            def grow(self): self.leaf = Leaf(self); return self
        class Leaf(Node):
            root_type = Node
            def __init__(self, root): super().__init__(root.value + 1)
            def up(self): return Node(self.value)
        Node.leaf_type = Leaf
        assert w(lambda: type(Node(1).grow().leaf) is Node.leaf_type is Leaf)
        assert w(lambda n: n.grow().leaf.up().value, Node(1)) == 2
        assert type(w(lambda: Leaf(Node(1)))) is Leaf
        """,
        tmp_path,
    )


def test_exotic_attributes(tmp_path: Path) -> None:
    run_main(
        """
        import types
        class Odd:
            view = types.MappingProxyType({"a": 1})
            kinds = (types.FunctionType, type(None), type(Ellipsis), types.CodeType)
            numbers = {1: "x"}.keys()
            def __getattr__(self, name):
                if name.startswith("__"):
                    raise AttributeError(name)
                return name
            def __class_getitem__(cls, item): return item
            class Nested:
                deep = 1
        assert w(lambda: (dict(Odd.view), Odd.kinds, list(Odd.numbers), Odd().other, Odd[3],
                          Odd.Nested.deep)) == ({"a": 1}, Odd.kinds, [1], "other", 3, 1)
        assert type(w(lambda: Odd.Nested())) is Odd.Nested
        alias = list[Odd] | None
        assert w(lambda x: x, alias) == alias
        space = types.SimpleNamespace(kind=Odd)
        assert w(lambda s: s, space).kind is Odd
        """,
        tmp_path,
    )


def test_slots_are_slots_again(tmp_path: Path) -> None:
    run_main(
        """
        import abc, collections, copyreg, dataclasses, enum, typing, weakref
        class Base:
            __slots__ = ("x",)
            def __init__(self): self.x = 1
        class Child(Base):
            __slots__ = ["y"]
            def __init__(self): super().__init__(); self.y = 2
        class Open(Base):
            def __init__(self): super().__init__(); self.z = 3
        class Single:
            __slots__ = "name"
            def __init__(self): self.name = "n"
        class Private:
            __slots__ = ("__p", "q")
            def __init__(self): self.__p, self.q = 5, 6
        class _Derived(Private):
            __slots__ = {"__p": "not the other one"}
            def __init__(self): super().__init__(); self.__p = 7
        class Alone:
            __slots__ = "__p"
            def __init__(self): self.__p = 8
        class Weak:
            __slots__ = ("a", "__weakref__")
            def __init__(self): self.a = 1
        class Dict:
            __slots__ = ("a", "__dict__")
            def __init__(self): self.a = 1; self.b = 2
        class Nothing: __slots__ = ()
        class Less(Nothing): __slots__ = ()
        class Plain: pass
        class Under(Plain):
            __slots__ = ("w",)
            def __init__(self): self.w = 1; self.v = 2
        class Two(Nothing, Base):
            __slots__ = ("m",)
            def __init__(self): super().__init__(); self.m = 1
        class Beside(Nothing, Plain):
            __slots__ = ("m",)
            def __init__(self): self.m = 1; self.n = 2
        class Int(int): __slots__ = ()
        class Number(Int, Plain): __slots__ = ()
        class Text(str):
            __slots__ = ("lang",)
            def __init__(self, _=""): self.lang = "en"
        class Keys:
            __slots__ = {"a": 1}.keys()
            def __init__(self): self.a = 1
        @dataclasses.dataclass(slots=True)
        class Data:
            p: int = 1
            q: list = dataclasses.field(default_factory=list)
        @dataclasses.dataclass(frozen=True, slots=True, weakref_slot=True)
        class Frozen:
            a: int = 1
        T = typing.TypeVar("T")
        class Box(typing.Generic[T]):
            __slots__ = ("item",)
            def __init__(self): self.item = 1
        class IntBox(Box[int]):
            __slots__ = ("more",)
            def __init__(self): super().__init__(); self.more = 2
        class Shape(abc.ABC):
            __slots__ = ("side",)
            @abc.abstractmethod
            def area(self): ...
        class Square(Shape):
            __slots__ = ()
            def __init__(self): self.side = 3
            def area(self): return self.side ** 2
        class Pair(collections.namedtuple("Pair", "a b", defaults=[1, 2])): __slots__ = ()
        class Typed(typing.NamedTuple):
            a: int = 1
        class Same(Typed): __slots__ = ()
        class Meta(type):
            def __new__(meta, name, bases, space):
                space["__slots__"] = space["fields"]
                return super().__new__(meta, name, bases, space)
        class Found(metaclass=Meta):
            fields = ("a",)
            def __init__(self): self.a = 4
        class Late: pass
        Late.__slots__ = ("nothing",)
        def look(obj):
            kind = type(obj)
            try:
                referable = weakref.ref(obj)() is obj
            except TypeError:
                referable = False
            written = vars(kind).get("__slots__")
            if not isinstance(written, (str, tuple, list, dict)):
                written = sorted(written or "")
            kinds = [(name, str(type(value))) for name, value in vars(kind).items()]
            return (
                kind.__name__, kind.__basicsize__, kind.__dictoffset__, kind.__weakrefoffset__,
                referable, sorted(getattr(obj, "__dict__", {}).items()),
                written,
                [(name, getattr(obj, name, None)) for name in copyreg._slotnames(kind)],
                sorted(name for name, kind in kinds if "_descriptor" in kind),
            )
        kinds = [Base, Child, Open, Single, Private, _Derived, Alone, Weak, Dict, Nothing, Less,
                 Plain, Under, Two, Beside, Int, Number, Text, Keys, Data, Frozen, Box, IntBox,
                 Square, Pair, Same, Found, Late]
        for obj in (kind() for kind in kinds):
            there, back = w(lambda obj: (look(obj), obj), obj)
            assert there == look(obj), (there, look(obj))
            assert type(back) is type(obj) and look(back) == look(obj), (look(back), look(obj))
        assert w(lambda: [look(kind()) for kind in kinds]) == [look(kind()) for kind in kinds]
        # Classes made in a worker, too.
        def make():
            class Made(Private):
                __slots__ = ("__r",)
                def __init__(self): super().__init__(); self.__r = 9
            return Made(), look(Made())
        made, there = w(make)
        assert look(made) == there, (look(made), there)
        """,
        tmp_path,
    )


def test_slots_behind_descriptors(tmp_path: Path) -> None:
    run_main(
        """
        class Default:
            def __init__(self, member, value): self.member, self.value = member, value
            def __get__(self, obj, owner):
                if obj is None:
                    raise AttributeError("of objects only")
                try:
                    return self.member.__get__(obj, owner)
                except AttributeError:
                    return self.value
            def __set__(self, obj, value): self.member.__set__(obj, value)
        class Point:
            __slots__ = ("x", "__y", "_z")
            def __init__(self, x): self.x = x
            @property
            def y(self): return self.__y
            @property
            def z(self): return getattr(self, "_z", 3)
            @z.setter
            def z(self, value): self._z = value
        for name, value in ("x", 1), ("_Point__y", 2):
            setattr(Point, name, Default(vars(Point)[name], value))
        def look(point): return point.x, point.y, point.z, hasattr(point, "__dict__")
        point = Point(5)
        assert w(look, point) == look(point) == (5, 2, 3, False)
        back = w(lambda point: point, point)
        assert type(back) is Point and look(back) == look(point)
        # The definition goes once more: there the class is complete.
        Point.move = lambda self: setattr(self, "z", self.z + self.x)
        def moved(point):
            point.move()
            return look(point)
        assert w(moved, point) == (5, 2, 8, False)
        """,
        tmp_path,
    )


def test_slots_of_enums(tmp_path: Path) -> None:
    run_main(
        """
        import dataclasses, enum
        class Greeting:
            __slots__ = ()
            def greet(self): return "hello " + self.name
        class Kind(Greeting, enum.Enum):
            __slots__ = ()
            A = 1
        @dataclasses.dataclass(slots=True)
        class Size:
            width: int
            height: int = 2
        class Sheet(Size, enum.Enum):
            SMALL = 1
            LARGE = 3, 4
        class Twice(enum.Enum):
            __slots__ = ("twice",)
            A = 1
            def __init__(self, value): self.twice = 2 * value
        def look():
            return (Kind.A.greet(), [(each.name, each.width, each.height) for each in Sheet],
                    Sheet.SMALL.value, Twice.A.twice, type(Twice.__dict__["twice"]).__name__)
        assert w(look) == look(), (w(look), look())
        for member in (Kind.A, *Sheet, Twice.A):
            assert w(lambda member: member, member) is member
        """,
        tmp_path,
    )


def test_abstract_classes_made_with_keywords(tmp_path: Path) -> None:
    run_main(
        """
        import abc
        class Plugin(abc.ABC):
            def __init_subclass__(cls, *, key): cls.key = key
        class Json(Plugin, key="json"): pass
        class Text(Plugin, key="text"): pass
        def look():
            return [[isinstance(kind(), other) for other in (Plugin, Json, Text)]
                    for kind in (Json, Text)]
        assert w(look) == look() == [[True, True, False], [True, False, True]], w(look)
        """,
        tmp_path,
    )


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated at once")
def test_references_to_classes_that_are_defined_later(tmp_path: Path) -> None:
    """They hold all globals, among them what is large, or cannot be sent."""
    (tmp_path / "shapes.py").write_text(
        "import dataclasses\n"
        "unsendable = (n for n in range(3))\n"
        "@dataclasses.dataclass\nclass Shape:\n    inner: Other = None\nclass Other: pass\n"
    )
    run_main(
        """
        import dataclasses
        from annotationlib import ForwardRef, Format, get_annotations
        import shapes
        from pool._pickling import dumps_to_worker
        unsendable = (n for n in range(3))
        large = bytes(1_000_000)
        @dataclasses.dataclass
        class Node:
            value: int
            next: Node | None = None
            tag: list[Tag] = dataclasses.field(default_factory=list)
        Tagged = get_annotations(Node, format=Format.FORWARDREF)["tag"]
        class Tag: pass
        def make():
            def local():
                class Inner:
                    of: Late
                    both: Late | None
                found = get_annotations(Inner, format=Format.FORWARDREF)
                Late = int
                return found
            return local()
        inner = make()
        assert w(lambda node: node.value, Node(3)) == 3
        assert len(dumps_to_worker(Node(1)).data) < 20_000
        def types():
            fields = {field.name: field.type for field in dataclasses.fields(Node)}
            return [repr(fields["next"].evaluate()), fields["next"].__owner__ is Node,
                    repr(Tagged), Tagged.__args__[0].evaluate().__name__,
                    Tagged.__args__[0].__globals__ is globals()]
        assert w(types) == types(), (w(types), types())
        assert w(lambda: [kind.evaluate() for kind in inner.values()]) == [int, int | None]
        reference = Tagged.__args__[0]
        assert w(lambda given: given.evaluate() is Tag, reference)
        assert w(lambda given: given, reference).evaluate() is Tag
        other = dataclasses.fields(shapes.Shape)[0].type
        assert w(lambda given: given.evaluate() is shapes.Other, other)
        assert w(lambda given: given, other).evaluate() is shapes.Other
        """,
        tmp_path,
    )


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated at once")
def test_annotations_that_are_asked_for_while_the_class_is_made(tmp_path: Path) -> None:
    (tmp_path / "curious.py").write_text(
        "class Meta(type):\n"
        "    def __new__(metaclass, *arguments):\n"
        "        made = super().__new__(metaclass, *arguments)\n"
        "        try:\n"
        "            made.__annotations__\n"
        "        except NameError:\n"
        "            pass\n"
        "        return made\n"
    )
    run_main(
        """
        import curious
        class Model(metaclass=curious.Meta):
            value: int
            next: Model | None
        def look(): return repr(Model.__annotations__)
        assert "__annotations_cache__" not in vars(Model)
        assert w(look) == look(), w(look)
        """,
        tmp_path,
    )


@pytest.mark.skipif(sys.version_info < (3, 12), reason="syntax of 3.12")
def test_an_alias_with_parameters_that_is_part_of_itself_is_refused_at_once(tmp_path: Path) -> None:
    """Such functions are inherited; it took seconds to find that out by going round in circles."""
    run_main(
        """
        from pool import CannotSend
        from pool._pickling import dumps_to_worker
        type Pair[T] = tuple[T, T]
        type Nested[T] = list[Nested[T]] | T
        def pairs(): return str(Pair[int]), str(Pair[str].__value__), Pair
        assert w(lambda: pairs()[:2]) == pairs()[:2]
        try:
            dumps_to_worker(lambda: Nested)
        except CannotSend as error:
            assert "type alias 'Nested'" in str(error), error
        else:
            raise AssertionError
        """,
        tmp_path,
    )


def test_classes_that_hold_methods_of_their_own(tmp_path: Path) -> None:
    """As pydantic's models hold their validators, under names that come before the methods."""
    run_main(
        """
        class Model:
            __checks__ = {}
            def __init__(self, value): self.value = self.__checks__["value"](value)
            @classmethod
            def positive(cls, value):
                if value < 0: raise ValueError(cls.__name__)
                return value
            @classmethod
            def any(cls, value): return value
        class Other(Model): pass
        Model.__checks__["value"] = Model.positive
        Other.__checks__ = {"value": Other.any}
        assert w(lambda model: model.value, Model(3)) == 3
        def bound():
            return [kind.__checks__["value"].__self__ is kind for kind in (Model, Other)]
        assert w(bound) == [True, True]
        assert w(lambda: Other(-1).value) == -1
        made = w(lambda: Model.positive)
        assert made == Model.positive, made
        """,
        tmp_path,
    )


@pytest.mark.parametrize(
    "mark", ["_sa_registry", "_sa_class_manager", "__struct_config__", "yaml_loader"]
)
def test_classes_of_which_packages_keep_account_are_not_copied(mark: str) -> None:
    """Of SQLAlchemy, msgspec and PyYAML: those workers inherit, or it is said that they cannot."""
    assert is_accounted_for(type("Marked", (), {mark: None}))
    assert not is_accounted_for(type("Plain", (), {}))
