"""What the program has put into installed modules and Python's own, which workers import anew.

``np.float = float``, ``openai.api_key = key``, ``json.JSONEncoder.default = default``,
``mock.patch("requests.get", fake)``: a forked child has all that. A worker would have what the
import of these modules leaves, fail, or do something else without a word.

No module tells what was changed in it after its import, and to compare all variables of all
modules with those of a fresh process takes seconds. But it is the program's own code that makes
these changes, and its text says where: it names the module or class, and the attribute. So the text
is searched for such places, again only if it has changed. What a place has when a pool is made is
sent, if it is not what was defined there, and put there in workers as soon as they have imported
the module. What is found by mistake, in a comment for instance, does no harm: it is
sent as it is.

What no pickle can carry, a mock with a record of its calls for one, is inherited: the pool forks
the program.

`_mentions` and `_replacements` read texts, and compiled code by its `_steps`; `_texts` finds them.
`_places` finds the objects that they name and `_setters` the variables that a function sets,
`_native` those that compiled code sets,
`_effects` finds imports that are made for what they do to others, `_touched` finds changed objects
of the program's own modules, `_registered` what was registered with functions and classes,
`_siblings` those that a package knows together. `_taken` reads and packs what is there, `_applied`
puts it there in workers, with `_state` into objects.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._applied import Patch


def take() -> tuple[list[Patch], str]:
    """Return what is to be put into modules in workers, as `pool._workers._patches._taken.take`.

    Of most programs there is nothing, which takes some microseconds to find out.
    """
    from ._siblings import siblings
    from ._texts import mentioned

    try:
        texts = list(mentioned())
        pairs, lost = siblings()
        if not texts and not pairs and "pool._workers._patches._applied" not in sys.modules:
            return [], lost
        from . import _taken

        patches, unsent = _taken.take(texts, pairs)
        return patches, lost or unsent
    except Exception:
        # Objects of the program's are asked what they are; no pool is to fail for that.
        return [], ""
