"""Settings of numpy, pandas and matplotlib: error handling, options, styles."""

from __future__ import annotations

import sys

from ._setting import Setting, packed, unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FRESH_ERRORS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
_FRESH_PRINTING = {
    "edgeitems": 3,
    "threshold": 1000,
    "floatmode": "maxprec",
    "precision": 8,
    "suppress": False,
    "linewidth": 75,
    "nanstr": "nan",
    "infstr": "inf",
    "sign": "-",
    "formatter": None,
    "legacy": False,
    "override_repr": None,
}


def _read_numpy(module: Any) -> Any:
    errors, printing = module.geterr(), module.get_printoptions()
    call = module.geterrcall()
    changed = {
        name: value for name, value in printing.items() if _FRESH_PRINTING.get(name) != value
    }
    if errors == _FRESH_ERRORS and call is None and not changed:
        return None
    return errors, packed(call), [entry for entry in map(packed, changed.items()) if entry]


def _write_numpy(module: Any, value: tuple[dict[str, Any], bytes | None, list[bytes]]) -> None:
    errors, call, printing = value
    if call is not None:
        module.seterrcall(unpacked(call))
    module.seterr(**errors)
    if printing:
        module.set_printoptions(**dict(map(unpacked, printing)))


def _read_pandas(module: Any) -> tuple[list[bytes], list[bytes]] | None:
    value = _options_of_pandas() or [], _accessors(module)
    return value if any(value) else None


def _options_of_pandas() -> list[bytes] | None:
    # There is no public way to ask which options are not at their default, and to ask for
    # each option takes a millisecond in all.
    config = sys.modules["pandas._config.config"]
    changed: dict[str, Any] = {}
    _collect(config._global_config, "", config._registered_options, changed)
    return _packed_each(changed)


def _packed_each(changed: dict[str, Any]) -> list[bytes] | None:
    """Pickle options one by one, so that one that cannot be pickled keeps back no other."""
    return [entry for entry in map(packed, changed.items()) if entry] or None


def _collect(
    options: dict[str, Any], prefix: str, registered: dict[str, Any], changed: dict[str, Any]
) -> None:
    for name, value in options.items():
        key = prefix + name
        if isinstance(value, dict):
            _collect(value, key + ".", registered, changed)
        elif registered[key].defval != value:
            changed[key] = value


def _accessors(module: Any) -> list[bytes]:
    """Return the accessors that the main module has registered, which workers never run."""
    found = [
        packed((kind, name, accessor._accessor))
        for kind in ("DataFrame", "Series", "Index")
        for name in sorted(getattr(module, kind)._accessors)
        if (accessor := vars(getattr(module, kind)).get(name)) is not None
        and getattr(accessor._accessor, "__module__", None) == "__main__"
    ]
    return [entry for entry in found if entry]


def _write_pandas(module: Any, value: tuple[list[bytes], list[bytes]]) -> None:
    options, accessors = value
    for entry in options:
        module.set_option(*unpacked(entry))
    for entry in accessors:
        kind, name, accessor = unpacked(entry)
        register = getattr(module.api.extensions, f"register_{kind.lower()}_accessor")
        register(name)(accessor)


def _read_matplotlib(module: Any) -> Any:
    # Read as dicts: to ask for the backend in the ordinary way would choose one.
    fresh = module.rcParamsDefault
    changed = {}
    for name, value in dict.items(module.rcParams):
        if dict.get(fresh, name) != value:
            changed[name] = value
    return _packed_each(changed)


def _write_matplotlib(module: Any, value: list[bytes]) -> None:
    module.rcParams.update(map(unpacked, value))


SETTINGS = {
    "numpy": Setting("numpy", _read_numpy, _write_numpy),
    "pandas": Setting("pandas", _read_pandas, _write_pandas),
    "matplotlib": Setting("matplotlib", _read_matplotlib, _write_matplotlib),
}
