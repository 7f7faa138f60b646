"""What a program, a task or an actor can learn about where it runs."""

from __future__ import annotations

import os
import sys

from pool._objects import _home
from pool._objects._home import current
from pool._objects._ids import ActorID, JobID, NodeID, TaskID
from pool._ray._classes import ActorHandle
from pool._ray._strategies import ADDRESS, NODE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self


def cluster_resources() -> dict[str, float]:
    """Return all resources by name: CPU, GPU, this machine, and those that `init` was given."""
    return dict(current().facts()["total"])


def available_resources() -> dict[str, float]:
    """Return by name how much of each resource is free now; without those of which none is."""
    return {name: amount for name, amount in current().facts()["free"].items() if amount}


def nodes() -> list[dict[str, Any]]:
    """Return this machine as the only node."""
    return [
        {
            "NodeID": NODE,
            "Alive": True,
            "NodeManagerAddress": ADDRESS,
            "NodeManagerHostname": os.uname().nodename,
            "Resources": cluster_resources(),
            "alive": True,
        }
    ]


def get_gpu_ids() -> list[int] | list[str]:
    """Return the GPUs granted to this task or actor, numbers if they are; [] in a program."""
    host = sys.modules.get("pool._in_worker._context")
    gpus: list[str] = host.context.gpus if host is not None else []
    return [int(name) for name in gpus] if all(map(str.isdigit, gpus)) else gpus


def get_runtime_context() -> RuntimeContext:
    """Return what is known about the task, the actor or the program that asks."""
    return RuntimeContext()


class RuntimeContext:
    """Tells which task, actor or program runs here; made by `get_runtime_context`."""

    @property
    def _context(self) -> Any:
        from pool._in_worker._context import context

        return context

    def get_task_id(self) -> str | None:
        """Return the name of this task or call, None in a program or for a plain task."""
        task = self._context.task
        return None if task is None else task.hex()

    def get_task_name(self) -> str | None:
        """Return the function's name, None in a program."""
        return self._context.name or None

    get_task_function_name = get_task_name

    def get_actor_id(self) -> str | None:
        """Return the name of the actor that this is, None elsewhere."""
        host = self._context.actor
        return None if host is None or host.is_task else ActorID(host.key).hex()

    def get_actor_name(self) -> str | None:
        """Return the name that the actor was given; "" if none, None outside actors."""
        host = self._context.actor
        return None if host is None or host.is_task else host.name

    @property
    def current_actor(self) -> ActorHandle:
        """Return a handle of the actor that this is.

        Raises
        ------
        RuntimeError
            Outside an actor.
        """
        host = self._context.actor
        if host is None or host.is_task:
            raise RuntimeError("current_actor: this is not an actor")
        if host.detached:
            # A detached actor has a runtime of its own, which finds it by its name.
            found = current().find(host.name, self._context.namespace)
            if found is None:
                raise RuntimeError("current_actor: nobody finds this actor by its name any more")
            return ActorHandle(found)
        from pool._objects._refs import arrive
        from pool._ray._classes import facts_of

        ref: Any = arrive("a", host.key, facts_of(host.kind, tuple(host.groups)))
        return ActorHandle(ref)

    def is_canceled(self) -> bool:
        """Return whether the method that runs, of an actor, was cancelled.

        Raises
        ------
        RuntimeError
            In an async actor, whose methods are cancelled as asyncio does it.
        """
        host = self._context.host
        return bool(host is not None and host.is_canceled())

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """Whether this actor has been started again."""
        return bool(self._context.reconstructed)

    @property
    def namespace(self) -> str:
        """The namespace of named actors."""
        return str(self._context.namespace or current().facts()["namespace"])

    def get_namespace(self) -> str:
        """Return the namespace of named actors."""
        return self.namespace

    def get_assigned_resources(self) -> dict[str, float]:
        """Return the resources that this task or actor holds, by name."""
        context = self._context
        if context.actor is not None:
            return dict(context.resources)
        return {"CPU": 1.0} if context.name else {}

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        """Return the GPUs granted to this task or actor."""
        return {"GPU": list(self._context.gpus)}

    def get_node_id(self) -> str:
        """Return the name of this machine."""
        return NODE

    def get_job_id(self) -> str:
        """Return the pid of the program, as eight hexadecimal digits."""
        worker = sys.modules.get("pool._workers._worker")
        current_worker = None if worker is None else worker.Worker.current
        pid = os.getpid() if current_worker is None else current_worker.parent_pid
        return f"{pid:08x}"

    @property
    def node_id(self) -> NodeID:
        """The name of this machine."""
        return NodeID(bytes.fromhex(NODE))

    @property
    def job_id(self) -> JobID:
        """The name of the program."""
        return JobID(bytes.fromhex(self.get_job_id()))

    @property
    def actor_id(self) -> ActorID | None:
        """The name of the actor that this is, None elsewhere."""
        name = self.get_actor_id()
        return None if name is None else ActorID(bytes.fromhex(name))

    @property
    def task_id(self) -> TaskID | None:
        """The name of this task or call, None in a program or for a plain task."""
        task = self._context.task
        return None if task is None else TaskID(task)

    @property
    def runtime_env(self) -> dict[str, Any]:
        """The runtime environment of this task or actor, empty if it has none."""
        environ = {**current().facts()["environ"], **self._context.environ}
        return {"env_vars": environ} if environ else {}

    def get_runtime_env_string(self) -> str:
        """Return the runtime environment as JSON."""
        import json

        return json.dumps(self.runtime_env)

    def get_placement_group_id(self) -> None:
        """Return None: there are no placement groups."""

    def get(self) -> dict[str, Any]:
        """Return the names of the machine, program, namespace, task and actor that there are."""
        found = {
            "node_id": self.node_id,
            "job_id": self.job_id,
            "namespace": self.namespace,
            "task_id": self.get_task_id(),
            "actor_id": self.get_actor_id(),
        }
        return {name: value for name, value in found.items() if value is not None}

    def get_worker_id(self) -> str:
        """Return the pid of this process, as hexadecimal digits."""
        return f"{os.getpid():056x}"


class RayContext(dict):  # type: ignore[type-arg]  # `Any` is for type checkers only
    """Returned by `init`: facts by name. As a context manager it ends the runtime."""

    @property
    def address_info(self) -> dict[str, Any]:
        """The same facts."""
        return dict(self)

    @property
    def dashboard_url(self) -> str:
        """Empty: there is no dashboard."""
        return ""

    def disconnect(self) -> None:
        """End the runtime."""
        # Found by name, since that module imports this one.
        sys.modules["pool._ray._lifetime"].shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.disconnect()


def timeline(filename: str | None = None) -> list[dict[str, Any]] | None:
    """Return what has run so far as events of Chrome's tracing, or write them to a file.

    Parameters
    ----------
    filename : str, optional
        JSON for ``chrome://tracing`` or ui.perfetto.dev.
    """
    home: Any = _home.current()
    events: list[dict[str, Any]] = home.timeline.as_trace() if hasattr(home, "timeline") else []
    if filename is None:
        return events
    import json

    with open(filename, "w", encoding="utf-8") as file:
        json.dump(events, file)
    return None


# Where users find them.
for _public in (
    cluster_resources,
    available_resources,
    nodes,
    get_gpu_ids,
    get_runtime_context,
    timeline,
):
    _public.__module__ = "pool"
