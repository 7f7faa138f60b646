"""Settings of PyTorch, JAX and scikit-learn: kinds of numbers, determinism, what is returned."""

from __future__ import annotations

import sys

from ._setting import Setting, packed, unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FRESH_TORCH = {
    "dtype": "float32",
    "matmul": "highest",
    "deterministic": (False, False),
    "grad": True,
    "anomaly": (False, True),
    "device": None,
    "printing": {
        "precision": 4,
        "threshold": 1000,
        "edgeitems": 3,
        "linewidth": 80,
        "sci_mode": None,
    },
}


def _read_torch(module: Any) -> dict[str, Any] | None:
    # Not `get_default_device`, which may set up a GPU in order to tell its number.
    context = getattr(module._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    present = {
        "dtype": str(module.get_default_dtype()).removeprefix("torch."),
        "deterministic": (
            module.are_deterministic_algorithms_enabled(),
            module.is_deterministic_algorithms_warn_only_enabled(),
        ),
        "grad": module.is_grad_enabled(),
        "anomaly": (module.is_anomaly_enabled(), module.is_anomaly_check_nan_enabled()),
        "device": None if context is None else str(context.device),
        "printing": dict(vars(sys.modules["torch._tensor_str"].PRINT_OPTS)),
    }
    try:
        present["matmul"] = module.get_float32_matmul_precision()
    except RuntimeError:  # set for each operation, by other functions
        pass
    changed = {name: value for name, value in present.items() if value != _FRESH_TORCH[name]}
    return changed or None


def _write_torch(module: Any, value: dict[str, Any]) -> None:
    writers = {
        "dtype": lambda name: module.set_default_dtype(getattr(module, name)),
        "matmul": module.set_float32_matmul_precision,
        "deterministic": lambda modes: module.use_deterministic_algorithms(
            modes[0], warn_only=modes[1]
        ),
        "grad": module.set_grad_enabled,
        "anomaly": lambda modes: module.autograd.set_detect_anomaly(*modes),
        "device": module.set_default_device,
        "printing": lambda options: module.set_printoptions(**options),
    }
    for name, setting in value.items():
        writers[name](setting)


def _read_sklearn(module: Any) -> list[bytes] | None:
    # What `set_config` changes is a copy of this, of the thread's own.
    fresh = sys.modules["sklearn._config"]._global_config
    changed = [entry for entry in module.get_config().items() if fresh.get(entry[0]) != entry[1]]
    return [entry for entry in map(packed, changed) if entry] or None


def _write_sklearn(module: Any, value: list[bytes]) -> None:
    module.set_config(**dict(map(unpacked, value)))


#: What programs set of JAX, as it is after the import.
_FRESH_JAX = {
    "jax_enable_x64": False,
    "jax_debug_nans": False,
    "jax_debug_infs": False,
    "jax_disable_jit": False,
    "jax_log_compiles": False,
    "jax_platforms": None,
    "jax_default_matmul_precision": None,
    "jax_default_prng_impl": "threefry2x32",
    "jax_numpy_dtype_promotion": "standard",
    "jax_numpy_rank_promotion": "allow",
}


def _read_jax(module: Any) -> dict[str, Any] | None:
    values = module.config.values
    present = {name: getattr(values[name], "value", values[name]) for name in _FRESH_JAX}
    changed = {name: value for name, value in present.items() if value != _FRESH_JAX[name]}
    return changed or None


def _write_jax(module: Any, value: dict[str, Any]) -> None:
    for name, setting in value.items():
        module.config.update(name, setting)


SETTINGS = {
    "torch": Setting("torch", _read_torch, _write_torch),
    "jax": Setting("jax", _read_jax, _write_jax),
    "sklearn": Setting("sklearn", _read_sklearn, _write_sklearn),
}
