"""The messages between a runtime, its actors and its borrowers.

A message is ``(head, blobs)``, see `pool._transport._channel`; all kinds are told apart by
the first element of the head. What is called a *packet* here is one pickle of plain values
and of the classes of `pool._objects._parcels`: opening it runs nothing of the user's.

runtime -> actor, over the socket of its worker
    ``(HOST, config, layout)`` of `pool._transport._messages`, once: the packets of its
    class and of the constructor's arguments. ``config``: a dict of plain values, see
    `pool._in_worker._actor`.
    ``(CALL, ((number, method, returns, layout, task, group), ...))``: the packets of a `Parcel`
    for each call. ``returns``: number of values; STREAM: it yields them. ``task``: name of the
    call. ``group``: its concurrency group.
    ``(DROP, number)``: cancel a call, if it can still be cancelled.
    ``(EXIT,)`` of `pool._transport._messages`.

actor -> runtime
    ``(STARTED, pid)`` after the constructor; ``(REFUSED, pid, buffers)`` with the exception that
    it raised.
    A detached actor sends ``(READY, pid)`` first, so that its process can be ended meanwhile, and
    ``(REFUSED, pid, buffers, TAKEN)`` if another actor has the name. A program that connects
    to it later gets ``(STARTED, pid, *keeper)``, and ``(READY, pid, *keeper)`` before that while
    the constructor runs. Both have a packet of its `ActorOptions`.
    ``keeper``: the pid of the process that would start it again; empty if none would.
    ``(RESULT, number, status, begun, finished)``: a packet of the stored value (a list of
    them if it returns several), of an exception, or of the number of values that were yielded.
    ``begun``, ``finished``: readings of `time.perf_counter`; ``begun`` is 0 if it never ran.
    ``number`` is 0, and there is no packet, if the actor leaves and no call does.
    ``(YIELDED, number, index)``: a packet of one stored value.
    ``(CLIENT, "borrower")`` with the descriptor of a socket: see below. ``(CLIENT, "output")``
    with those of two pipes, into which descriptors 1 and 2 write. Workers of tasks send
    both, too.
    ``(LOG, name, pid, stream)`` with the text of whole lines; from detached actors only.

borrower -> runtime, over a socket of its own: tasks and actors that use the runtime themselves
    ``(DO, verb, promised)`` and ``(ASK, request, verb)`` with a packet of arguments; ASK is
    answered by ANSWERs. ``promised``: names of the stream or objects that the verb makes, which
    fail if the verb does.
    ``(BLOCKED,)``, ``(UNBLOCKED,)`` of `pool._transport._messages`; from tasks only.

runtime -> borrower
    ``(ANSWER, request, index, state)`` with a packet. Index ALL, with an error: the last one.
    ``(OVER,)``, to workers of Pools: the runtime has ended, but not the program.
"""

from __future__ import annotations

CALL = 41
DROP = 42

STARTED = 50
RESULT = 51
YIELDED = 52

DO = 60
ASK = 61
LOG = 62
ANSWER = 63
OVER = 64

# Statuses of a RESULT.
VALUE = 0
ERROR = 1
LEFT = 2  #: the actor has chosen to end

#: The reason of a REFUSED: a detached actor of another program has the name.
TAKEN = 1

#: In place of a number of return values: they are yielded one by one.
STREAM = -1
#: In place of the index of an answer: the answer to the whole request.
ALL = -1

#: In place of a number of return values: one value, with the references to all that is yielded.
DYNAMIC = -2


def number_of(returns: int) -> int:
    """Return how many objects a call promises."""
    return 1 if returns == DYNAMIC else max(0, returns)
