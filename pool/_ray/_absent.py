"""Modules of Ray's that this package lacks: errors that say what to do instead."""

from __future__ import annotations

#: By the name below `ray` or `ray.util`.
ADVICE = {
    "collective": "use torch.distributed in actors, or pass arrays by references: they are shared",
    "dag": "call .remote() with the references of the calls before",
    "experimental": "for tqdm_ray, call tqdm in the program, over util.as_completed(refs); for "
    "internal_kv, keep values in an actor that has a name",
    "data": "read files with pandas or pyarrow, and map over parts with pool.Pool",
    "metrics": "keep numbers in an actor, or use prometheus_client",
    "placement_group": "there is one machine; ask for num_cpus, num_gpus and resources",
    "rllib": "use Ray itself",
    "serve": "put actors behind a web framework such as Flask or FastAPI, or use Ray itself",
    "state": "use timeline(), available_resources(), and `python -m pool actors`",
    "train": "start an actor for each GPU with num_gpus=1, or use Ray itself",
    "tune": "run trials as tasks, with optuna for the search, or use Ray itself",
    "workflow": "call .remote() with the references of the calls before",
}

#: Names in `ray.util` that belong to a module which is not here.
OF_MODULE = {
    "NodeLabelSchedulingStrategy": "placement_group",
    "PlacementGroupSchedulingStrategy": "placement_group",
    "get_placement_group": "placement_group",
    "placement_group_table": "placement_group",
    "remove_placement_group": "placement_group",
}


def reason(name: str) -> str:
    """Return one line that says that a module of Ray's is not here."""
    last = name.rpartition(".")[2]
    return f"{name} is not here: {ADVICE[OF_MODULE.get(last, last)]}"


def refuse(name: str) -> None:
    """Raise the error of a module that is not here.

    Raises
    ------
    ImportError
    """
    raise ImportError(reason(name), name=name)
