"""The actors of a hub, and how they are found by their names."""

from __future__ import annotations

import weakref

from pool._hub._actors import Actor
from pool._objects._refs import ActorRef

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pool._hub._hub import Hub


class Directory:
    """Enter actors, and find them. Everything here runs under the driver's lock.

    Parameters
    ----------
    hub : Hub

    Attributes
    ----------
    alive : set of Actor
        All that are not dead for good.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.alive: set[Actor] = set()
        self._names: dict[tuple[str, str], Actor] = {}

    def create(self, code: Any, parcel: Any, options: Any) -> ActorRef | Exception:
        """Start an actor, under the lock.

        Returns
        -------
        ActorRef or Exception
            An error if its name is taken, or if it asks for more than there is. Not
            raised: an exception under the lock means that the books are broken.
        """
        problem = self._hub.unschedulable(options.resources, code.title)
        if problem is not None:
            return problem
        key = (options.namespace or self._hub.namespace, options.name)
        if options.name:
            known = self.find(options.name, key[0], options.detached)
            if known is not None:
                if options.get_if_exists:
                    return known
                return ValueError(
                    f"an actor named {options.name!r} exists already in namespace {key[0]!r}; "
                    "use get_actor, or give get_if_exists=True"
                )
        if options.detached:
            from pool._hub._detached import DetachedActor

            if parcel.refs or code.refs:
                return TypeError(
                    f"{code.title}: references and handles cannot be sent to a detached actor "
                    "inside its arguments or its class"
                )
            actor: Actor = DetachedActor(self._hub, code, parcel, options)
        else:
            actor = Actor(self._hub, code, parcel, options)
        ref = self._enter(actor, key)
        actor.begin()
        return ref

    def _enter(self, actor: Actor, key: tuple[str, str]) -> ActorRef:
        """Enter an actor in the books; return what its handles hold."""
        ref = ActorRef(self._hub, actor.options.facts, actor.name)
        ref.record = actor
        actor.ref = weakref.ref(ref)
        self._hub.named[actor.name] = ref
        self.alive.add(actor)
        if key[1]:
            self._names[key] = actor
        return ref

    def find(self, name: str, namespace: str | None, detached: bool = True) -> ActorRef | None:
        """Return a named actor, of this program or detached; under the lock."""
        key = (namespace or self._hub.namespace, name)
        actor = self._names.get(key)
        ref: ActorRef | None = None if actor is None else actor.ref()
        if ref is not None or not detached:
            return ref
        from pool._hub import _detached
        from pool._objects._options import ActorOptions

        found = _detached.find(key[0], name)
        if found is None:
            return None
        options = ActorOptions()
        options.name, options.namespace, options.detached = name, key[0], True
        return self._enter(_detached.known(self._hub, options, found), key)

    def gone(self, actor: Actor) -> None:
        """Forget an actor that is dead for good."""
        self.alive.discard(actor)
        for key, known in list(self._names.items()):
            if known is actor:
                del self._names[key]
