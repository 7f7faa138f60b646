"""The initializer and its arguments: globals of the program among them arrive as globals.

``Pool(2, init, (cache,))`` passes a global to `init`, and tasks read it by its name. In forked
workers both are one object, and so they are here. Arguments of tasks, in contrast, are always
copies.
"""

from __future__ import annotations

import sys
from types import FunctionType

from ._encoding import attempt, encode_with
from ._named import NamedValues
from ._namespaces import versions_of
from ._origins import is_named, scope_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from store._codec import Encoded


def dumps_initializer(
    initializer: Callable[..., object],
    initargs: Sequence[Any],
    inherited: int | None = None,
    throughout: bool = False,
) -> Encoded:
    """Pickle an initializer and its arguments, as one tuple, for new workers.

    Parameters
    ----------
    initializer, initargs
        As for a pool.
    inherited : int, optional
        As for `_encoding.dumps_to_worker`.
    throughout : bool
        Whether memory of the arguments themselves is shared too; then all by inheritance, none by
        its name.

    Raises
    ------
    Exception
        If they cannot be pickled: then workers have to inherit them.
    """
    whole = (initializer, tuple(initargs))
    named = _named_in_main()
    return attempt(
        lambda pickler_class: encode_with(pickler_class, whole, False, inherited, throughout, named)
    )


def _named_in_main() -> NamedValues:
    found = NamedValues()
    names = vars(sys.modules["__main__"])
    scope = scope_of(names)
    if scope is not None:
        for name in (*versions_of(scope.key).standing(names), *list(names)):
            if not name.startswith("__"):
                found.add(scope, name, names)
                value = names.get(name)
                if type(value) is FunctionType and value.__closure__ and not is_named(value):
                    # It shares variables with other closures, which tasks find by their names.
                    found.instances.setdefault(id(value), (scope, name, names))
    return found
