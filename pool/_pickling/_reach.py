"""Pickles what our own pickler cannot: with the reducers that cloudpickle has registered.

Imported only when `FastPickler` has failed, since cloudpickle takes longer to import than a small
program takes to run.
"""

from __future__ import annotations

import cloudpickle

from ._picklers import BasePickler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class ReachPickler(BasePickler, cloudpickle.Pickler):  # type: ignore[misc]  # it ships no annotations
    """Pickles objects that need cloudpickle."""

    late = True

    def reduce_other(self, obj: Any, kind: type) -> Any:
        """Reduce an object by the reducers that other libraries have registered."""
        reduced = super().reduce_other(obj, kind)
        if reduced is not NotImplemented or not self.inline:
            return reduced
        # For an object with a name, which is not left to cloudpickle itself. A memoryview would
        # become bytes.
        own = None if kind is memoryview else self.dispatch_table.get(kind)
        return NotImplemented if own is None else own(obj)

    def reduce_class(self, kind: Any) -> Any:
        """Reduce a class; cloudpickle reduces those that only claim to be of `builtins`."""
        reduced = super().reduce_class(kind)
        if reduced is NotImplemented and kind.__module__ == "builtins":
            return cloudpickle.Pickler.reducer_override(self, kind)
        return reduced


class BarePickler(ReachPickler):
    """Pickles without annotations, which may refer to anything and are rarely needed."""

    annotations = False
