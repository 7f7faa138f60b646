"""Functions of Ray's `util` that inspect: names of actors, and objects that cannot be sent."""

from __future__ import annotations

from pool._objects._home import current
from pool._ray._strategies import ADDRESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def list_named_actors(all_namespaces: bool = False) -> list[Any]:
    """Return the names of the actors that are alive, of this program and detached ones.

    Parameters
    ----------
    all_namespaces : bool
        Return dicts with ``"namespace"`` and ``"name"``, for all namespaces.

    Returns
    -------
    list of str, or list of dict
    """
    from pool._runtime._detached import introduced
    from pool._transport._rendezvous import paths

    facts = current().facts()
    found = {(actor["namespace"], actor["name"]) for actor in facts["actors"] if actor["name"]}
    for path in paths():
        detached = introduced(path)
        if detached is not None:
            detached.channel.close()
            found.add((detached.options.namespace, detached.options.name))
    if all_namespaces:
        return [{"namespace": namespace, "name": name} for namespace, name in sorted(found)]
    return sorted(name for namespace, name in found if namespace == facts["namespace"])


def get_node_ip_address() -> str:
    """Return the address of this machine: everything runs on it."""
    return ADDRESS


def get_current_placement_group() -> None:
    """Return None: there are no placement groups, so what runs here belongs to none."""


class FailureTuple:
    """An object that cannot be sent.

    Attributes
    ----------
    obj : object
    name : str
        The path to it: ``"Analyzer.model.handle"``.
    parent : object
        The object that holds it; None if there is none.
    """

    __slots__ = ("name", "obj", "parent")

    def __init__(self, obj: Any, name: str, parent: Any) -> None:
        self.obj = obj
        self.name = name
        self.parent = parent

    def __repr__(self) -> str:
        return f"FailTuple({self.name} [obj={self.obj!r}, parent={self.parent!r}])"


def inspect_serializability(
    base_obj: Any, name: str | None = None, depth: int = 3, print_file: Any = None
) -> tuple[bool, set[FailureTuple]]:
    """Find out whether an object can be sent to tasks and actors, and print what cannot.

    Parameters
    ----------
    base_obj : object
    name : str, optional
        Its name in the text that is printed; by default its repr.
    depth : int
        No effect: the search goes as deep as it has to.
    print_file : file, optional
        Printed to; by default standard output.

    Returns
    -------
    bool
        Whether it can be sent.
    set of FailureTuple
        The part that cannot be sent; empty if all can.
    """
    from pool._pickling import CannotSend, dumps_to_worker

    try:
        dumps_to_worker(base_obj)
    except CannotSend as error:
        from pool._pickling._culprit import culprit_of

        obj, parent = culprit_of(base_obj)
        print(error.about(name or repr(base_obj)), file=print_file)
        return False, {FailureTuple(obj, error.path, parent)}
    return True, set()


# Where users find them.
for _public in (
    list_named_actors,
    get_node_ip_address,
    get_current_placement_group,
    inspect_serializability,
):
    _public.__module__ = "pool.util"
