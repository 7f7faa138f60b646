"""Find calls in the text of a module that put something in the place of something else.

``setattr(json, "limit", 3)``, ``mock.patch("requests.get")``, ``monkeypatch.delattr(os, "fork")``,
``mock.patch.dict("sys.modules", {"torch": fake})``.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._mentions import Mentions

#: A call of one: with an object and a name, with the full name of a place, or with a container.
_REPLACING = (
    r"(?:setattr|patch(?:\.object)?)\(\s*(?:([A-Za-z_][\w.]*)\s*,\s*)?[\"']([A-Za-z_][\w.]*)[\"']"
    r"|(?:patch\.dict|setitem|delitem)\(\s*[\"']?([A-Za-z_]\w*(?:\.\w+)+)"
)

#: Calls with an object and a name that a loop gives, and with an object and several names.
_REPLACING_SOME = (
    r"setattr\(\s*([A-Za-z_][\w.]*)\s*,\s*[A-Za-z_]"
    r"|patch\.multiple\(\s*[\"']?([A-Za-z_][\w.]*)[\"']?\s*,([^)]*)"
)

_DELETING = r"delattr\(\s*(?:([A-Za-z_][\w.]*)\s*,\s*)?[\"']([A-Za-z_][\w.]*)[\"']"

#: What puts something in the place of modules under names that are elsewhere in the text.
_STANDING_IN = (
    r"(?:patch\.dict|setitem)\(\s*[\"']?sys\.modules\b|\bsys\.modules(?:\.update\(|\[\s*[A-Za-z_])"
)

#: Words that may be such names: in quotes, or of keywords.
_WORD = r"[\"']([A-Za-z_][\w.]*)[\"']|\b([A-Za-z_]\w*)\s*=[^=]"

#: So many characters before the call the loop begins that gives the name.
LOOP_MAX = 2000


def read_replacements(text: str, found: Mentions) -> None:
    """Enter what such calls replace, change and delete."""
    for owner, name, container in re.findall(_REPLACING, text):
        if container:
            found.changed.add(container)
        elif owner:
            found.assigned.add(f"{owner}.{name}")
        elif "." in name:
            found.assigned.add(name)
    for owner, name in re.findall(_DELETING, text):
        if owner or "." in name:
            found.deleted.add(f"{owner}.{name}" if owner else name)
    if re.search(_STANDING_IN, text):
        found.stand_ins.update(quoted or word for quoted, word in re.findall(_WORD, text))
    for call in re.finditer(_REPLACING_SOME, text):
        owner, other, names = call.groups()
        if owner:
            before = text[max(0, call.start() - LOOP_MAX) : call.start()]
            _, loop, names = before.rpartition("for ")
            words = re.findall(r"[\"']([A-Za-z_]\w*)[\"']", names) if loop else []
            # Also as something that is done to the object, whatever its attributes are called.
            found.assigned.update(f"{owner}.{name}" for name in (*words, "_"))
        else:
            found.assigned.update(f"{other}.{name}" for name in re.findall(r"(\w+)\s*=", names))
