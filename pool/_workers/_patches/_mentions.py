"""Find in the text of a module what it assigns to attributes of other objects, or changes there.

Nothing is run, and nothing is known of the objects: names are returned as they are written. Not by
`ast`, which takes ten times as long; nor by `re`, where every program comes through: to import it
takes longer than all the rest. What is found too much, in a comment or a text, does no harm.
"""

from __future__ import annotations

import sys
from types import CodeType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from dis import Instruction

#: Functions by which programs put something in the place of something else.
_REPLACERS = ("setattr(", "patch(", "patch.object(", "patch.dict(")

_REPLACING_NAMES = frozenset({"setattr", "patch"})

#: A call of one: with an object and a name, with the full name of a place, or with a container.
_REPLACING = (
    r"(?:setattr|patch(?:\.object)?)\(\s*(?:([A-Za-z_][\w.]*)\s*,\s*)?[\"']([A-Za-z_][\w.]*)[\"']"
    r"|patch\.dict\(\s*[\"']?([A-Za-z_]\w*(?:\.\w+)+)"
)

_IMPORT = r"[\n;:][ \t]*+(?:from[ \t]+([\w.]+)[ \t]+)?import[ \t]+(?:\(([^)]*)\)|([^\n;#]+))"

#: Methods that change a container.
CHANGERS = frozenset(
    {"add", "append", "clear", "discard", "extend", "insert", "pop", "remove", "setdefault"}
    | {"sort", "update"}
)

#: Characters before the ``=`` of an assignment like ``+=``.
_OPERATORS = "+-*/%|&^@<>"

#: Instructions by which a name is looked up.
_LOADS = ("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FAST", "LOAD_DEREF")


class Mentions:
    """What the text of a module says.

    Parameters
    ----------
    text : str
    is_main : bool
        Whether it is that of the main module.

    Attributes
    ----------
    assigned : frozenset of str
        Dotted names that are assigned to, as ``np.float``.
    changed : frozenset of str
        Dotted names of what may be a container that is changed, as ``nltk.data.path``.
    called : frozenset of str
        Dotted names, and names, of what is called for nothing but its effect.
    modules : frozenset of str
        Names under which something is put into ``sys.modules``.
    unused : frozenset of str
        Full names that are imported, and not named again, but for Python's own modules; empty
        unless it is the main module.
    used : frozenset of str
        Likewise, the top-level modules of all that is imported.
    """

    __slots__ = ("_imported", "_text", "assigned", "called", "changed", "modules", "unused", "used")

    def __init__(self, text: str, is_main: bool = False) -> None:
        assigned, called, changed, modules = set(), set(), set(), set()
        imported: str | None = None
        for name, rest in _statements(text):
            if imported is None:
                imported = _lines_of_imports(text)
            if name.partition(".")[0] not in imported and "import *" not in imported:
                continue  # no module, and nothing that comes from one
            owner, _, last = name.rpartition(".")
            if rest[0] == "(":
                if last in CHANGERS and "." in owner:
                    changed.add(owner)
                called.add(name)
            elif rest[0] == "[" and name == "sys.modules":
                modules.add(rest[1:].partition("]")[0].strip(" \t\"'"))
            elif rest[0] == "[":
                changed.add(name)
            elif rest[:2] != "==":
                assigned.add(name)
        if any(replacer in text for replacer in _REPLACERS):
            for owner, name, container in _found(_REPLACING, text):
                if container:
                    changed.add(container)
                elif owner:
                    assigned.add(f"{owner}.{name}")
                elif "." in name:
                    assigned.add(name)
        self.assigned = frozenset(assigned)
        self.called = frozenset(called)
        self.changed = frozenset(changed)
        self.modules = frozenset(modules)
        self.unused, self.used = _usage(text) if is_main else (frozenset(), frozenset())
        # To find what names mean, if anybody asks.
        self._text = text if assigned or called or changed else ""
        self._imported: dict[str, str] | None = None

    def __bool__(self) -> bool:
        return bool(self.assigned or self.called or self.changed or self.modules or self.unused)

    def imported(self) -> dict[str, str]:
        """Return what names are imported as, in functions too: the full names of the objects."""
        if self._imported is None:
            self._imported = dict(_imports(self._text)) if self._text else {}
        return self._imported


def _statements(text: str) -> Iterator[tuple[str, str]]:
    """Yield the name that a statement begins with, and the rest from ``=``, ``(`` or ``[``.

    Only dotted names, but for calls. Without those that begin with ``self``.
    """
    for line in text.split("\n"):
        if not ("(" in line or ("=" in line and "." in line)):
            continue
        for part in line.replace(";", ":").split(":") if ":" in line or ";" in line else (line,):
            statement = part.lstrip()
            if statement.startswith("self."):
                continue
            head = statement.partition("=")[0].partition("(")[0].partition("[")[0]
            name = head.rstrip(" \t" + _OPERATORS)
            if name.replace(".", "_").isidentifier():
                rest = statement[len(name) :].lstrip(" \t" + _OPERATORS)
                if rest and ("." in name or rest[0] == "("):
                    yield name, rest


def _lines_of_imports(text: str) -> str:
    """Return all that is said where something is imported, and maybe more."""
    lines = [line for line in text.split("\n") if "import" in line]
    lines += [part.partition(")")[0] for part in text.split("import (")[1:]]
    return "\n".join(lines)


def _usage(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return `Mentions.unused` and `Mentions.used`, of statements in one line."""
    unused, used = set(), set()
    for line in text.split("\n"):
        statement = line.strip()
        if not statement.startswith(("import ", "from ")):
            continue
        package, _, names = statement.partition("#")[0].removeprefix("from ").partition("import ")
        package = package.strip()
        for entry in names.split(","):
            full, _, name = entry.partition(" as ")
            full, name = full.strip(), name.strip()
            if package:
                name, full = name or full, f"{package}.{full}"
            top = full.partition(".")[0]
            if top in sys.stdlib_module_names:
                continue
            used.add(top)
            # Of `import hvplot.pandas` all of it is looked for, not what it binds.
            name = name or full
            if name.replace(".", "_").isidentifier() and text.count(name) == line.count(name):
                unused.add(full)
    return frozenset(unused), frozenset(used)


def _found(pattern: str, text: str) -> list[tuple[str, ...]]:
    import re

    return re.findall(pattern, text)


def _imports(text: str) -> Iterator[tuple[str, str]]:
    for package, in_brackets, names in _found(_IMPORT, f"\n{text}"):
        for entry in (in_brackets or names).split(","):
            words = entry.split("#")[0].split()
            if not words:
                continue
            name = words[0]
            if len(words) == 3 and words[1] == "as":
                yield words[2], f"{package}.{name}" if package else name
            elif len(words) == 1:
                first = name.partition(".")[0]
                yield (name, f"{package}.{name}") if package else (first, first)


def mentions_of(code: CodeType) -> Mentions:
    """Return the same of a program whose text is gone: one that was read from standard input."""
    from dis import get_instructions

    found = Mentions("")
    pending = [code]
    sets: list[set[str]] = [set(), set(), set(), set()]
    while pending:
        some = pending.pop()
        pending += [part for part in some.co_consts if isinstance(part, CodeType)]
        _read_code(get_instructions(some), found.imported(), *sets)
        if not _REPLACING_NAMES.isdisjoint(some.co_names):
            texts = [text for text in some.co_consts if isinstance(text, str) and "." in text]
            sets[0].update(text for text in texts if text.replace(".", "_").isidentifier())
    for names in sets[:3]:
        # Others are neither modules nor come from one; or they are full names, in texts.
        names.intersection_update(
            name
            for name in names
            if name.partition(".")[0] in found.imported() or name.partition(".")[0] in sys.modules
        )
    found.assigned, found.called, found.changed, found.modules = map(frozenset, sets)
    return found


def _read_code(
    instructions: Iterator[Instruction],
    imported: dict[str, str],
    assigned: set[str],
    called: set[str],
    changed: set[str],
    modules: set[str],
) -> None:
    """Enter what some code says."""
    name: list[str] = []  # the dotted one that was looked up last
    first: list[str] = []  # the one that its statement has begun with
    item = package = full = ""
    for instruction in instructions:
        kind, value = instruction.opname, instruction.argval
        if kind == "POP_TOP" and first:
            called.add(".".join(first))
        if kind == "POP_TOP" or kind.startswith("STORE_"):
            first = []
        if kind.startswith(_LOADS):
            name = [str(value)]
            first = first or name
        elif kind in ("LOAD_ATTR", "LOAD_METHOD"):
            if value in CHANGERS and len(name) > 1:
                changed.add(".".join(name))
            name.append(value)
        elif kind == "LOAD_CONST":
            item = value if isinstance(value, str) else ""
        elif kind == "STORE_SUBSCR" and name == ["sys", "modules"]:
            modules.add(item)
        elif kind == "STORE_SUBSCR" and len(name) > 1:
            changed.add(".".join(name))
        elif kind == "STORE_ATTR" and name:
            assigned.add(".".join(name if name[-1] == value else [*name, value]))  # or `+=`
        elif kind == "IMPORT_NAME":
            package = full = value
        elif kind == "IMPORT_FROM":
            # Also for `import a.b as c`.
            full = package if package.endswith(f".{value}") else f"{package}.{value}"
        elif kind.startswith("STORE_") and full:
            imported[value] = value if full.startswith(f"{value}.") else full
            full = ""
