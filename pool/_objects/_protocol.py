"""The messages between a runtime, its actors and its borrowers.

A message is ``(head, blobs)``, see `pool._transport._channel`; all kinds are told apart by
the first element of the head. What is called a *packet* here is one pickle of plain values
and of the classes of `pool._objects._parcels`: opening it runs nothing of the user's.

runtime -> actor, over the socket of its worker
    ``(HOST, config, layout)`` of `pool._transport._messages`, once: the packets of its
    class and of the constructor's arguments. ``config``: a dict of plain values, see
    `pool._in_worker._actor`.
    ``(CALL, ((number, method, returns, layout, task), ...))``: the packets of a `Parcel`
    for each call. ``returns``: how many values; STREAM: it yields them. ``task``: name of the call.
    ``(DROP, number)``: cancel a call, if it can still be cancelled.
    ``(EXIT,)`` of `pool._transport._messages`.

actor -> runtime
    ``(STARTED, pid)``; ``(REFUSED, pid, buffers)`` with the exception. Of detached ones
    ``(READY, pid)`` before, of whom to end; ``(REFUSED, pid, buffers, TAKEN)`` if another one has
    the name. Behind its door one says ``(STARTED, pid, *keeper)``, and while it is being made
    ``(READY, pid, *keeper)`` before that, both with a packet of its name, namespace, `ActorFacts`
    and options; ``keeper``: the pid of who starts it again, if somebody does.
    ``(RESULT, number, status, begun, finished)``: a packet of the stored value (a list of
    them if it returns several), of an exception, or of the number of values that were yielded.
    ``begun``, ``finished``: readings of `time.perf_counter`; ``begun`` is 0 if it never ran.
    ``number`` is 0, and there is no packet, if the actor leaves and no call does.
    ``(YIELDED, number, index)``: a packet of one stored value.
    ``(CLIENT, "borrower")`` with the descriptor of a socket: see below. ``(CLIENT, "output")``
    with those of two pipes: what is written to descriptors 1 and 2. Workers of tasks send
    both, too.
    ``(LOG, name, pid, stream)`` with the text of whole lines: of detached actors.

borrower -> runtime, over a socket of its own: tasks and actors that use the runtime themselves
    ``(DO, verb, promised)`` and ``(ASK, request, verb)`` with a packet of arguments; ASK has
    ANSWERs. ``promised``: names of what the verb makes (its stream, or its objects), which fails
    if the verb does.
    ``(BLOCKED,)``, ``(UNBLOCKED,)`` of `pool._transport._messages`, of tasks only.

runtime -> borrower
    ``(ANSWER, request, index, state)`` with a packet; index ALL, with an error: no other follows.
    ``(OVER,)``, to workers of Pools: the runtime has ended. The program has not.
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

#: Why an actor is refused: there is one of that name, of another program.
TAKEN = 1

#: Stands for a number of return values: they are yielded one by one.
STREAM = -1
#: Stands for the index of an answer: it is that of the whole request.
ALL = -1

#: Stands for one value: the references to all that is yielded.
DYNAMIC = -2


def number_of(returns: int) -> int:
    """Return how many objects a call promises."""
    return 1 if returns == DYNAMIC else max(0, returns)
