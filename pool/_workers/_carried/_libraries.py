"""numpy, pandas and matplotlib: error handling, options, styles."""

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


def _read_numpy(numpy: Any) -> Any:
    errors, printing = numpy.geterr(), numpy.get_printoptions()
    changed = {
        name: value for name, value in printing.items() if _FRESH_PRINTING.get(name) != value
    }
    if errors == _FRESH_ERRORS and not changed:
        return None
    return errors, packed(changed)


def _write_numpy(numpy: Any, value: tuple[dict[str, Any], bytes | None]) -> None:
    errors, printing = value
    numpy.seterr(**errors)
    if printing is not None:
        numpy.set_printoptions(**unpacked(printing))


def _read_pandas(pandas: Any) -> Any:
    # There is no public way to ask which options are not at their default, and asking for
    # each of them one by one takes a millisecond.
    config = sys.modules["pandas._config.config"]
    changed: dict[str, Any] = {}
    _collect(config._global_config, "", config._registered_options, changed)
    return packed(changed) if changed else None


def _collect(
    options: dict[str, Any], prefix: str, registered: dict[str, Any], changed: dict[str, Any]
) -> None:
    for name, value in options.items():
        key = prefix + name
        if isinstance(value, dict):
            _collect(value, key + ".", registered, changed)
        elif registered[key].defval != value:
            changed[key] = value


def _write_pandas(pandas: Any, value: bytes) -> None:
    for name, option in unpacked(value).items():
        pandas.set_option(name, option)


def _read_matplotlib(matplotlib: Any) -> Any:
    # As dicts: to ask for the backend in the ordinary way would choose one.
    fresh = matplotlib.rcParamsDefault
    changed = {}
    for name, value in dict.items(matplotlib.rcParams):
        if dict.get(fresh, name) != value:
            changed[name] = value
    return packed(changed) if changed else None


def _write_matplotlib(matplotlib: Any, value: bytes) -> None:
    matplotlib.rcParams.update(unpacked(value))


SETTINGS = {
    "numpy": Setting("numpy", _read_numpy, _write_numpy),
    "pandas": Setting("pandas", _read_pandas, _write_pandas),
    "matplotlib": Setting("matplotlib", _read_matplotlib, _write_matplotlib),
}
