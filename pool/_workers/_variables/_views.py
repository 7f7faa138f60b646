"""Show modules what the import had left, while modules of the program are imported later.

In the program these imports have happened, and what they did is in the variables that were sent.
Done again to those, they would do it twice: a plugin would be in the list two times, or be
refused because there is one of that name.
"""

from __future__ import annotations

from ._contents import apart, fill, is_alike

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    #: By variable: its object; in a tuple, what this holds, if it is one that is filled.
    View = dict[str, tuple[Any, tuple[Any, ...]]]

_ABSENT = object()

#: By ``id``, objects that were given the contents of a variable of the program: they are that
#: variable's from then on, and not another one's that is bound to the same object by an import.
#: There is one for each such variable, so they may be kept.
_claimed: dict[int, tuple[Any, tuple[str, str]]] = {}


def claim(value: Any, variable: tuple[str, str]) -> bool:
    """Have an object stand for a variable of the program, unless it does for another one.

    Returns
    -------
    bool
        Whether it does now.
    """
    return _claimed.setdefault(id(value), (value, variable))[1] == variable


class Restored:
    """Variables of a space that have been put in, as they were before and after that.

    Parameters
    ----------
    space : str
    owner : module or class
    variables : iterable of str
        Made before they are put in.
    """

    def __init__(self, space: str, owner: Any, variables: Iterable[str]) -> None:
        self._space = space
        self._owner = owner
        self._variables = tuple(variables)
        self._imported = self._view()
        self._given: View = {}
        self._hidden: set[str] = set()

    def put_in(self) -> None:
        """Note that the variables are those of the program now."""
        self._given = self._view()

    def hide(self) -> None:
        """Show what the imports have left.

        Not of variables that tasks or an initializer have changed: imports are to see that.
        """
        present = self._view()
        self._hidden = {
            variable
            for variable, (value, contents) in self._given.items()
            if present[variable][0] is value and is_alike(contents, present[variable][1])
        }
        self._show(self._imported)

    def show(self) -> None:
        """Show again what the program has had; keep what the imports have left by now."""
        if self._hidden:
            view = self._view()
            self._imported.update((variable, view[variable]) for variable in self._hidden)
            self._show(self._given)
            self._hidden = set()

    def _view(self) -> View:
        names = vars(self._owner)
        view: View = {}
        for variable in self._variables:
            value = names.get(variable, _ABSENT)
            known = _claimed.get(id(value))
            is_filled = known is not None and known[1] == (self._space, variable)
            view[variable] = value, (apart(value)[1],) if is_filled else ()
        return view

    def _show(self, view: View) -> None:
        names = vars(self._owner)
        for variable in self._hidden:
            value, contents = view[variable]
            if value is _ABSENT:
                if variable in names:
                    delattr(self._owner, variable)
                continue
            if names.get(variable, _ABSENT) is not value:
                setattr(self._owner, variable, value)
            for content in contents:
                fill(value, content)
