"""Exceptions arrive, whatever they do on the way."""

from __future__ import annotations

from pathlib import Path

from picklingpeer import run_main

CLASSES = """
import sqlite3, threading
from multiprocessing.pool import MaybeEncodingError, RemoteTraceback
class Custom(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")
        self.a, self.b = a, b
class Optional(Exception):
    # Its constructor takes its own args, and would make something else of them.
    def __init__(self, message="x"):
        super().__init__(f"said {message}")
class Code(OSError):
    def __init__(self, text):
        super().__init__(2, text)
        self.text = text
class Slots(Exception):
    __slots__ = ("spare", "__kept")
    def __init__(self, spare): self.spare, self.__kept = spare, spare + 1
    def kept(self): return self.__kept
class New(Exception):
    def __new__(cls, *, needed): return super().__new__(cls, needed)
    def __init__(self, *, needed): self.needed = needed
class Holding(Exception):
    def __init__(self, n):
        super().__init__(n, sqlite3.connect(":memory:"))
        self.lock = threading.Lock()
        self.connection = sqlite3.connect(":memory:")
class Reduced(Exception):
    def __reduce__(self): return Reduced, (self.args[0] + 1,)
class Refusing(Exception):
    def __reduce__(self): raise ValueError("no")
class Cheating(Exception):
    def __reduce__(self): return int, ("7",)
class Mute(Exception):
    def __str__(self): raise ValueError
    __repr__ = __str__
class Deadly(Exception):
    def __reduce__(self): raise SystemExit
class Frozen(Exception):
    def __init__(self, x): object.__setattr__(self, "x", x)
    def __setattr__(self, *_): raise TypeError("frozen")
def throw(make, *args):
    error = make(*args)
    error = error if isinstance(error, BaseException) else error()
    raise error
"""


def test_exceptions_of_every_kind(tmp_path: Path) -> None:
    run_main(
        CLASSES
        + """
def get(make, *args): return w.raises(throw, make, *args)
e = get(Custom, 1, 2)
assert type(e) is Custom and (e.a, e.b, e.args) == (1, 2, ("1 and 2",))
assert type(e.__cause__) is RemoteTraceback and 'Custom: 1 and 2' in str(e.__cause__)
assert str(e.__cause__).startswith('\\n\"\"\"\\nTraceback') and str(e.__cause__).endswith('\"\"\"')
e = get(Optional, "hi")
assert type(e) is Optional and e.args == ("said hi",)
e = get(Code, "gone")
assert type(e) is Code and (e.errno, e.strerror, e.text) == (2, "gone", "gone")
e = get(Slots, 4)
assert type(e) is Slots and (e.spare, e.kept()) == (4, 5)
e = get(lambda: New(needed=3))
assert type(e) is New and e.needed == 3
e = get(Reduced, 1)
assert type(e) is Reduced and e.args[0] == 2       # its own way, taken once
for kind in Refusing, Cheating, Deadly, Mute:
    e = get(kind, 5)
    assert type(e) is kind and e.args == (5,), e.args
e = get(lambda: Frozen(3))
assert type(e) is Frozen and e.x == 3
for native in (KeyError("k"), OSError(2, "no", "file"), UnicodeDecodeError("utf8", b"a", 0, 1, "w"),
               StopIteration(4), ImportError("m", name="n", path="p"), SystemExit(3),
               KeyboardInterrupt(), GeneratorExit(), SyntaxError("s", ("f", 1, 2, "t")),
               AttributeError("a"), RecursionError("deep"), BaseException("base")):
    e = get(lambda: native)
    assert type(e) is type(native) and e.args == native.args and str(e) == str(native), e
    assert type(e.__cause__) is RemoteTraceback
assert get(lambda: OSError(2, "no", "file")).filename == "file"
assert get(lambda: SystemExit(3)).code == 3
assert get(lambda: ImportError("m", name="n")).name == "n"
""",
        tmp_path,
    )


def test_parts_that_cannot_be_sent_are_described(tmp_path: Path) -> None:
    run_main(
        CLASSES
        + """
e = w.raises(throw, Holding, 3)
assert type(e) is Holding and e.args[0] == 3 and "sqlite3.Connection" in e.args[1]
assert "sqlite3.Connection" in e.connection and not e.lock.locked()
assert len(e.__notes__) == 2 and any("connection came as its repr" in n for n in e.__notes__)
class Asking(Exception):
    def __str__(self): return "near " + self.origin.name
def asking():
    e = Asking(1)
    e.origin = type("Origin", (), {"name": "line 3", "held": (i for i in ())})()
    return e
e = w.raises(throw, asking)
assert type(e) is Asking and e.__notes__[0] == "near line 3", e.__notes__
def local():
    class Local(Exception):
        tag = (i for i in ())
    error = Local("what happened")
    error.add_note("n")
    return error
e = w.raises(throw, local)
assert type(e) is MaybeEncodingError and "Local" in str(e) and "what happened" in str(e)
assert "Traceback" in str(e.__cause__) and "in throw" in str(e.__cause__)
""",
        tmp_path,
    )


def test_notes_causes_and_groups(tmp_path: Path) -> None:
    run_main(
        CLASSES
        + """
def noted():
    e = Custom(1, 2)
    e.add_note("first")
    e.add_note("second")
    return e
e = w.raises(throw, noted)
assert e.__notes__ == ["first", "second"] and "second" in str(e.__cause__)
def chained():
    try:
        [][1]
    except IndexError as error:
        raise Custom(3, 4) from error
e = w.raises(chained)
text = str(e.__cause__)
assert "IndexError" in text and "direct cause" in text and "Custom: 3 and 4" in text
def group():
    inner = ExceptionGroup("inner", [Holding(1), KeyError("k")])
    return ExceptionGroup("outer", [Custom(1, 2), inner, Refusing(3)])
e = w.raises(throw, group)
assert type(e) is ExceptionGroup and e.message == "outer" and len(e.exceptions) == 3
one, inner, two = e.exceptions
assert type(one) is Custom and one.b == 2 and type(two) is Refusing
assert type(inner.exceptions[0]) is Holding and inner.exceptions[1].args == ("k",)
assert e.split(Custom)[0].exceptions[0] is one
e = w.raises(throw, lambda: BaseExceptionGroup("b", [KeyboardInterrupt()]))
assert type(e) is BaseExceptionGroup
""",
        tmp_path,
    )


def test_classes_of_the_parent_and_of_the_worker(tmp_path: Path) -> None:
    run_main(
        CLASSES
        + """
try:
    raise w.raises(throw, Custom, 1, 2)
except Custom:
    pass
def born():
    class Born(Exception): pass
    return Born(1)
e = w.raises(throw, born)
assert type(e).__name__ == "Born" and e.args == (1,)
""",
        tmp_path,
    )


def test_nothing_is_left_in_the_exception_itself(tmp_path: Path) -> None:
    run_main(
        CLASSES
        + """
from pool._pickling import dumps_exception, loads
error = Custom(1, 2)
first = loads(*dumps_exception(error))
assert error.__cause__ is None and error.__dict__ == {"a": 1, "b": 2}
again = loads(*dumps_exception(first))
assert type(again) is Custom and again.a == 1
assert "RemoteTraceback" in str(again.__cause__)
looped = Custom(1, 2)
looped.me = looped
assert type(loads(*dumps_exception(looped)).me) is Custom
""",
        tmp_path,
    )
