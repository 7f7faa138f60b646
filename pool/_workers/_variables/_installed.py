"""Find out whether the program has set up objects of packages that only inheritance carries.

Each is one object for all modules of a program, which has been told what to do and refuses to be
pickled, or holds open files.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def to_be_inherited() -> str:
    """Return the name of such an object if it was set up; empty if there is none."""
    for name, is_set_up in _OBJECTS.items():
        module = sys.modules.get(name)
        try:
            if module is not None and is_set_up(module):
                return name
        except Exception:
            continue  # half imported; or another version, of which nothing is known
    return ""


def _has_sinks(loguru: Any) -> bool:
    """Return whether the logger has other sinks than the one that it begins with, and so on."""
    core = loguru.logger._core
    is_usual = core.handlers_count == 1 and 0 in core.handlers and len(core.levels) == 7
    return not is_usual or bool(core.extra or core.patcher or core.activation_list)


def _has_flags(flags: Any) -> bool:
    """Return whether flags of absl were given their values, mostly by `app.run`."""
    return bool(flags.FLAGS.is_parsed())


def _has_bindings(gin: Any) -> bool:
    """Return whether gin was told what to give to functions, mostly by `gin.parse_config_file`."""
    return bool(gin._CONFIG)


def _writes_hdf5(h5f: Any) -> bool:
    """Return whether h5py has a file open to write to it.

    It is locked: no other process can open it, but for a fork, in which it is open already.
    """
    files = h5f.get_obj_ids(h5f.OBJ_ALL, h5f.OBJ_FILE)
    return any(file.get_intent() == h5f.ACC_RDWR for file in files)


def _has_extensions(underscore: Any) -> bool:
    """Return whether documents of spaCy were given attributes, by `Doc.set_extension`."""
    kind = underscore.Underscore
    return bool(kind.doc_extensions or kind.span_extensions or kind.token_extensions)


def _has_date(quantlib: Any) -> bool:
    """Return whether QuantLib reckons with another day than today."""
    return bool(quantlib.Settings.instance().evaluationDate != quantlib.Date.todaysDate())


def _is_travelling(time_machine: Any) -> bool:
    """Return whether a test has set the clocks, which time_machine does within C's functions."""
    return bool(time_machine.escape_hatch.is_travelling())


def _has_units(registry: Any) -> bool:
    """Return whether the program has a registry of pint: its quantities are pickled without it."""
    from ._snapshot import snapshots

    modules = [sys.modules.get("__main__"), *snapshots.modules().values()]
    values = [value for module in modules if module for value in list(vars(module).values())]
    return any(issubclass(type(value), registry.UnitRegistry) for value in values)


_OBJECTS = {
    "loguru": _has_sinks,
    "absl.flags": _has_flags,
    "gin.config": _has_bindings,
    "h5py.h5f": _writes_hdf5,
    "spacy.tokens.underscore": _has_extensions,
    "QuantLib.QuantLib": _has_date,
    "pint.registry": _has_units,
    "time_machine": _is_travelling,
}
