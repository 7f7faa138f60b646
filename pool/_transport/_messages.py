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
        ``final``: nothing more will come; chunks without outcome
        were not begun. ``elapsed``: seconds since the previous answer.

    ``(PART_OF, message_id)`` with the pickle of a list
        Values of the only chunk of that message, which come before those of its outcome.

    ``(REST, message_id)``
        The chunk that runs is the last one of the message; those behind it were not
        begun, and will not be. All before it have been answered.

    ``(IMPORTED, names, files)``
        Its tasks have loaded these modules; see `pool._workers._warmup`.

    ``(CLIENT,)`` with the descriptor of a socket, over which tasks of this worker use the
    pool that they run in; see `pool._local._nested`. ``(CLIENT, kind)`` with descriptors that
    are for the runtime of tasks, actors and objects; see `pool._objects._protocol`.

both ways
    ``(RETURNS, 0)``
        Nothing but the note of the channel: references that were let go.

task -> parent, over that socket
    ``(SUBMIT, request_id, mode, chunksize, timeout, retries, label, function, chunks, final)``
        ``function``: None or ``(stateless, buffers)``; its payload comes first.
        ``chunks``: buffers of each chunk's payload.
    ``(CHUNKS, request_id, chunks, final)``, ``(CANCEL, request_id)``
    ``(BLOCKED,)``, ``(UNBLOCKED,)``
        The task waits for the pool; its slot is lent out meanwhile.
    ``(NAME, number, name)``
        Over a connection of its own: a name of the main module is wanted.

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

#: In the place of the initializer's payload: it comes to each worker in a message.
AWAITED = -1

# Modes: how a function meets the items of a chunk.
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
    """Return whether a message may be dropped for want of descriptors.

    A worker whose output is not read prints to nobody; all else of it works. A task whose own
    connection is not there is told so by its end, which was lost: that task alone fails. What a
    worker has imported nobody needs to know.
    """
    return head is not None and head[0] in (CLIENT, IMPORTED)
