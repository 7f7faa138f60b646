"""Which calls were made by which: what is cancelled goes along with what it has submitted."""

from __future__ import annotations

from concurrent.futures import CancelledError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: How a cancelled call ends that does not make something else of it.
STOPPED = (KeyboardInterrupt, CancelledError)

#: What is cancelled, see `Member`.
NOT, ALONE, FAMILY = 0, 1, 2

#: By a name: a type checker would take the literal for all the slots that there are.
_NONE: tuple[str, ...] = ()


class Member:
    """A call, of a task or of an actor's method, that may be made by another one.

    Everything here runs under the driver's lock.

    Attributes
    ----------
    parent : Member or None
        Who made it, as long as that runs.
    children : set of Member or None
        What it has made and what is not over; None: nothing yet.
    cancelled : int
        NOT, ALONE, or FAMILY: with what it has made.
    """

    # Subclasses have the slots: two bases with slots of their own fit into no layout.
    __slots__ = _NONE

    parent: Any
    children: set[Any] | None
    cancelled: int

    def found(self) -> None:
        """Begin without relations."""
        self.parent = None
        self.children = None
        self.cancelled = NOT

    def adopt(self, child: Member) -> None:
        """Note that this call has made `child`."""
        child.parent = self
        if self.children is None:
            self.children = set()
        self.children.add(child)

    def leave(self) -> None:
        """End: what this one has made goes on by itself."""
        parent, self.parent = self.parent, None
        if parent is not None and parent.children is not None:
            parent.children.discard(self)
        children, self.children = self.children, None
        for child in children or ():
            child.parent = None

    def cancel_family(self, force: bool, recursive: bool) -> None:
        """Cancel this call, and before it what it has made, and what that has made.

        Parameters
        ----------
        force : bool
            End processes instead of asking them; not those of actors.
        recursive : bool
            False: this call alone.
        """
        found: list[Member] = [self]
        for member in found if recursive else ():
            found.extend(member.children or ())
        # The deepest first: a task must not find its own subtasks cancelled and go on
        # before it is itself told.
        for member in reversed(found):
            member.cancelled = FAMILY if recursive else ALONE
            member.cancel_here(force)

    def cancel_here(self, force: bool) -> None:
        """Cancel this call."""
        raise NotImplementedError
