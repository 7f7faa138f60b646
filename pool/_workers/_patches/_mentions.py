"""Find in the text of a module what it assigns to attributes of other objects, or changes there.

Nothing is run, and nothing is known of the objects: names are returned as they are written. Not by
`ast`, which takes ten times as long; nor by `re`, where every program comes through: to import it
takes longer than all the rest. What is found too much, in a text for instance, does no harm.
"""

from __future__ import annotations

import sys
from types import CodeType

from ._steps import steps_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from ._places import Place

    #: What a function sets, see `_setters`; and functions that are called, with that.
    Setters = tuple[tuple[Place, int], ...]
    Calls = list[tuple[Any, Setters]]

#: By what programs put something in the place of something else.
_REPLACERS = (
    *("setattr(", "delattr(", "patch(", "patch.", "setitem(", "delitem("),
    "sys.modules",
)

_REPLACING_NAMES = frozenset({"setattr", "patch"})

#: Methods that change a container.
CHANGERS = frozenset(
    {"add", "append", "clear", "discard", "extend", "insert", "pop", "remove", "setdefault"}
    | {"sort", "update"}
)

#: Characters before the ``=`` of an assignment like ``+=``.
_OPERATORS = "+-*/%|&^@<>"

#: Words after which a line may go on with a statement.
_BLOCKS = frozenset({"if", "elif", "else", "for", "while", "with", "try", "except", "finally"})

#: Instructions by which a name is looked up.
_LOADS = ("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FAST", "LOAD_DEREF")


class Mentions:
    """What the text of a module says.

    Parameters
    ----------
    text : str
    is_main : bool
        Whether it is that of the main module.
    before : Mentions, optional
        What an earlier part of the text says: cells of a notebook that were run before.

    Attributes
    ----------
    assigned : set of str
        Dotted names that are assigned to, as ``np.float``.
    called : set of str
        Dotted names, and names, of what is called for nothing but its effect.
    changed : set of str
        Names of what may be a container that is changed, as ``nltk.data.path``.
    deleted : set of str
        Dotted names that are deleted.
    returned : set of str
        Dotted names, and names, of what is called last, for what it returns; of code only.
    modules : set of str
        Names under which something is put into ``sys.modules``.
    own : set of str
        Dotted names of what functions of a module, other than the main one, call, assign or change
        of objects that this module has made at its top: ``rng.seed``.
    stand_ins : set of str
        Names under which something may be put there by a call, or in a loop, among other words.
    imported : dict
        By name, the full name of what is imported under it, in functions too.
    unused : dict
        Full names of what is imported and not named again, each with the name that it has; but for
        Python's own modules, and unless it is the main module.
    setting : tuple or None
        What others have found out: the number of modules at that time, and the functions that are
        called and may set something.
    native : tuple or None
        Likewise: which of `called` set something in compiled code.
    """

    __slots__ = (
        "assigned", "called", "changed", "deleted", "imported", "modules", "native", "own",
        "returned", "setting", "stand_ins", "unused",
    )  # fmt: skip

    def __init__(self, text: str, is_main: bool = False, before: Mentions | None = None) -> None:
        self.assigned: set[str] = set()
        self.called: set[str] = set()
        self.changed: set[str] = set()
        self.deleted: set[str] = set()
        self.modules: set[str] = set()
        self.own: set[str] = set()
        self.returned: set[str] = set()
        self.stand_ins: set[str] = set()
        self.imported: dict[str, str] = {}
        self.unused: dict[str, str] = {}
        self.setting: tuple[int, Calls] | None = None
        self.native: tuple[int, list[str]] | None = None
        text = _code_of(text)
        if before is not None:
            self.imported.update(before.imported)
        imports = list(_imports(text)) if "import" in text else []
        self.imported.update((name, full) for name, full, _ in imports)
        classes = () if is_main or "class " not in text else _classes(text)
        made = set() if is_main else set(_made(text))
        if self.imported or classes or made:
            self._read(text, classes, made)
        if is_main:
            self.unused.update(_unused(text, imports))
        if before is not None:
            self._add(before, text)

    def __bool__(self) -> bool:
        found = (
            self.assigned, self.called, self.changed, self.deleted, self.modules, self.own,
            self.stand_ins, self.unused,
        )  # fmt: skip
        return any(found)

    def _read(self, text: str, classes: Iterable[str], made: set[str]) -> None:
        # Other names than those of imports mean no module, and nothing that comes from one; but for
        # a module's own classes, whose methods it may replace, and the objects that it has made.
        known = _Any() if "*" in self.imported else {*self.imported, *classes}
        for name, rest, inner in _statements(text):
            first, *_ = name.split(".", 1)
            if first in made:
                # What its top does with them, each import does.
                if inner and ("." in name or rest[0] == "["):
                    self.own.add(f"{name}._" if rest[0] == "[" else name)
                continue
            if first not in known:
                continue
            owner, _, last = name.rpartition(".")
            if rest[0] == "(":
                if last in CHANGERS:
                    self.changed.add(owner)
                self.called.add(name)
            elif rest[0] == "[" and name == "sys.modules":
                self.modules.add(rest[1:].partition("]")[0].strip(" \t\"'"))
            elif rest[0] == "[":
                self.changed.add(name)
            elif rest[:2] != "==":
                self.assigned.add(name)
        if any(replacer in text for replacer in _REPLACERS):
            from ._replacements import read_replacements

            read_replacements(text, self)
        if "del " in text:
            self.deleted.update(name for name in _deleted(text) if name.partition(".")[0] in known)

    def _add(self, before: Mentions, text: str) -> None:
        """Add what an earlier part says."""
        self.assigned |= before.assigned
        self.called |= before.called
        self.changed |= before.changed
        self.deleted |= before.deleted
        self.modules |= before.modules
        self.stand_ins |= before.stand_ins
        unused = {full: name for full, name in before.unused.items() if name not in text}
        self.unused = {**unused, **self.unused}


class _Any:
    """Contains everything."""

    def __contains__(self, name: object) -> bool:
        return True


def _classes(text: str) -> list[str]:
    """Return the names of the classes that a module defines at its top."""
    lines = text.split("\n")
    heads = (line[6:].partition(":")[0] for line in lines if line.startswith("class "))
    return [head.partition("(")[0].strip() for head in heads]


def _made(text: str) -> Iterator[str]:
    """Yield the variables that a module has from its top, where a call returns their objects."""
    for line in text.split("\n"):
        if "=" in line and "(" in line and line[0].isidentifier():
            name, _, value = line.partition("=")
            name = name.partition(":")[0].rstrip()
            if "(" in value and name.isidentifier():
                yield name


def _code_of(text: str) -> str:
    """Return the text without its longer strings, and with each statement's lines joined."""
    for quotes in ('"""', "'''"):
        parts = text.split(quotes)
        if len(parts) % 2:  # otherwise one is in another string
            text = "".join(parts[::2])
    return text.replace("\\\n", " ")


def _statements(text: str) -> Iterator[tuple[str, str, bool]]:
    """Yield the name that a statement begins with, and the rest from ``=``, ``(`` or ``[``.

    And whether it is a statement of an indented line, as far as that can be told. Only dotted
    names, but for calls. Without those that begin with ``self``.
    """
    for line in text.split("\n"):
        if not ("(" in line or ("=" in line and ("." in line or "[" in line))):
            continue
        # Not what stands in a list of arguments, or in a dictionary.
        inner = line[:1] in " \t" and not line.rstrip().endswith(",")
        parts = line.replace(";", ":").split(":") if ":" in line or ";" in line else (line,)
        for number, part in enumerate(parts):
            if number == 1:
                inner = inner and (";" in line or line.split(None, 1)[0].rstrip(":") in _BLOCKS)
            statement = part.lstrip(" \t@")  # a decorator is called as well
            if statement.startswith("self."):
                continue
            head = statement.partition("=")[0].partition("(")[0].partition("[")[0]
            name = head.rstrip(" \t" + _OPERATORS)
            if _is_name(name):
                rest = statement[len(name) :].lstrip(" \t" + _OPERATORS)
                if rest and ("." in name or rest[0] != "="):
                    yield name, rest, inner
                if rest[:1] == "=" and "." in rest:
                    yield from ((target, "=", inner) for target in _also_assigned(rest[1:]))
            elif "," in name and "." in name and statement[len(head) :][:2] in ("= ", "="):
                targets = [target.strip() for target in name.split(",")]
                if all(map(_is_name, targets)):
                    yield from ((target, "=", inner) for target in targets if "." in target)


def _is_name(text: str) -> bool:
    """Return whether a text is a name, perhaps a dotted one."""
    return text.replace(".", "_").isidentifier()


def _deleted(text: str) -> Iterator[str]:
    """Yield the dotted names that are deleted."""
    for line in map(str.strip, text.split("\n")):
        if line.startswith("del "):
            for name in map(str.strip, line[4:].partition("#")[0].split(",")):
                if "." in name and _is_name(name):
                    yield name


def _also_assigned(rest: str) -> Iterator[str]:
    """Yield the other targets of an assignment, as of ``np.float = np.int = float``."""
    parts = rest.split("=")
    for part, following in zip(parts, parts[1:], strict=False):
        name = part.strip()
        if not following or not _is_name(name):
            return
        if "." in name:
            yield name


def _imports(text: str) -> Iterator[tuple[str, str, int]]:
    """Yield what is imported: its name, its full name, and how often its line has that name.

    The name of ``import a.b`` is ``a``; how often it is there is asked of ``a.b``.
    """
    lines = iter(text.split("\n"))
    for line in lines:
        if "import" not in line:
            continue
        line = line.partition("#")[0]
        head, opened, rest = line.partition("(")
        if opened and ")" not in rest and head.rpartition(":")[2].split()[:1] == ["from"]:
            following = [line]
            while ")" not in following[-1]:
                following.append(next(lines, ")").partition("#")[0])
            line = " ".join(following)
        for part in line.replace(":", ";").split(";"):
            words = part.replace("(", " ").replace(")", " ").split()
            if words[:1] == ["import"]:
                package, names = "", words[1:]
            elif words[:1] == ["from"] and words[2:3] == ["import"]:
                package, names = words[1], words[3:]
            else:
                continue
            for entry in " ".join(names).split(","):
                full, _, name = (word.strip() for word in entry.partition(" as "))
                if package:
                    yield name or full, f"{package}.{full}", line.count(name or full)
                elif name:
                    yield name, full, line.count(name)
                elif full:
                    yield full.partition(".")[0], full, line.count(full)


def _unused(text: str, imports: Iterable[tuple[str, str, int]]) -> Iterator[tuple[str, str]]:
    """Yield the full names of what is imported and not named again, with their names."""
    for name, full, count in imports:
        if full.partition(".")[0] in sys.stdlib_module_names:
            continue
        if not full.startswith(f"{name}.") and full.rpartition(".")[2] != name:
            continue  # `import plotly.express as px`: who wants its effect alone names nothing anew
        # Of `import hvplot.pandas` all of it is looked for, not what it binds.
        known_as = full if full.startswith(f"{name}.") else name
        if _is_name(known_as) and text.count(known_as) == count:
            yield full, known_as


def mentions_of(code: CodeType) -> Mentions:
    """Return the same of a program whose text is gone: one that was read from standard input."""
    found = Mentions("")
    pending = [code]
    while pending:
        some = pending.pop()
        pending += [part for part in some.co_consts if isinstance(part, CodeType)]
        _read_code(steps_of(some), found)
        if not _REPLACING_NAMES.isdisjoint(some.co_names):
            texts = [text for text in some.co_consts if isinstance(text, str) and "." in text]
            found.assigned.update(filter(_is_name, texts))
    return found


def _read_code(steps: Iterable[tuple[str, Any]], found: Mentions) -> None:
    """Enter what some code says."""
    name: list[str] = []  # the dotted one that was looked up last
    before: list[str] = []  # the one before that
    container: list[str] = []  # the one before the key
    first: list[str] = []  # the one that its statement has begun with
    item = package = full = ""
    for kind, value in steps:
        if kind == "POP_TOP" and first:
            found.called.add(".".join(first))
        if kind == "RETURN_VALUE" and len(first) > 1:
            found.returned.add(".".join(first))
        if kind in ("POP_TOP", "RETURN_VALUE") or kind.startswith("STORE_"):
            first = []
        if kind.startswith(_LOADS):
            container = before = name
            name = [str(value)]
            first = first or name
        elif kind in ("LOAD_ATTR", "LOAD_METHOD"):
            if value in CHANGERS and name:
                found.changed.add(".".join(name))
            name.append(value)
        elif kind == "LOAD_CONST":
            item = value if isinstance(value, str) else ""
            container = name
            if before == ["setattr"] and item:
                found.assigned.add(".".join([*name, item]))
        elif kind == "STORE_SUBSCR" and container == ["sys", "modules"]:
            found.modules.add(item)
        elif kind == "STORE_SUBSCR" and container:
            found.changed.add(".".join(container))
        elif kind == "STORE_ATTR" and name:
            # Or `+=`.
            found.assigned.add(".".join(name if name[-1] == value else [*name, value]))
        elif kind == "DELETE_ATTR" and name:
            found.deleted.add(".".join([*name, value]))
        elif kind == "IMPORT_NAME":
            package = full = value
        elif kind == "IMPORT_FROM":
            # Also for `import a.b as c`.
            full = package if package.endswith(f".{value}") else f"{package}.{value}"
        elif kind.startswith("STORE_") and full:
            found.imported[value] = full
            full = ""
