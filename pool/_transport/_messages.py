"""The messages between a parent, its forkservers and its workers.

A message is ``(head, blobs)``, see `Channel`; the first element of every head says which
one it is. A *payload* is one pickled object: a blob of pickle bytes followed by its
out-of-band buffers.

parent -> worker
    ``(RUN, message_id, defines, forgets, runs)``
        Define functions, forget others, then run chunks and answer with DONE.
        ``defines``: ``(function_id, stateless, buffers)`` each; one payload each comes
        first in the blobs. ``runs``: ``(function_id, mode, layout, chunks, size, extra)``,
        see below; their payloads follow in order.
    ``(FORGET, function_ids)``
        Forget functions, when there is nothing to run for now.
    ``(EXIT,)``
        End in good order.
    ``(INITIALIZE,)`` with the payload of the initializer and its arguments
        To a worker whose forkserver said `AWAITED`: they have large buffers, which only this
        connection can carry by reference. It may come after others, which then have to wait.
    ``(HOST, config, layout)``
        Become an actor; see `pool._objects._protocol`.

worker -> parent
    ``(READY, pid)``
    ``(REFUSED, pid, buffers)`` with the payload of the initializer's exception.
    ``(DONE, message_id, chunks, final, elapsed, failed, layout)``
        The next ``chunks`` chunks of the message have outcomes. One chunk: its payload;
        ``failed`` is 0, or if it is an exception, 1 + the position of the item that
        raised. Several, none of them failed: one blob, see the layouts of outcomes.
        ``final``: no more answers will come; chunks without outcome were not begun.
        ``elapsed``: seconds since the previous answer.

    ``(PART_OF, message_id)`` with the pickle of a list
        The first values of the only chunk of that message; the others come as its outcome.

    ``(REST, message_id)``
        The chunk that runs is the last one of the message; those behind it were not
        begun, and will not be. All before it have been answered.

    ``(IMPORTED, names, files)``
        The worker's tasks have imported these modules; see `pool._workers._warmup`.

    ``(CLIENT,)`` with the descriptor of a socket, over which tasks of this worker use the
    pool that they run in; see `pool._local._nested`. ``(CLIENT, kind)`` with descriptors that
    are for the runtime of tasks, actors and objects; see `pool._objects._protocol`.

both ways
    ``(RETURNS, 0)``
        Carries only the channel's note: which references were let go, see `store._links`.

task -> parent, over the socket of a CLIENT message
    ``(SUBMIT, request_id, mode, chunksize, timeout, retries, label, function, chunks, final)``
        ``function``: None or ``(stateless, buffers)``; its payload comes first.
        ``chunks``: buffers of each chunk's payload.
    ``(CHUNKS, request_id, chunks, final)``, ``(CANCEL, request_id)``
    ``(BLOCKED,)``, ``(UNBLOCKED,)``
        The task waits for the pool, and a substitute may run in place of its worker; it goes on.
    ``(NAME, number, name)``
        Asks for a name of the main module; over another connection than the requests.

parent -> task
    ``(NAMED, number, answer)``, mostly with a payload; see `pool._pickling._lookups`.
    ``(OUTCOME, request_id, index, failed)`` with a payload; ``(FINISHED, request_id)``.

parent -> forkserver, and back: see `pool._workers._forkserver`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Heads.
RUN = 1
FORGET = 2
INITIALIZE = 3
HOST = 4
EXIT = 5
READY = 6
REFUSED = 7
DONE = 8
CLIENT = 9
REST = 17
PART_OF = 18

SUBMIT = 10
CHUNKS = 11
CANCEL = 12
BLOCKED = 13
UNBLOCKED = 14
OUTCOME = 15
FINISHED = 16
NAME = 19
NAMED = 26

CONNECT = 20
LAUNCH = 21
SIGNAL = 22
EXITED = 23
PIDS = 27  #: both ways
IMPORTED = 24  #: from worker to parent
UP = 25

RETURNS = 30  #: both ways

#: In place of the initializer's payload: the parent will send it to each worker, see INITIALIZE.
AWAITED = -1

# Modes: how a function is called with the items of a chunk.
CALL = 0  #: one chunk, one call: the payload is ``(args, kwargs)``
MAP = 1  #: ``func(item)`` for each item
STAR = 2  #: ``func(*item)`` for each item
CAUGHT = 4  #: flag: exceptions become values, item by item

#: ``function_id`` of calls whose payload is ``(func, args, kwargs)``: the function has
#: state that its arguments may share.
INLINE = 0

# Layouts: how the items of a run are stored.
RANGE = 0  #: ``extra`` is (start, stop, step) of all items; no payload
PACKED = 1  #: one payload: a list of all items, which are immutable
EACH = 2  #: one payload per chunk; ``extra``: buffers of each, or None if none has any

# Layouts of outcomes. The outcome of a chunk of size 1 is the item's value, of a larger
# one the list of its items' values.
ONE = 0  #: the payload of one chunk
STREAM = 1  #: pickles, one after the other
INTS = 2  #: signed 64-bit words
FLOATS = 3  #: double-precision words


def can_be_lost(head: Any) -> bool:
    """Return whether a message may be dropped if there is no descriptor to receive it with.

    If a connection of a worker (CLIENT) is lost, its other end closes, by which the task that uses
    it learns so: that task alone fails. If it was for output, that is not shown. What a worker has
    imported need not be known.
    """
    return head is not None and head[0] in (CLIENT, IMPORTED)
