"""Ray's options by name: supported ones are checked, others are refused by name."""

from __future__ import annotations

import os
from copy import copy

from pool._objects._options import ActorOptions, CallOptions, Kinds, TaskOptions
from pool._objects._protocol import DYNAMIC, STREAM
from pool._ray._strategies import chooses_here

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

#: More of a resource than any machine has; infinity cannot be counted with.
LIMIT = 1e15

TASK_NAMES = frozenset(
    {
        "max_calls", "max_retries", "name", "num_cpus", "num_gpus", "num_returns", "resources",
        "retry_exceptions", "runtime_env",
    }
)  # fmt: skip
ACTOR_NAMES = frozenset(
    {
        "allow_out_of_order_execution", "concurrency_groups", "get_if_exists", "lifetime",
        "max_concurrency", "max_pending_calls", "max_restarts", "max_task_retries", "name",
        "namespace", "num_cpus", "num_gpus", "resources", "runtime_env",
    }
)  # fmt: skip

#: Options that choose a machine, or what to record: they have no effect on one machine.
NO_EFFECT = frozenset(
    {
        "_labels", "enable_task_events", "fallback_strategy", "label_selector", "memory",
    }
)  # fmt: skip

#: Options of Ray that are of no use on one machine, each with the reason or what to do instead.
REFUSED = {
    "_generator_backpressure_num_objects": "values are stored as they are yielded; yield less",
    "placement_group": "there is one machine",
    "placement_group_bundle_index": "there is one machine",
    "placement_group_capture_child_tasks": "there is one machine",
    "scheduling_strategy": "there is one machine; 'DEFAULT', 'SPREAD' and NodeAffinity are taken",
    "accelerator_type": "name it in `resources`, here and in init()",
    "object_store_memory": "objects are kept in memory as they are",
}


def task_options(given: Mapping[str, Any], title: str) -> TaskOptions:
    """Return the options of a task.

    Raises
    ------
    ValueError, TypeError
        They name the option.
    """
    _refuse_unknown(given, TASK_NAMES, f"task {title}")
    options = TaskOptions()
    number = given.get("num_returns")
    options.returns = 1 if number is None else returns_of(number)
    options.retries = _count("max_retries", given, -1, 3)
    options.retry_errors = _kinds(given.get("retry_exceptions"))
    options.name = text_of("name", given.get("name"))
    resources = resources_of(given, default_cpus=1.0)
    options.environ = environ_of(given, f"task {title}")
    # A task that needs more than an ordinary worker gets a process of its own. That ends after one
    # call, which is within any limit of calls (0: none).
    ends_early = _count("max_calls", given, 0, 0) > 0
    plain = resources == {"CPU": 1.0} and not (options.environ or ends_early)
    options.resources = None if plain else resources
    return options


def actor_options(given: Mapping[str, Any], title: str) -> ActorOptions:
    """Return the options of an actor; raise what `task_options` raises."""
    _refuse_unknown(given, ACTOR_NAMES, f"actor {title}")
    options = ActorOptions()
    options.name = text_of("name", given.get("name"))
    if given.get("name") == "":
        raise ValueError(f"actor {title}: name='': a name, or None, is expected")
    options.namespace = text_of("namespace", given.get("namespace"))
    lifetime = text_of("lifetime", given.get("lifetime"))
    if lifetime not in ("", "detached", "non_detached"):
        raise ValueError(f"lifetime={lifetime!r}: 'detached', 'non_detached' or None is expected")
    options.detached = lifetime == "detached"
    if options.detached and not options.name:
        raise ValueError(f"actor {title}: lifetime='detached' needs a name to find it by")
    options.get_if_exists = bool(given.get("get_if_exists", False))
    if options.get_if_exists and not options.name:
        raise ValueError("get_if_exists=True needs a name")
    options.restarts = _count("max_restarts", given, -1, 0)
    options.task_retries = _count("max_task_retries", given, -1, 0)
    options.concurrency = _count("max_concurrency", given, 1, 0)
    options.groups = _groups(given.get("concurrency_groups"))
    out_of_order = given.get("allow_out_of_order_execution")
    options.out_of_order = None if out_of_order is None else bool(out_of_order)
    options.pending = _count("max_pending_calls", given, -1, -1)
    options.environ = environ_of(given, f"actor {title}")
    options.resources = resources_of(given, default_cpus=0.0)
    if options.detached and options.resources.keys() - {"CPU"}:
        raise ValueError(
            f"actor {title}: a detached actor belongs to no program, so nobody could count its "
            "GPUs; leave num_gpus and resources away"
        )
    return options


def call_options(given: Mapping[str, Any], before: CallOptions | None) -> CallOptions | None:
    """Return options of calls of a method, changed as `given` has it; `before` if it changes none.

    Raises
    ------
    ValueError, TypeError
        They name the option.
    """
    changes: dict[str, Any] = {}
    if given.get("concurrency_group") is not None:
        changes["group"] = text_of("concurrency_group", given["concurrency_group"])
    if given.get("max_task_retries") is not None:
        changes["retries"] = _count("max_task_retries", given, -1, 0)
    if given.get("retry_exceptions") is not None:
        changes["retry_errors"] = _kinds(given["retry_exceptions"])
    if not changes:
        return before
    options = CallOptions() if before is None else copy(before)
    for name, value in changes.items():
        setattr(options, name, value)
    return options


def environ_of(given: Mapping[str, Any], what: str) -> dict[str, str]:
    """Return the environment variables of a runtime environment, which may set nothing else."""
    runtime_env = given.get("runtime_env") or {}
    if not isinstance(runtime_env, dict):
        raise TypeError(f"{what}: runtime_env={runtime_env!r}: a dict is expected")
    for name, value in runtime_env.items():
        here = name == "working_dir" and _is_here(value)
        if value and not here and name not in ("env_vars", "excludes"):  # nothing is copied
            raise ValueError(
                f"{what}: runtime_env may have env_vars, not {name!r}: workers have the packages, "
                "sys.path and folder of the program"
            )
    environ = dict(runtime_env.get("env_vars") or {})
    for name, value in environ.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"{what}: env_vars={{{name!r}: {value!r}}}: strings are expected")
    return environ


def _is_here(folder: Any) -> bool:
    """Return whether a folder is that of the program, where workers are anyway."""
    return isinstance(folder, str) and os.path.realpath(folder) == os.path.realpath(os.curdir)


def returns_of(number: Any) -> int:
    """Return the number of values of a call."""
    if number == "streaming":
        return STREAM
    if number == "dynamic":
        return DYNAMIC
    what = f"num_returns={number!r}: a number, 'streaming' or 'dynamic' is expected"
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(what)
    if number < 0:
        raise ValueError(what)
    return number


def resources_of(given: Mapping[str, Any], default_cpus: float) -> dict[str, float]:
    """Return the amounts of resources that are asked for, by name."""
    amounts: dict[str, float] = {}
    cpus = given.get("num_cpus")
    amounts["CPU"] = default_cpus if cpus is None else amount_of("num_cpus", cpus)
    if given.get("num_gpus") is not None:
        amounts["GPU"] = amount_of("num_gpus", given["num_gpus"])
        if amounts["GPU"] > 1 and amounts["GPU"] % 1:
            raise ValueError(f"num_gpus={amounts['GPU']}: above one it must be a whole number")
    amounts |= others_of(given.get("resources"))
    return {name: amount for name, amount in amounts.items() if amount or name == "GPU"}


def others_of(resources: Any) -> dict[str, float]:
    """Return the amounts of resources other than CPU and GPU, by name."""
    if resources is not None and not isinstance(resources, dict):
        raise TypeError(f"resources={resources!r}: a dict is expected")
    amounts = {}
    for name, amount in (resources or {}).items():
        if not isinstance(name, str):
            raise TypeError(f"resources={{{name!r}: ...}}: names are strings")
        if name in ("CPU", "GPU"):
            raise ValueError(f"resources={{{name!r}: ...}}: use num_{name.lower()}s")
        amounts[name] = amount_of(f"resources[{name!r}]", amount)
    return amounts


def amount_of(name: str, amount: Any) -> float:
    """Return an amount as it is counted."""
    what = f"{name}={amount!r}: a finite number that is not negative is expected"
    if isinstance(amount, bool) or not isinstance(amount, int | float):
        raise TypeError(what)
    if not 0 <= amount < LIMIT:
        raise ValueError(what)
    return float(amount)


def text_of(name: str, text: Any) -> str:
    """Return a name as it is kept; "": none."""
    if text is None:
        return ""
    if not isinstance(text, str):
        raise TypeError(f"{name}={text!r}: a string is expected")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}={text!r}: {error.reason} at position {error.start}") from None
    return str(text)


def _kinds(given: Any) -> bool | Kinds:
    if given is None or isinstance(given, bool):
        return bool(given)
    if not isinstance(given, list | tuple):
        raise TypeError(f"retry_exceptions={given!r}: True, False or a list is expected")
    for kind in given:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise ValueError(f"retry_exceptions: {kind!r} is no class of exceptions")
    return Kinds(tuple(given))


def _groups(given: Any) -> dict[str, int]:
    if given is not None and not isinstance(given, dict):
        raise TypeError(f"concurrency_groups={given!r}: a dict is expected")
    groups = {}
    for name, number in (given or {}).items():
        if not text_of("concurrency_groups: a name", name):
            raise ValueError(f"concurrency_groups={given!r}: each needs a name")
        groups[name] = _whole(f"concurrency_groups[{name!r}]", number, 1)
    return groups


def _count(name: str, given: Mapping[str, Any], least: int, default: int) -> int:
    number = given.get(name)
    if number is None:  # as where it is not given
        return default
    return _whole(name, number, least)


def _whole(name: str, number: Any, least: int) -> int:
    what = f"{name}={number!r}: a whole number from {least} on is expected"
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(what)
    if number < least:
        raise ValueError(what)
    return number


def _refuse_unknown(given: Mapping[str, Any], known: frozenset[str], what: str) -> None:
    for name, value in given.items():
        if name == "scheduling_strategy" and chooses_here(value):
            continue
        if name in REFUSED and value is not None:
            raise ValueError(f"{what}: option {name!r} is not supported here: {REFUSED[name]}")
        known_of = name in known or name in REFUSED or name in NO_EFFECT
        if not known_of and not name.startswith("_metadata"):
            names = ", ".join(sorted(known))
            raise ValueError(f"{what}: unknown option {name!r}; there are {names}")
