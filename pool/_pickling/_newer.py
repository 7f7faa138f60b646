"""Built-in types that only newer Pythons have; in older ones nothing is of these types."""

from __future__ import annotations

import builtins
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Nothing:
    """Stands for types that this Python does not have."""


#: What `sentinel` makes; since Python 3.15.
SENTINEL: Any = getattr(builtins, "sentinel", _Nothing)

#: Dicts that cannot be changed; since Python 3.15.
FROZEN_DICT: Any = getattr(builtins, "frozendict", _Nothing)

#: What stands for a module, or a part of one, until it is used; since Python 3.15.
LAZY: Any = getattr(types, "LazyImportType", _Nothing)

#: Types whose objects hold nothing, and are told apart by identity.
BARE = frozenset({object, SENTINEL})
