"""One call on an idle pool, without the records that many calls need.

A program that calls ``apply`` in a loop, or a web service that asks a model for one
prediction, waits for each answer: what counts is the round trip. When a worker is idle
and nobody else drives, the caller borrows that worker, sends the call, and waits for the
answer itself. The scheduler only learns that the worker is lent; everything that can go
wrong (the worker dies, the pool is terminated, Ctrl-C) is handled as for other calls.
"""

from __future__ import annotations

from pool._local import _events as ev
from pool._local._peers import Sent
from pool._local._timers import FOREVER
from pool._transport._messages import CALL, EACH, RUN
from store._interrupts import shield

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pool._local._driver import Driver
    from pool._local._engine import LocalEngine


class Loan:
    """A call on a borrowed worker.

    Attributes
    ----------
    over : bool
        Whether the call has ended, and `failed` and `value` are set.
    failed : int
        0: `value` is what the call returned; positive: it is an exception; -1: the call was not
        begun, and may be made anew.
    value : object
    """

    __slots__ = ("failed", "label", "message_id", "over", "value", "worker_id")

    def __init__(self, worker_id: int, message_id: int, label: Any) -> None:
        self.worker_id = worker_id
        self.message_id = message_id
        self.label = label
        self.over = False
        self.failed = 0
        self.value: Any = None

    def end(self, failed: int, value: Any) -> None:
        """Note the outcome."""
        self.failed = failed
        self.value = value
        self.over = True


def call_now(engine: LocalEngine, payload: Any, blobs: list[Any], label: Any) -> Loan | None:
    """Call a stateless function on an idle worker and wait for the outcome.

    Written out in one piece: after each switch between processes the CPU's caches are cold, so
    that every line costs several times what it costs in a loop.

    Parameters
    ----------
    engine : LocalEngine
    payload : FunctionPayload
    blobs : list
        The payload ``(args, kwargs)``.
    label : object
        ``str(label)`` names the call in error messages.

    Returns
    -------
    Loan or None
        None if no worker can be borrowed now, or it died before the call began: submit the call
        instead.
    """
    driver, lead = engine.driver, engine.lead
    if driver.jobs or driver.held_here:
        return None
    shielded = shield.enter()
    try:
        if not lead.acquire():
            return None
        loan = None
        try:
            loan = driver.locked(lambda: _borrow(driver, payload, blobs, label))
            if loan is None:
                return None
            while not loan.over:
                driver.sleeping = FOREVER  # first, as in `Driver.step`
                if driver.scheduler.timed or driver.timers.due is not None:
                    driver.step(None)
                else:
                    due = driver.memory_due
                    patience = None if due is None else max(0.0, due - driver.looked)
                    try:
                        ready = shield.opened(driver.watch.wait, patience)
                    except (OSError, ValueError):
                        if not driver.closed:
                            raise
                    else:
                        driver.deal(ready)
                if driver.closed and not loan.over:
                    driver.check_open()  # a signal handler has ended the pool
                if lead.followed:
                    lead.notify()
        except BaseException:  # Ctrl-C, or what another handler raises
            if loan is not None and not loan.over:
                driver.post(ev.LoanCancelled(loan.worker_id, loan.message_id))
                lead.ensure_stand_in()
            raise
        finally:
            lead.abdicate()
    finally:
        shield.leave(shielded)
    return None if loan.failed < 0 else loan


def _borrow(driver: Driver, payload: Any, blobs: list[Any], label: Any) -> Loan | None:
    """Send one call to an idle worker; return None if that is not possible at once.

    Called under the driver's lock by the thread that has the lead.
    """
    worker_id = driver.scheduler.loans.lendable()
    # What was handed in before, and nobody has taken in yet, is to begin before this call.
    if worker_id is None or driver.jobs or driver.dirty:
        return None
    peer = driver.peers.get(worker_id)
    if peer is None:
        return None  # another thread has just released the driver
    function = driver.functions.known(payload)
    if function is None or function.function_id not in peer.known:
        return None  # the first call takes the function along
    function_id = function.function_id
    outcomes = driver.outcomes
    outcomes.last_loan -= 1
    message_id = outcomes.last_loan
    driver.scheduler.handle(ev.WorkerLent(worker_id), 0.0)
    loan = driver.loans[worker_id] = Loan(worker_id, message_id, label)
    peer.sent[message_id] = _SENT
    extra = (len(blobs) - 1,) if len(blobs) > 1 else None
    head = (RUN, message_id, (), (), ((function_id, CALL, EACH, 1, 1, extra),))
    try:
        peer.channel.send(head, blobs)
    except ConnectionError:
        pass  # the worker has died; its exit, which ends the loan, is on the way
    except (OSError, MemoryError) as error:  # no memory or descriptor for a large message
        if driver.closed:
            return loan  # by a signal handler that has just ended the pool, as the caller will find
        del peer.sent[message_id], driver.loans[worker_id]
        driver.inbox.append(ev.WorkerReturned(worker_id, message_id, True))
        loan.end(1, error)
    return loan


#: Shared by all loans: one chunk of job 0, which does not exist. It need not count answers, since a
#: loan has only one.
_SENT = Sent([(0, 0, 1)], [])
