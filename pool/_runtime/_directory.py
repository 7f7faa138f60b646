"""The actors of a runtime, and how they are found by their names."""

from __future__ import annotations

from pool._objects._codes import SentCode
from pool._objects._options import ActorOptions
from pool._objects._parcels import Parcel
from pool._runtime._actors import Actor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pool._objects._refs import ActorFacts, ActorRef
    from pool._runtime._runtime import Runtime


class Directory:
    """The actors of a runtime, by name. All methods run under the driver's lock.

    Parameters
    ----------
    runtime : Runtime

    Attributes
    ----------
    alive : set of Actor
        All that are not dead for good.
    ended : Exception or None
        What actors get, and tasks with processes of their own, that come too late: all are ended.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.alive: set[Actor] = set()
        self.ended: Exception | None = None
        self._names: dict[tuple[str, str], Actor] = {}

    def create(self, code: Any, parcel: Any, options: Any) -> ActorRef | Exception:
        """Start an actor.

        Returns
        -------
        ActorRef or Exception
            An error if its name is taken, if it asks for more resources than there are, or at the
            end. It is not raised: an exception under the lock means that the driver has crashed.
        """
        if self.ended is not None:
            return self.ended
        problem = self._runtime.grants.unschedulable(options.resources, code.title)
        if problem is not None:
            return problem
        key = (options.namespace or self._runtime.namespace, options.name)
        if options.name:
            known = self.find(options.name, key[0])
            if known is not None:
                if options.get_if_exists:
                    return known
                from pool.exceptions import ActorAlreadyExistsError

                return ActorAlreadyExistsError(
                    f"an actor named {options.name!r} exists already in namespace {key[0]!r}; "
                    "use get_actor, or give get_if_exists=True"
                )
        if options.detached:
            from pool._runtime._detached import DetachedActor

            if code.refs:
                return TypeError(
                    f"{code.title}: a class that holds references or handles cannot be that of a "
                    "detached actor; give them to its constructor"
                )
            actor: Actor = DetachedActor(self._runtime, code, parcel, options)
        else:
            actor = Actor(self._runtime, code, parcel, options)
        ref = self._enter(actor, key)
        actor.begin()
        return ref

    def _enter(self, actor: Actor, key: tuple[str, str]) -> ActorRef:
        """Add an actor; return the reference that its handles hold."""
        self.alive.add(actor)
        if key[1]:
            self._names[key] = actor
        return actor.hold()

    def held(self, name: bytes, facts: ActorFacts) -> ActorRef:
        """Return a new reference to an actor of which this process held none any more.

        If the actor is not known any more, it is to one that is dead.
        """
        for actor in self.alive:
            if actor.name == name:
                return actor.hold()
        options = ActorOptions()
        options.facts = facts
        actor = Actor(self._runtime, SentCode.unknown(facts), Parcel([]), options)
        actor.name = name
        actor.mailbox.exited("nobody holds it any more")
        return actor.hold()

    def find(self, name: str, namespace: str | None) -> ActorRef | None:
        """Return a named actor, of this program or detached; under the lock."""
        key = (namespace or self._runtime.namespace, name)
        actor = self._names.get(key)
        if actor is not None and not _ends(actor):
            return actor.hold()  # even if it has no handle and finishes its last calls
        if self.ended is not None:
            return None
        from pool._runtime import _detached

        found = _detached.find(key[0], name)
        if found is None:
            return None
        return self._enter(_detached.found_actor(self._runtime, found), key)

    def facts(self) -> list[dict[str, Any]]:
        """Return what is known of each actor that is not about to end, as `find` has it."""
        return [
            {
                "name": actor.options.name,
                "namespace": actor.options.namespace or self._runtime.namespace,
                "class": actor.title,
                "state": actor.mailbox.state,
                "pid": actor.pid,
            }
            for actor in self.alive
            if not _ends(actor)
        ]

    def gone(self, actor: Actor) -> None:
        """Forget an actor that is dead for good."""
        self.alive.discard(actor)
        for key, known in list(self._names.items()):
            if known is actor:
                del self._names[key]

    def end_all(self) -> None:
        """End all actors, and have none made any more, by whatever thread: nobody would end it."""
        from pool._errors import PoolTerminated

        why = "the runtime was shut down"
        self.ended = PoolTerminated(why)
        for actor in list(self.alive):
            actor.mailbox.refused(why)
            actor.carry_out(actor.mailbox.exited(why))
        self._runtime.task_processes.end(self.ended)
        self._runtime.processes.leave()


def _ends(actor: Actor) -> bool:
    """Return whether an actor takes no more calls, though its process may still be there."""
    return actor.left or actor.mailbox.stopped or actor.mailbox.killed
