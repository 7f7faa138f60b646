"""From the answers of agents, and their ends, to the outcomes of jobs."""

from __future__ import annotations

import _pickle

from pool._cluster._messages import FAILED, MANY, PARTS, RAISED, VALUE, owned
from pool._errors import WorkerLost
from pool._local import _events as ev
from pool._local._outcomes import UNSENT, Outcomes
from pool._local._peers import decode_many
from pool._local._pickle_streams import split_stream
from pool._pickling import loads
from pool._transport._messages import STREAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from pool._cluster._messages import Answer
    from pool._cluster._peers import RemotePeer


class ClusterOutcomes(Outcomes):
    """Deliver the outcomes that agents have sent."""

    __slots__ = ()

    def death(self, doing: str) -> BaseException:
        crew: Any = self._driver.crew
        peer, reason = crew.last_lost
        return WorkerLost(peer.worker_id, peer.host, reason, doing)

    def take(self, peer: RemotePeer, message_id: int, answer: Answer) -> None:
        """Take an answer to a message."""
        sent = peer.sent[message_id]
        if sent.defines:
            self._driver.functions.learned(peer, sent.defines)  # type: ignore[arg-type]  # as good as one
            sent.defines = []
        if answer.final:
            del peer.sent[message_id]
        # Those that follow each other and are values are told together.
        groups: list[tuple[int, list[Any]]] = []
        count = 0
        for failed, values in _read(answer.outcomes):
            count += len(values)
            if failed:
                _locate(values[0], peer.host)
            if failed or not groups or groups[-1][0]:
                groups.append((failed, values))
            else:
                groups[-1][1].extend(values)
        if answer.final and not groups:
            groups.append((0, []))
        for number, (failed, values) in enumerate(groups, 1):
            share = len(values) / count if count else 0.0
            event = ev.MessageAnswered(
                peer.worker_id,
                message_id,
                len(values),
                answer.final and number == len(groups),
                answer.elapsed * share,
                (0,) if failed else (),
            )
            self._deliver(event, values, failed)

    def give_up(self, peer: RemotePeer, error: Callable[[str], BaseException]) -> None:
        """Fail what an agent has been sent: it may have begun any of it."""
        worker = self._driver.scheduler.workers.get(peer.worker_id)
        for message_id in list(peer.sent):
            del peer.sent[message_id]
            message = None if worker is None else worker.messages.get(message_id)
            # Not what it was sent: of that it may have given chunks back, which others have now.
            runs = [] if message is None else message.runs
            for job_id, chunk in [(run[0], chunk) for run in runs for chunk in range(*run[1:])]:
                job = self._driver.jobs.get(job_id)
                doing = "" if job is None else f"while it had {job.describe(chunk)}"
                event = ev.MessageAnswered(peer.worker_id, message_id, 1, False, 0.0, (0,))
                self._deliver(event, [error(doing)], UNSENT)


def _locate(error: Any, host: str) -> None:
    try:
        error.add_note(f"on {host}")
    except Exception:
        return  # an exception class that refuses attributes


def _read(outcomes: Sequence[Any]) -> Iterator[tuple[int, list[Any]]]:
    """Yield 0 and values, or one exception and 1 + the position of the item that raised it."""
    for outcome in outcomes:
        if type(outcome) is not tuple:
            yield 0, [outcome]
            continue
        kind, blobs = outcome[:2]
        if kind == FAILED:
            yield UNSENT, [_pickle.loads(blobs)]
        elif kind == MANY:
            try:
                yield 0, decode_many(blobs, outcome[2], STREAM)
            except BaseException:  # `SystemExit`, perhaps, as from any object
                # Each by itself: only those fail that cannot be had here.
                pickles = split_stream(blobs, outcome[2])
                yield from _read([(VALUE, [data]) for data in pickles])
        else:
            try:
                value = loads(*owned(blobs))
                if kind == PARTS:
                    value = [item for part in outcome[2] for item in _pickle.loads(part)] + value
            except BaseException as error:
                yield 1, [error]
            else:
                yield (1 + outcome[2] if kind == RAISED else 0), [value]
