"""What can be sent, and how it arrives: everything between objects and bytes.

In the order in which they are tried: names, for what a worker can import; definitions,
for what lives in the main module or was never given a name that a worker could use;
reducers, for what programs keep as attributes (locks, files, loggers). What is left is
refused with an error that names the path to the culprit.

Both sides know functions and classes by the same tokens (`_identity`) and have one namespace per
module in common (`_namespaces`). A message is a plain pickle, whatever it needs.

* To and from bytes: `_encoding`; `_payloads` for functions, which are pickled once for many
  calls, with `_captured` for what they hold, `_initializers`, `_exceptions`.
* What becomes of an object: `_picklers` decide, `_reach` where cloudpickle is needed; `_functions`,
  `_classes` (`_made` where they arrive), `_modules`, `_special`, `_reducers`, `_files` and
  `_typing` do it. `_shared`: arrays on memory that processes share; `_tables`: what forked workers
  have; `_descriptors`: connections, sockets, tensors of PyTorch. What is special about classes:
  `_class_dicts`, `_slots`, `_metaclasses`, `_builtin_types`, `_numbers`. Types that only newer
  Pythons have: `_newer`.
* What a function needs: `_origins` (can a worker import it?), `_names` and `_implicit` (which
  globals it uses), `_needs` (what follows from that). `_rewritten` and `_originals`: what a worker
  imports, but not as the program has it.
* Definitions that precede a message: `_preludes`, made of `_bindings`, with `_named`, `_homes` and
  `_constants` so that one object stays one, and `_facts` about modules; `_entered`: those that a
  worker has. `_kept`, `_notes` and `_versions` say for how long a pickle can be used again.
* Globals that a worker asks for: `_lookups`. What cannot be sent, and where it is: `_culprit`;
  `_unpicklable` finds it at once where programs mostly have it.

This module offers what every message needs; the rest is imported from its module, where it is
needed. See docs/design/messages.md.
"""

from __future__ import annotations

import sys

from store._codec import Encoded

from ._captured import Captured, Together
from ._descriptors import withdraw
from ._encoding import CannotSend, dumps_to_parent, dumps_to_worker, loads, with_names
from ._files import flush_files
from ._functions import ATOMS
from ._kept import drop_large
from ._namespaces import install_main, look_up_with, main_facts
from ._payloads import FunctionPayload, dumps_function, kept_payload
from ._shared import inherits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from ._exceptions import dumps_exception

__all__ = [
    "ATOMS",
    "CannotSend",
    "Captured",
    "Encoded",
    "FunctionPayload",
    "Together",
    "drop_large",
    "dumps_exception",
    "dumps_function",
    "dumps_to_parent",
    "dumps_to_worker",
    "flush_files",
    "forget_all",
    "inherits",
    "install_main",
    "kept_payload",
    "loads",
    "look_up_with",
    "main_facts",
    "notice_imports",
    "start_anew",
    "tell_cloudpickle",
    "with_names",
    "withdraw",
]


def notice_imports(
    when_imported: Callable[[str, Callable[[ModuleType], object]], object],
) -> None:
    """Have objects that arrive become those of modules that are imported later, see `_homes`.

    Parameters
    ----------
    when_imported : callable
        Calls a step with a module, given by its name, once that is imported.
    """
    from . import _homes

    _homes.when_imported = when_imported
    tell_cloudpickle(when_imported)


def tell_cloudpickle(
    when_imported: Callable[[str, Callable[[ModuleType], object]], object],
) -> None:
    """Have cloudpickle told of classes that were sent before it is imported, see `_numbers`.

    Parameters
    ----------
    when_imported : callable
        As for `notice_imports`.
    """
    from . import _identity

    _identity.when_imported = when_imported


def start_anew() -> None:
    """Forget the pickles that are kept: new workers are to get everything as it is now."""
    from . import _kept

    _kept.clear()


def forget_all() -> None:
    """Drop all references to the program's objects: the interpreter is about to end."""
    for name in ("_kept", "_namespaces", "_identity"):
        # Not imported: the program may have emptied `sys.modules`, and begin anew.
        module: Any = sys.modules.get(f"{__name__}.{name}")
        if module is not None:
            module.clear()


def __getattr__(name: str) -> object:
    if name == "dumps_exception":
        from ._exceptions import dumps_exception

        # Kept, so that later calls find it without this function.
        globals()[name] = dumps_exception
        return dumps_exception
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
