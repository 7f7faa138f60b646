"""The life of the runtime: it starts at its first use or by `init`, and ends by `shutdown`."""

from __future__ import annotations

import os

from pool._objects import _home
from pool._ray._options import amount_of, environ_of, others_of, text_of
from pool._ray._strategies import ADDRESS, NODE_RESOURCES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Arguments of Ray's `init` that set up a cluster, and change nothing here.
_NO_EFFECT = frozenset(
    {
        "cgroup_path", "configure_logging", "dashboard_host", "dashboard_port",
        "enable_resource_isolation", "include_dashboard", "labels", "logging_config",
        "logging_format", "logging_level", "object_spilling_directory", "object_store_memory",
        "proxy_server_url", "system_reserved_cpu", "system_reserved_memory",
        "_driver_object_store_memory", "_enable_object_reconstruction", "_memory",
        "_metrics_export_port", "_node_ip_address", "_node_name", "_plasma_directory",
        "_redis_password", "_redis_username", "_system_config", "_temp_dir",
    }
)  # fmt: skip

#: Arguments of Ray's `init` that are accepted if they are empty; and what to do instead.
_ONLY_EMPTY = {
    "job_config": "there are no jobs beside this program",
    "local_mode": "call the function itself, f._function(...), to run it here",
}


class LoggingConfig:
    """How Ray's processes log; `init` takes it, without effect: here they log as the program does.

    Parameters
    ----------
    encoding : str
    log_level : str
    additional_log_standard_attrs : list of str, optional
    """

    def __init__(
        self,
        encoding: str = "TEXT",
        log_level: str = "INFO",
        additional_log_standard_attrs: list[str] | None = None,
    ) -> None:
        self.encoding = encoding
        self.log_level = log_level
        self.additional_log_standard_attrs = additional_log_standard_attrs or []


def init(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    resources: dict[str, float] | None = None,
    ignore_reinit_error: bool = False,
    namespace: str | None = None,
    log_to_driver: bool | None = True,
    runtime_env: dict[str, Any] | None = None,
    **others: Any,
) -> dict[str, Any]:
    """Start the runtime; not needed, since the first use does.

    Parameters
    ----------
    address : str, optional
        None, "auto" or "local": there is this machine only.
    num_cpus, num_gpus : int, optional
        The number of CPUs and GPUs. By default the CPUs that this process may use, and the GPUs
        that CUDA_VISIBLE_DEVICES names.
    resources : dict, optional
        Amounts of other resources, by name.
    ignore_reinit_error : bool
        Do not raise if the runtime runs already.
    namespace : str, optional
        The namespace of named actors; by default one that no other program has.
    log_to_driver : bool, optional
        Whether this process prints what tasks and actors print; None: as without it.
    runtime_env : dict, optional
        ``{"env_vars": {...}}``: environment variables of all workers, beside those of the program.
    **others
        ``include_dashboard``, ``logging_level`` and the like have no effect; unknown ones are
        refused.

    Returns
    -------
    dict
        Facts about the runtime; as a context manager it ends it.

    Raises
    ------
    RuntimeError
        If the runtime runs already.
    ValueError
        If an argument is unknown, or `address` names a cluster.
    """
    if address not in (None, "auto", "local"):
        raise ValueError(
            f"address={address!r}: there is this machine only; use Ray itself on a cluster"
        )
    for name, value in others.items():
        if name in _ONLY_EMPTY and value:
            raise ValueError(f"init: argument {name!r} is not supported here: {_ONLY_EMPTY[name]}")
        if name not in _NO_EFFECT and name not in _ONLY_EMPTY:
            raise ValueError(f"init: unknown argument {name!r}")
    environ = environ_of({"runtime_env": runtime_env}, "init")
    with _home.starting():
        running = is_initialized()
        if not running:
            shows = log_to_driver in (None, True)
            start(num_cpus, num_gpus, resources, namespace, shows, environ)
    if running and not ignore_reinit_error:
        raise RuntimeError(
            "the runtime runs already (the first use starts it, and tasks and actors have that "
            "of their program); call init() earlier, shutdown() before, or give "
            "ignore_reinit_error=True"
        )
    return facts()


def facts() -> dict[str, Any]:
    """Return what `init` returns."""
    from pool._ray._facts import RayContext, get_runtime_context

    return RayContext(
        node_ip_address=ADDRESS,
        address="local",
        pid=os.getpid(),
        node_id=get_runtime_context().get_node_id(),
    )


def is_program(home: Any) -> bool:
    """Return whether a home is a runtime, not what a worker has of that of its program."""
    return hasattr(home, "engine")


def _usable() -> Any:
    home: Any = _home.found()
    if home is not None and is_program(home) and not home.usable:
        home.stop()
        _home.give_up(home)
        return None
    return home


def start(
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    resources: dict[str, float] | None = None,
    namespace: str | None = None,
    log_to_driver: bool = True,
    environ: dict[str, str] | None = None,
) -> Any:
    """Start the runtime and return it; for the parameters see `init`."""
    from pool._cpus import usable_cpus
    from pool._runtime._runtime import Runtime

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    devices = [name.strip() for name in visible.split(",") if name.strip()]
    if num_gpus is not None:
        num_gpus = int(amount_of("num_gpus", num_gpus))
        if devices and len(devices) < num_gpus:
            raise ValueError(
                f"num_gpus={num_gpus}, and CUDA_VISIBLE_DEVICES={visible!r} names {len(devices)}"
            )
        devices = devices[:num_gpus] or [str(index) for index in range(num_gpus)]
    cpus = usable_cpus() if num_cpus is None else num_cpus
    total = {"CPU": amount_of("num_cpus", cpus), **others_of(resources)}
    total |= dict.fromkeys(NODE_RESOURCES, 1.0)
    if devices:
        total["GPU"] = float(len(devices))
    namespace = text_of("namespace", namespace)
    if not namespace:
        from pool._in_worker._context import context

        # In a detached actor, which is a program of its own: its namespace.
        namespace = context.namespace or os.urandom(8).hex()
    runtime = Runtime(total, devices, namespace, log_to_driver, environ or {})
    _home.set_current(runtime)
    return runtime


def shutdown() -> None:
    """End all tasks and actors of this program, and wait until they are gone.

    Detached actors go on. The next use starts a new runtime.
    """
    home = _home.found()
    if home is not None and is_program(home):
        home.stop()
        _home.give_up(home)


def is_initialized() -> bool:
    """Return whether the runtime runs; always true in tasks and actors."""
    return _home.borrows or _usable() is not None


# Not in a worker, which has set one that asks the program's runtime.
if _home.starter is None:
    _home.starter = start


# Where users find them.
for _public in (LoggingConfig, init, shutdown, is_initialized):
    _public.__module__ = "pool"
