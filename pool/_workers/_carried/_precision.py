"""Settings of mpmath and gmpy2: how precisely they compute, and what they do with odd results."""

from __future__ import annotations

from ._setting import Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: By context of mpmath, what a program may set there, and how that is after the import.
_FRESH_MPMATH = {
    "mp": {"prec": 53, "pretty": False, "trap_complex": False},
    "iv": {"prec": 53, "pretty": False},
}


def _read_mpmath(module: Any) -> dict[str, dict[str, Any]] | None:
    changed: dict[str, dict[str, Any]] = {}
    for context, fresh in _FRESH_MPMATH.items():
        present = {name: getattr(getattr(module, context), name) for name in fresh}
        if present != fresh:
            changed[context] = present
    return changed or None


def _write_mpmath(module: Any, value: dict[str, dict[str, Any]]) -> None:
    for context, present in value.items():
        for name, setting in present.items():
            setattr(getattr(module, context), name, setting)


def _read_gmpy2(module: Any) -> dict[str, int] | None:
    context, fresh = module.get_context(), module.context()
    names = [name for name in dir(fresh) if type(getattr(fresh, name)) in (int, bool)]
    changed = {
        name: getattr(context, name)
        for name in names
        # Without the flags that computations leave behind.
        if f"trap_{name}" not in names and getattr(context, name) != getattr(fresh, name)
    }
    return changed or None


def _write_gmpy2(module: Any, value: dict[str, int]) -> None:
    context = module.get_context()
    # The precision first: those of real and imaginary parts follow it where they were not set.
    for name in sorted(value, key=lambda name: name != "precision"):
        if getattr(context, name) != value[name]:
            setattr(context, name, value[name])


SETTINGS = {
    "mpmath": Setting("mpmath", _read_mpmath, _write_mpmath),
    "gmpy2": Setting("gmpy2", _read_gmpy2, _write_gmpy2),
}
