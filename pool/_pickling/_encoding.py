"""From objects to messages and back."""

from __future__ import annotations

import _pickle
from io import BytesIO

from store._codec import OUT_OF_BAND_MIN, Encoded, collector, decode, dump

from ._descriptors import withdraw
from ._functions import ATOMS
from ._named import loading, looking_for_containers
from ._picklers import FastPickler
from ._preludes import prelude_for
from ._reducers import Unpicklable
from ._shared import Inheriting, Sharing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar

    from ._descriptors import Offer
    from ._named import NamedValues

    T = TypeVar("T")

#: Up to this many items, looking at each is cheaper than making a pickler of our own.
_SHORT = 16

#: Exceptions by which pickle and the objects themselves say that something cannot be pickled. Any
#: other exception is an error of the object, and reaches the caller as it is.
REFUSALS = (
    _pickle.PicklingError,
    TypeError,
    AttributeError,
    RuntimeError,
    ValueError,
    OSError,
)

#: Words in the RuntimeErrors of multiprocessing's objects and the ValueErrors of ctypes'.
_STANDARD_REFUSALS = ("through inheritance", "between processes", "objects containing pointers")


class CannotSend(_pickle.PicklingError, TypeError):
    """Something cannot be sent: the error says what, and where it is.

    Also a `TypeError`, which is what plain pickling raises in most such cases.

    Attributes
    ----------
    path : str
        From the object that was to be sent to the culprit: ``"Analyzer.model.handle"``.
    culprit_type : str
        The name of its type.
    what : str
        What was to be sent: ``"argument 1"``; may be empty.
    reason : str
        The message of the culprit's error.
    """

    __module__ = "pool"

    def __init__(self, path: str, culprit_type: str, reason: str, what: str = "") -> None:
        super().__init__(path, culprit_type, reason, what)
        self.path = path
        self.culprit_type = culprit_type
        self.reason = reason
        self.what = what

    def __str__(self) -> str:
        parts = [f"cannot send {self.what}"] if self.what else []
        parts += [part for part in (self.path, self.reason) if part]
        return ": ".join(parts)

    def __repr__(self) -> str:
        # What a MaybeEncodingError tells as its reason.
        return f"{type(self).__name__}({str(self)!r})"

    def about(self, what: str) -> CannotSend:
        """Return the same error with `what`, which names what was to be sent."""
        error = CannotSend(self.path, self.culprit_type, self.reason, what)
        error.__cause__ = self.__cause__
        return error


def dumps_to_worker(
    obj: object,
    inherited: int | None = None,
    met: dict[int, Any] | None = None,
    offers: list[Offer] | None = None,
) -> Encoded:
    """Pickle `obj` for a worker.

    Parameters
    ----------
    obj : object
    inherited : int, optional
        Globals on shared memory are shared (see `_shared`); anonymous memory only if its number
        is below this. By default they are copied.
    met : dict, optional
        Filled with the objects that were met, by id: ``(place in the pickle, object)``.
    offers : list, optional
        One process will read the pickle, once; gets the descriptors that are offered to it.

    Returns
    -------
    Encoded

    Raises
    ------
    CannotSend
        If it cannot be pickled. Errors of the object's own reach the caller unchanged.
    """
    return _dumps(obj, False, inherited, met, offers)


def dumps_to_parent(obj: object) -> Encoded:
    """Pickle `obj` for the process that sent the task.

    Functions and classes that came from there go back as the same objects. Raises what
    `dumps_to_worker` raises.
    """
    return _dumps(obj, True)


def with_names(data: bytes, buffers: list[Any], pairs: Iterable[tuple[str, str]]) -> Encoded:
    """Return a pickle made by other code as a message, preceded by the definitions it names.

    Parameters
    ----------
    data : bytes
    buffers : list
    pairs : iterable of (str, str)
        Modules, and names there.
    """
    from ._reducers import needed

    needs = needed(pairs)
    return prelude_for(needs, False).before(data, buffers) if needs else Encoded(data, buffers)


def loads(data: Any, buffers: Iterable[Any] = ()) -> Any:
    """Rebuild the object that one of the functions above was given.

    Parameters
    ----------
    data : bytes-like
    buffers : iterable of bytes-like
        Writable, and the receiver's own; or blocks of the store.
    """
    if buffers or data.__class__ is not bytes:
        return decode(data, buffers)
    return _pickle.loads(data)


def _dumps(
    obj: Any,
    up: bool,
    inherited: int | None = None,
    met: dict[int, Any] | None = None,
    offers: list[Offer] | None = None,
) -> Encoded:
    kind = type(obj)
    if kind in ATOMS or (
        (kind is tuple or kind is list) and len(obj) <= _SHORT and ATOMS.issuperset(map(type, obj))
    ):
        data = _pickle.dumps(obj, 5)
        if len(data) < OUT_OF_BAND_MIN:
            return Encoded(data, [])
    try:
        return encode_with(FastPickler, obj, up, inherited, met=met, offers=offers)
    except REFUSALS as refusal:
        return _dumps_late(obj, up, inherited, met, offers, refusal)


def _dumps_late(
    obj: Any,
    up: bool,
    inherited: int | None,
    met: dict[int, Any] | None,
    offers: list[Offer] | None,
    refusal: BaseException,
) -> Encoded:
    """Pickle an object that `FastPickler` could not, or raise an error that names the culprit."""
    from ._culprit import explain
    from ._unpicklable import unpicklable_part

    steps = unpicklable_part(obj, up)
    if steps is not None:
        raise explain(obj, refusal, up, steps) from refusal
    try:
        return attempt_late(
            lambda kind: encode_with(kind, obj, up, inherited, met=met, offers=offers)
        )
    except REFUSALS as refusal:
        if isinstance(refusal, RuntimeError | ValueError) and not (
            isinstance(refusal, NotImplementedError)  # by a proxy, for one
            or any(words in str(refusal) for words in _STANDARD_REFUSALS)
        ):
            raise  # not one of the standard's refusals, but an error of the object's own
        raise explain(obj, refusal, up) from refusal


def encode_with(
    pickler_class: Callable[..., Any],
    obj: Any,
    up: bool,
    inherited: int | None = None,
    throughout: bool = False,
    named: NamedValues | None = None,
    met: dict[int, Any] | None = None,
    offers: list[Offer] | None = None,
) -> Encoded:
    """Pickle `obj`, preceded by what it needs; objects in `named` arrive under their names."""
    file = BytesIO()
    buffers: list[memoryview] = []
    if named is not None and named.containers:
        pickler_class = looking_for_containers(pickler_class)
    pickler = pickler_class(file, 5, buffer_callback=collector(buffers))
    pickler.up = up
    pickler.implicit = not up  # the parent has its globals already, see `_implicit`
    if named is not None:
        pickler.named = named.instances
        pickler.containers = named.containers
    sharing = None
    if inherited is not None:
        sharing = pickler.sharing = Sharing(inherited, named=not throughout)
        pickler.throughout = throughout
    if offers is not None:
        pickler.offers = []
    try:
        dump(pickler, file, obj)
    except BaseException:
        withdraw(pickler.offers or ())
        raise
    if offers is not None:
        offers += pickler.offers
    if met is not None:
        met.update(pickler.memo.copy())
    data = file.getvalue()
    if named is not None and named.met:
        data = loading(data, len(buffers))
    if pickler.needs is not None:
        return prelude_for(pickler.needs, up, inherited).before(data, buffers, sharing)
    if sharing is not None and sharing.held:
        return Inheriting(data, buffers, sharing.inherits, sharing.held)
    return Encoded(data, buffers)


def attempt(encode: Callable[[Any], T], look: Callable[[], object] = bool) -> T:
    """Call `encode` with one pickler class after the other until it succeeds.

    Parameters
    ----------
    encode : callable
    look : callable
        Called when the first has failed: raises `Unpicklable` if all will.

    Raises
    ------
    Exception
        One of `REFUSALS`: the second, which knows more than the first. `Unpicklable` at once.
    """
    try:
        return encode(FastPickler)
    except Unpicklable:
        raise
    except REFUSALS:
        look()
    return attempt_late(encode)


def attempt_late(encode: Callable[[Any], T]) -> T:
    """Do as `attempt` does when the first pickler class has failed."""
    from ._reach import BarePickler, ReachPickler

    try:
        return encode(ReachPickler)
    except Unpicklable:
        raise
    except REFUSALS as error:
        refusal = error
    try:
        return encode(BarePickler)
    except REFUSALS:
        raise refusal from None
    finally:
        del refusal  # its traceback holds this frame, and the callers': a cycle
