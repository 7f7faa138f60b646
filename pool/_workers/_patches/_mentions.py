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
    from collections.abc import Iterable, Iterator
    from dis import Instruction

#: Functions by which programs put something in the place of something else.
_REPLACERS = ("setattr(", "patch(", "patch.object(", "patch.dict(")

_REPLACING_NAMES = frozenset({"setattr", "patch"})

#: A call of one: with an object and a name, with the full name of a place, or with a container.
_REPLACING = (
    r"(?:setattr|patch(?:\.object)?)\(\s*(?:([A-Za-z_][\w.]*)\s*,\s*)?[\"']([A-Za-z_][\w.]*)[\"']"
    r"|patch\.dict\(\s*[\"']?([A-Za-z_]\w*(?:\.\w+)+)"
)

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
    before : Mentions, optional
        What an earlier part of the text says: cells of a notebook that were run before.

    Attributes
    ----------
    assigned : set of str
        Dotted names that are assigned to, as ``np.float``.
    called : set of str
        Dotted names, and names, of what is called for nothing but its effect.
    changed : set of str
        Dotted names of what may be a container that is changed, as ``nltk.data.path``.
    modules : set of str
        Names under which something is put into ``sys.modules``.
    imported : dict
        By name, the full name of what is imported under it, in functions too.
    unused : dict
        Full names of what is imported and not named again, each with the name that it has; but for
        Python's own modules, and unless it is the main module.
    """

    __slots__ = ("assigned", "called", "changed", "imported", "modules", "unused")

    def __init__(self, text: str, is_main: bool = False, before: Mentions | None = None) -> None:
        self.assigned: set[str] = set()
        self.called: set[str] = set()
        self.changed: set[str] = set()
        self.modules: set[str] = set()
        self.imported: dict[str, str] = {}
        self.unused: dict[str, str] = {}
        if before is not None:
            self.imported.update(before.imported)
        imports = list(_imports(text)) if "import" in text else []
        self.imported.update((name, full) for name, full, _ in imports)
        if self.imported:
            self._read(text)
        if is_main:
            self.unused.update(_unused(text, imports))
        if before is not None:
            self._add(before, text)

    def __bool__(self) -> bool:
        return any((self.assigned, self.called, self.changed, self.modules, self.unused))

    def _read(self, text: str) -> None:
        # Other names than those of imports mean no module, and nothing that comes from one.
        known = _Any() if "*" in self.imported else self.imported
        for name, rest in _statements(text):
            first, *_ = name.split(".", 1)
            if first not in known:
                continue
            owner, _, last = name.rpartition(".")
            if rest[0] == "(":
                if last in CHANGERS and "." in owner:
                    self.changed.add(owner)
                self.called.add(name)
            elif rest[0] == "[" and name == "sys.modules":
                self.modules.add(rest[1:].partition("]")[0].strip(" \t\"'"))
            elif rest[0] == "[":
                self.changed.add(name)
            elif rest[:2] != "==":
                self.assigned.add(name)
        if any(replacer in text for replacer in _REPLACERS):
            self._read_replacements(text)

    def _read_replacements(self, text: str) -> None:
        import re

        for owner, name, container in re.findall(_REPLACING, text):
            if container:
                self.changed.add(container)
            elif owner:
                self.assigned.add(f"{owner}.{name}")
            elif "." in name:
                self.assigned.add(name)

    def _add(self, before: Mentions, text: str) -> None:
        """Add what an earlier part says."""
        self.assigned |= before.assigned
        self.called |= before.called
        self.changed |= before.changed
        self.modules |= before.modules
        unused = {full: name for full, name in before.unused.items() if name not in text}
        self.unused = {**unused, **self.unused}


class _Any:
    """Contains everything."""

    def __contains__(self, name: object) -> bool:
        return True


def _statements(text: str) -> Iterator[tuple[str, str]]:
    """Yield the name that a statement begins with, and the rest from ``=``, ``(`` or ``[``.

    Only dotted names, but for calls. Without those that begin with ``self``.
    """
    for line in text.split("\n"):
        if not ("(" in line or ("=" in line and "." in line)):
            continue
        for part in line.replace(";", ":").split(":") if ":" in line or ";" in line else (line,):
            statement = part.lstrip(" \t@")  # a decorator is called as well
            if statement.startswith("self."):
                continue
            head = statement.partition("=")[0].partition("(")[0].partition("[")[0]
            name = head.rstrip(" \t" + _OPERATORS)
            if name.replace(".", "_").isidentifier():
                rest = statement[len(name) :].lstrip(" \t" + _OPERATORS)
                if rest and ("." in name or rest[0] == "("):
                    yield name, rest


def _imports(text: str) -> Iterator[tuple[str, str, int]]:
    """Yield what is imported: its name, its full name, and how often its line has that name.

    The name of ``import a.b`` is ``a``; how often it is there is asked of ``a.b``.
    """
    lines = iter(text.split("\n"))
    for line in lines:
        if "import" not in line:
            continue
        while line.count("(") > line.count(")") and "import" in line.partition("(")[0]:
            following = next(lines, ")")
            line = f"{line.partition('#')[0]} {following}"
        for part in line.partition("#")[0].replace(":", ";").split(";"):
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
        # Of `import hvplot.pandas` all of it is looked for, not what it binds.
        known_as = full if full.startswith(f"{name}.") else name
        if known_as.replace(".", "_").isidentifier() and text.count(known_as) == count:
            yield full, known_as


def mentions_of(code: CodeType) -> Mentions:
    """Return the same of a program whose text is gone: one that was read from standard input."""
    from dis import get_instructions

    found = Mentions("")
    pending = [code]
    while pending:
        some = pending.pop()
        pending += [part for part in some.co_consts if isinstance(part, CodeType)]
        _read_code(get_instructions(some), found)
        if not _REPLACING_NAMES.isdisjoint(some.co_names):
            texts = [text for text in some.co_consts if isinstance(text, str) and "." in text]
            found.assigned.update(text for text in texts if text.replace(".", "_").isidentifier())
    return found


def _read_code(instructions: Iterable[Instruction], found: Mentions) -> None:
    """Enter what some code says."""
    name: list[str] = []  # the dotted one that was looked up last
    before: list[str] = []  # the one before that
    container: list[str] = []  # the one before the key
    first: list[str] = []  # the one that its statement has begun with
    item = package = full = ""
    for instruction in instructions:
        kind, value = instruction.opname, instruction.argval
        if kind == "POP_TOP" and first:
            found.called.add(".".join(first))
        if kind == "POP_TOP" or kind.startswith("STORE_"):
            first = []
        if kind.startswith(_LOADS):
            container = before = name
            name = [str(value)]
            first = first or name
        elif kind in ("LOAD_ATTR", "LOAD_METHOD"):
            if value in CHANGERS and len(name) > 1:
                found.changed.add(".".join(name))
            name.append(value)
        elif kind == "LOAD_CONST":
            item = value if isinstance(value, str) else ""
            container = name
            if before == ["setattr"] and item:
                found.assigned.add(".".join([*name, item]))
        elif kind == "STORE_SUBSCR" and container == ["sys", "modules"]:
            found.modules.add(item)
        elif kind == "STORE_SUBSCR" and len(container) > 1:
            found.changed.add(".".join(container))
        elif kind == "STORE_ATTR" and name:
            # Or `+=`.
            found.assigned.add(".".join(name if name[-1] == value else [*name, value]))
        elif kind == "IMPORT_NAME":
            package = full = value
        elif kind == "IMPORT_FROM":
            # Also for `import a.b as c`.
            full = package if package.endswith(f".{value}") else f"{package}.{value}"
        elif kind.startswith("STORE_") and full:
            found.imported[value] = full
            full = ""
