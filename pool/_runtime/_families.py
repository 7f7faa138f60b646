"""Which call made which others, so that a call can be cancelled with all that it has submitted."""

from __future__ import annotations

from concurrent.futures import CancelledError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: What a cancelled call raises, unless it catches that and raises something else.
STOPPED = (KeyboardInterrupt, CancelledError)

#: Values of `Member.cancelled`.
NOT_CANCELLED, ITSELF, RECURSIVELY = 0, 1, 2

#: A name, since from a literal ``()`` a type checker would conclude that there are no slots at all.
_NO_SLOTS: tuple[str, ...] = ()


class Member:
    """A call, of a task or of an actor's method, that may be made by another one.

    Everything here runs under the driver's lock.

    Attributes
    ----------
    parent : Member or None
        The call that made this one, as long as that runs.
    children : set of Member or None
        The calls that this one has made and that are not over; None: none yet.
    cancelled : int
        NOT_CANCELLED; ITSELF; or RECURSIVELY, if the calls that it has made are cancelled with it.
    """

    # Subclasses declare the slots: a class cannot have two bases with slots of their own.
    __slots__ = _NO_SLOTS

    parent: Any
    children: set[Any] | None
    cancelled: int

    def begin_alone(self) -> None:
        """Begin without parent and children; called by the constructor."""
        self.parent = None
        self.children = None
        self.cancelled = NOT_CANCELLED

    def adopt(self, child: Member) -> None:
        """Note that this call has made `child`."""
        child.parent = self
        if self.children is None:
            self.children = set()
        self.children.add(child)

    def leave(self) -> None:
        """Note that this call is over: the calls that it has made go on without a parent."""
        parent, self.parent = self.parent, None
        if parent is not None and parent.children is not None:
            parent.children.discard(self)
        children, self.children = self.children, None
        for child in children or ():
            child.parent = None

    def cancel_family(self, force: bool, recursive: bool) -> None:
        """Cancel this call, and before it those that it has made, and so on.

        Parameters
        ----------
        force : bool
            End the processes of tasks instead of interrupting the tasks; not those of actors.
        recursive : bool
            Whether to cancel more than this call alone.
        """
        found: list[Member] = [self]
        for member in found if recursive else ():
            found.extend(member.children or ())
        # No order keeps a task from seeing that one of its subtasks was cancelled before its own
        # interrupt arrives, since signals and answers reach a worker by different ways. Then it may
        # return a value all the same, see `pool.cancel`.
        for member in reversed(found):
            member.cancelled = RECURSIVELY if recursive else ITSELF
            member.cancel_here(force)

    def cancel_here(self, force: bool) -> None:
        """Cancel this call."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """The name of this call in errors."""
        raise NotImplementedError

    def cancellation(self) -> BaseException:
        """Return what `get` raises when this call was cancelled."""
        from pool.exceptions import TaskCancelledError

        return TaskCancelledError(f"{self.title}() was cancelled")
