"""Remote functions in the workers that run their tasks."""

from __future__ import annotations

import os
import sys

from pool._in_worker import _trace as tracing
from pool._in_worker._context import context
from pool._in_worker._output import complete_lines, connect, sign, silence
from pool._objects import _home
from pool._objects._dynamic import DynamicObjectRefGenerator
from pool._objects._failures import dumps_failure
from pool._objects._parcels import Broken, Parcel, Sealed, is_atom, seal, views, writable
from pool._objects._protocol import DYNAMIC, ERROR, RESULT, STREAM, VALUE
from pool._pickling import dumps_exception, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from pool._in_worker._borrowed import BorrowedRuntime
    from pool._transport._channel import Channel
    from store._codec import Encoded


class Order:
    """The single argument of a task whose arguments or options are not plain.

    Parameters
    ----------
    parcel : Parcel
        The arguments of the call.
    returns : int
        Number of values; STREAM or DYNAMIC: the function yields them.
    name : str
        "": that of the function.
    task : bytes
        Name of its first result, or of its stream.
    """

    __slots__ = ("name", "parcel", "returns", "task")

    def __init__(self, parcel: Parcel, returns: int, name: str, task: bytes) -> None:
        self.parcel = parcel
        self.returns = returns
        self.name = name
        self.task = task

    def __reduce__(self) -> tuple[Any, ...]:
        return Order, (self.parcel, self.returns, self.name, self.task)


class Runnable:
    """A function as it is sent to workers of tasks, which unpickle it as a `Runner`."""

    def __init__(self, code: Any, log_to_driver: bool, namespace: str) -> None:
        self._code = code
        self._log = log_to_driver
        self._namespace = namespace

    def __reduce__(self) -> tuple[Any, ...]:
        encoded = self._code.payload().encoded
        buffers = views(encoded.buffers)
        return _load, (
            self._code.title, encoded.data, buffers, self._log, self._namespace
        )  # fmt: skip


class Runner:
    """Calls a remote function and seals what it returns."""

    __slots__ = ("_function", "_title")

    def __init__(self, function: Callable[..., Any], title: str) -> None:
        self._function = function
        self._title = title

    def __call__(self, submitted: float, *args: Any) -> Any:
        order = args[0] if args and args[0].__class__ is Order else None
        name = self._title if order is None else order.name or self._title
        context.name = name
        sign(name)
        trace = tracing.trace
        trace.begin(submitted, name)
        failed = True
        try:
            if order is not None:
                value = self._carry_out(order)
            else:
                context.task = None
                value = self._function(*args)
                if value.__class__ is not int and value.__class__ is not float:
                    value = sealed(value)
            failed = False
        finally:
            trace.end(failed)
            complete_lines()
            tidy()
        return value

    def _carry_out(self, order: Order) -> Any:
        context.task = order.task
        args, kwargs = order.parcel.open()
        value = self._function(*args, **kwargs)
        if order.returns == STREAM:
            del args, kwargs
            return _borrowed().stream_out(order.task, value)
        return results(value, order.returns, self._title)


def results(value: Any, returns: int, title: str) -> Any:
    """Return a result as it is sent: one stored value, or a list of `returns` of them."""
    if returns == 1:
        return sealed(value)
    if not returns:
        return None
    if returns == DYNAMIC:
        return sealed(dynamic(yielded(value, title)))
    if hasattr(value, "__next__"):
        return _yielded_values(value, returns, title)
    if not hasattr(value, "__iter__") and not hasattr(value, "__getitem__"):
        raise TypeError(
            f"{title}() returned one {type(value).__name__}, and num_returns={returns} was asked "
            "for: return a tuple of as many values, or leave num_returns out"
        )
    values = list(value)
    if len(values) != returns:
        raise ValueError(
            f"{title}() returned {len(values)} values, and num_returns={returns} was asked for"
        )
    return [sealed(value) for value in values]


def _yielded_values(values: Any, returns: int, title: str) -> list[Any]:
    """Return the values of a generator as `returns` of them.

    An exception takes the place of the value that it prevented and of all after that.
    """
    found = list(yielded(values, title))
    if len(found) > returns or (len(found) < returns and found[-1:] and not _is_broken(found[-1])):
        raise ValueError(
            f"{title}() yielded {len(found)} values, and num_returns={returns} was asked for"
        )
    return found + found[-1:] * (returns - len(found))


def yielded(values: Iterable[Any], title: str) -> Iterator[Any]:
    """Yield the stored values of a generator, and last the exception that it raises, if any."""
    try:
        for value in values:
            yield sealed(value)
    except Exception as error:
        encoded = dumps_exception(error)
        yield Broken(title, encoded.data, encoded.buffers)


def dynamic(stored: Iterable[Any]) -> DynamicObjectRefGenerator:
    """Store values and return the references to them."""
    home = _home.current()
    return DynamicObjectRefGenerator([home.put_stored(value) for value in stored])


def _is_broken(stored: Any) -> bool:
    return stored.__class__ is Broken


def sealed(value: Any) -> Any:
    """Return a value as it is stored; keep the objects of its references until it arrives."""
    if is_atom(value):
        return value
    stored = seal(value)
    if stored.__class__ is Sealed and stored.refs:
        if context.actor is not None and context.actor.detached:
            return _with_attachments(stored)
        _borrowed().hand_over(stored.refs)
    return stored


def dumps_error(error: BaseException) -> Encoded:
    """Pickle what a task or a method raised; keep the objects of its references on the way."""
    if context.actor is not None and context.actor.detached:
        return dumps_exception(error)  # a reference in it means nothing to another program
    return dumps_failure(error, lambda refs: _borrowed().hand_over(refs))


def send_answer(channel: Channel, head: Any, packet: list[Any]) -> None:
    """Send a RESULT; if there is no memory or descriptor for it, the error that says so instead.

    A value or an exception that is large needs a file or a mapping. A call that is not answered
    would be waited for as long as its actor lives.
    """
    try:
        channel.send(head, packet)
    except ConnectionError:
        raise  # the caller is gone
    except (OSError, MemoryError) as error:
        error.add_note("raised while sending what the call has returned or raised")
        error.__context__ = None  # the text of what the call has raised: it may be what is large
        _, number, status, begun, finished = head
        status = ERROR if status == VALUE else status
        # Small, and nothing of the message was sent.
        channel.send((RESULT, number, status, begun, finished), dumps_error(error).packet)


def cancelled(title: str) -> BaseException:
    """Return the error of a call that was cancelled."""
    from pool.exceptions import TaskCancelledError

    return TaskCancelledError(f"{title}() was cancelled")


def ends_actor(error: BaseException) -> bool:
    """Return whether a method that raises this ends its actor."""
    # Whoever raises the other one has imported it. Here there may be no descriptor to do so.
    exceptions = sys.modules.get("pool.exceptions")
    return isinstance(error, SystemExit) or (
        exceptions is not None and isinstance(error, exceptions.AsyncioActorExit)
    )


def print_error(error: BaseException, name: str) -> None:
    """Print what a constructor raised, for the actor may never be called and the error be seen."""
    if "RAY_IGNORE_UNHANDLED_ERRORS" in os.environ:
        return
    import traceback

    # Without this package's frame, which called the constructor.
    raised = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
    text = "".join(traceback.format_exception(raised))
    print(f"Exception raised in creation task: {name}()", text, sep="\n", end="", file=sys.stderr)


def _with_attachments(stored: Sealed) -> Any:
    """Return a result of a detached actor with the values of its references; waits for these."""
    from pool._objects._attachments import Attachments, WithAttachments, reached

    home = _home.current()
    found = reached(stored.refs)
    while pending := [ref for ref in found if not ref._state]:
        home.fetch(pending, None)
        found = reached(stored.refs)
    return WithAttachments(stored, Attachments(found))


def tidy() -> None:
    """Return to the runtime the references that an ended call has held; cheap if there are none.

    Called when the call ends, so that the runtime knows before it gets the outcome; and again
    when the call's values and the frames of its error have been freed.
    """
    home: Any = _home.found()
    if home is not None and (home.returned or home.promises):
        home.end_call()


def _borrowed() -> BorrowedRuntime:
    home: Any = _home.current()  # in a worker it is a `BorrowedRuntime`
    borrowed: BorrowedRuntime = home
    return borrowed


def _load(title: str, data: Any, buffers: list[Any], log: bool, namespace: str) -> Runner:
    """Rebuild a runner in a worker, which from now on is a worker of the runtime."""
    enter(True, log, namespace)
    return Runner(loads(data, writable(buffers)), title)


def enter(lends_slot: bool, log: bool, namespace: str) -> None:
    """Make this worker one of a runtime.

    Parameters
    ----------
    lends_slot : bool
        Whether its slot may be lent while a task waits.
    log : bool
        Whether the program prints what the worker prints.
    namespace : str
    """
    context.namespace = namespace

    from pool._workers._worker import Worker

    assert Worker.current is not None
    channel = Worker.current.channel
    pid = os.getpid()
    Worker.current.dumps_error = dumps_error
    Worker.current.at_rest = tidy
    tracing.start(Worker.current)

    def start() -> Any:
        from pool._in_worker._borrowed import BorrowedRuntime

        # A child that the task has forked has no slot.
        return BorrowedRuntime(channel, lends_slot and os.getpid() == pid)

    # The connection to the runtime is made when a task first uses it: most never do.
    _home.borrow(start)
    if log:
        connect(channel)
    else:
        silence()


def function_of(code: list[Any]) -> Callable[..., Any]:
    """Return the function of a task; if it cannot be unpickled, one that raises that error.

    So the error becomes the outcome of the task, as in any other worker, and may be tried again.
    """
    try:
        function: Callable[..., Any] = loads(code[0], code[1:])
    except BaseException as error:
        raised = error

        def function(*args: Any, **kwargs: Any) -> Any:
            raise raised

    return function
