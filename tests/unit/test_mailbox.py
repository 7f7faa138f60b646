"""The life of an actor, event by event: each known race, and random courses."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pool._objects._mailbox import (
    ALIVE,
    DEAD,
    FAIL,
    GONE,
    IDLE,
    KILL,
    LAUNCH,
    POST,
    STARTING,
    STOP,
    WINDOW,
    Call,
    Mailbox,
)


def kinds(commands: list[tuple[Any, ...]]) -> list[str]:
    return [command[0] for command in commands]


def test_calls_wait_until_it_has_started() -> None:
    mailbox = Mailbox()
    call = Call("driver")
    assert mailbox.called(call) == []
    assert mailbox.started() == [(POST, call)]
    assert mailbox.answered(call.number) == (call, [])


def test_call_without_arguments_holds_back_only_its_own_caller() -> None:
    mailbox = Mailbox()
    mailbox.started()
    waiting, behind, other = Call("a", ready=False), Call("a"), Call("b")
    assert mailbox.called(waiting) == mailbox.called(behind) == []
    assert mailbox.called(other) == [(POST, other)]
    assert mailbox.resolved(waiting) == [(POST, waiting), (POST, behind)]


def test_call_without_arguments_holds_back_nobody_where_calls_have_no_order() -> None:
    mailbox = Mailbox(lanes={"": (1, False)})
    mailbox.started()
    waiting, behind, withdrawn = Call("a", ready=False), Call("a"), Call("a", ready=False)
    assert mailbox.called(waiting) == mailbox.called(withdrawn) == []
    assert mailbox.called(behind) == [(POST, behind)]
    assert len(mailbox) == 3
    assert mailbox.withdraw(withdrawn) and not mailbox.withdraw(withdrawn)
    assert mailbox.resolved(withdrawn) == []
    assert mailbox.released() == []
    assert mailbox.answered(behind.number) == (behind, [])
    assert mailbox.resolved(waiting) == [(POST, waiting)]
    assert mailbox.answered(waiting.number) == (waiting, [(IDLE,)])


def test_no_more_than_the_window_is_posted_and_many_at_a_time() -> None:
    mailbox = Mailbox()
    mailbox.started()
    calls = [Call("a") for _ in range(2 * WINDOW)]
    posted = [command[1] for call in calls for command in mailbox.called(call)]
    half = WINDOW // 2
    assert posted == calls[: half + 1]
    call, commands = mailbox.answered(posted[0].number)
    assert call is posted[0]
    assert commands == [(POST, call) for call in calls[half + 1 : WINDOW + 1]]
    assert mailbox.answered(posted[1].number) == (posted[1], [])
    assert mailbox.withdraw(calls[-1]) and not mailbox.withdraw(calls[-1])


def test_caller_that_always_has_calls_waiting_keeps_no_other_from_the_actor() -> None:
    mailbox = Mailbox()
    mailbox.started()
    others = [Call("other"), Call("third")]
    posted = [
        command[1]
        for call in [*(Call("busy") for _ in range(2 * WINDOW)), *others]
        for command in mailbox.called(call)
    ]
    for _ in range(2 * WINDOW):
        mailbox.called(Call("busy"))
        _, commands = mailbox.answered(posted.pop(0).number)
        posted += [command[1] for command in commands]
    assert all(call.number for call in others)


def test_call_is_withdrawn_without_a_look_at_the_others() -> None:
    compared = 0

    class Watched(Call):
        __slots__ = ()
        __hash__ = Call.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return self is other

    mailbox = Mailbox()
    calls = [Watched("a") for _ in range(100)]
    for call in calls:
        mailbox.called(call)
    assert all(mailbox.withdraw(call) for call in reversed(calls))
    assert compared < 100


def test_as_many_are_posted_as_may_wait_for_each_other() -> None:
    mailbox = Mailbox(lanes={"": (100, False)})
    mailbox.started()
    calls = [Call(number) for number in range(100)]
    assert [mailbox.called(call) for call in calls] == [[(POST, call)] for call in calls]


def test_calls_of_one_group_do_not_wait_for_those_of_another() -> None:
    mailbox = Mailbox(lanes={"": (1, True), "io": (WINDOW, False)})
    mailbox.started()
    waiting, behind = Call("a", ready=False), Call("a")
    assert mailbox.called(waiting) == mailbox.called(behind) == []
    others = [Call("a", group="io") for _ in range(2 * WINDOW)]
    assert [mailbox.called(call) for call in others] == [
        [(POST, call)] if index <= WINDOW else [] for index, call in enumerate(others)
    ]
    assert mailbox.resolved(waiting) == [(POST, waiting), (POST, behind)]
    assert len(mailbox) == 2 * WINDOW + 2
    assert mailbox.withdraw(others[-1])
    assert mailbox.answered(behind.number) == (behind, [])
    mailbox.take_out(others[0].number)
    assert mailbox.flush() == [(POST, call) for call in others[WINDOW + 1 : -1]]
    mailbox.check_invariants()


def test_calls_of_a_group_are_made_again_and_keep_it_from_its_end() -> None:
    mailbox = Mailbox(restarts=1, lanes={"": (1, True), "io": (1, True)})
    mailbox.started()
    first, second = Call("a", retries=1, group="io"), Call("a", retries=1, group="io")
    third = Call("a", ready=False, group="io")
    for call in (first, second, third):
        mailbox.called(call)
    assert kinds(mailbox.exited("killed")) == [LAUNCH]
    mailbox.check_invariants()
    assert mailbox.started() == [(POST, first), (POST, second)]
    mailbox.released()
    assert [mailbox.answered(call.number)[1] for call in (first, second)] == [[], []]
    assert mailbox.resolved(third) == [(POST, third)]
    assert mailbox.answered(third.number) == (third, [(IDLE,)])


def test_what_fits_later_keeps_the_calls_that_wait() -> None:
    mailbox = Mailbox(lanes={"": (1, True), "io": (1, True)})
    call = Call("a", group="io")
    mailbox.called(call)
    mailbox.fit(0, {"": (1, True), "cpu": (2, False)})
    assert mailbox.started() == [(POST, call)]


def test_stops_after_the_calls_that_were_made_before() -> None:
    mailbox = Mailbox()
    mailbox.started()
    call = Call("a")
    mailbox.called(call)
    assert mailbox.released() == []
    assert mailbox.answered(call.number) == (call, [(IDLE,)])
    assert mailbox.end() == [(STOP,)] and mailbox.stopped
    assert mailbox.end() == mailbox.flush() == []
    assert mailbox.exited("exited with code 0") == [(GONE,)]


def test_does_not_stop_with_a_call_or_a_handle_that_comes_in_time() -> None:
    mailbox = Mailbox()
    mailbox.started()
    assert mailbox.released() == [(IDLE,)]
    call = Call("itself")
    assert mailbox.called(call) == [(POST, call)]
    assert mailbox.end() == []
    mailbox.held()
    assert mailbox.answered(call.number) == (call, [])
    assert mailbox.end() == [] and not mailbox.stopped
    assert mailbox.released() == [(IDLE,)]
    assert mailbox.end() == [(STOP,)]


def test_without_handles_it_is_started_again_only_for_calls_that_are_left() -> None:
    for retries, again in ((0, False), (1, True)):
        mailbox = Mailbox(restarts=1)
        mailbox.started()
        call = Call("a", retries=retries)
        mailbox.called(call)
        mailbox.released()
        commands = mailbox.exited("killed")
        assert ((LAUNCH,) in commands) is again
        if again:
            assert mailbox.started() == [(POST, call)]
            assert mailbox.answered(call.number) == (call, [(IDLE,)])
            assert mailbox.end() == [(STOP,)]


def test_late_answer_after_a_restart_is_dropped() -> None:
    mailbox = Mailbox(restarts=1)
    mailbox.started()
    call = Call("a")
    mailbox.called(call)
    assert kinds(mailbox.exited("killed")) == [FAIL, LAUNCH]
    assert mailbox.state == STARTING
    assert mailbox.answered(call.number) == (None, [])


def test_call_that_may_be_tried_again_goes_first() -> None:
    mailbox = Mailbox(restarts=1)
    mailbox.started()
    first, second, third = Call("a", retries=1), Call("a", retries=1), Call("a", ready=False)
    for call in (first, second, third):
        mailbox.called(call)
    assert kinds(mailbox.exited("killed")) == [LAUNCH]
    assert mailbox.started() == [(POST, first), (POST, second)]
    assert mailbox.exited("killed") == [
        (FAIL, first, "killed", False),
        (FAIL, second, "killed", False),
        (FAIL, third, "killed", False),
        (GONE,),
    ]


def test_retries_are_used_up_by_deaths_and_by_errors() -> None:
    mailbox = Mailbox(restarts=-1)
    mailbox.started()
    twice, always = Call("a", retries=2), Call("a", retries=-1)
    for call in (twice, always):
        mailbox.called(call)
    assert kinds(mailbox.exited("killed")) == [LAUNCH]
    mailbox.started()
    assert mailbox.answered(twice.number)[0] is twice
    assert mailbox.called_again(twice) == [(POST, twice)]
    assert (twice.retries, always.retries) == (0, -1)
    assert mailbox.exited("killed") == [(FAIL, twice, "killed", True), (LAUNCH,)]


def test_constructor_that_raises_is_not_tried_again() -> None:
    mailbox = Mailbox(restarts=-1)
    call = Call("a")
    mailbox.called(call)
    assert mailbox.refused("no model") == [(KILL,)]
    assert mailbox.exited("exited with code 0") == [(FAIL, call, "no model", False), (GONE,)]
    assert mailbox.called(Call("a"))[0][2] == "no model"


def test_kill_that_lets_it_restart() -> None:
    mailbox = Mailbox(restarts=1)
    mailbox.started()
    assert mailbox.kill("killed by hand", no_restart=False) == [(KILL,)]
    assert kinds(mailbox.exited("SIGKILL")) == [LAUNCH]
    assert mailbox.kill("killed by hand") == [(KILL,)]
    assert kinds(mailbox.exited("SIGKILL")) == [GONE]
    assert mailbox.reason == "killed by hand"


def test_kill_is_the_reason_of_the_end_that_follows_and_of_no_other() -> None:
    mailbox = Mailbox(restarts=1)
    mailbox.started()
    first, second = Call("a"), Call("a")
    mailbox.called(first)
    mailbox.kill("killed by hand", no_restart=False)
    mailbox.started()  # said before the kill
    assert mailbox.exited("SIGKILL") == [(FAIL, first, "killed by hand", True), (LAUNCH,)]
    mailbox.started()
    mailbox.called(second)
    assert mailbox.exited("crash") == [(FAIL, second, "crash", False), (GONE,)]


def test_leaving_on_purpose_is_not_undone() -> None:
    mailbox = Mailbox(restarts=-1)
    mailbox.started()
    assert mailbox.exited("left", intended=True) == [(GONE,)]


class World:
    """An actor process and its callers, simulated."""

    def __init__(self, restarts: int, in_order: bool) -> None:
        self.mailbox = Mailbox(restarts, {"": (1, in_order), "io": (1, in_order)})
        self.calls: list[Call] = []
        self.outcomes: Counter[int] = Counter()
        self.inside: list[Call] = []
        self.order: dict[Any, list[int]] = {}
        self.running = True
        self.doomed = False
        self.idle = False

    def do(self, commands: list[tuple[Any, ...]]) -> None:
        for command in commands:
            kind = command[0]
            if kind == POST:
                assert self.running and command[1].ready
                self.inside.append(command[1])
                self.order.setdefault((command[1].caller, command[1].group), []).append(
                    self.calls.index(command[1])
                )
            elif kind == FAIL:
                self.outcomes[id(command[1])] += 1
                assert command[2]
            elif kind == LAUNCH:
                assert not self.running
                self.running = True
            elif kind in (KILL, STOP):
                self.doomed = True
            elif kind == IDLE:
                assert not self.inside
                self.idle = True
            elif kind == GONE:
                assert not self.running
        self.mailbox.check_invariants()

    def exit(self, intended: bool = False) -> None:
        if self.running:
            self.running = self.doomed = False
            self.inside.clear()
            self.do(self.mailbox.exited("it was killed", intended))


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("restarts", [0, 2, -1])
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_call_has_one_outcome(restarts: int, in_order: bool, data: st.DataObject) -> None:
    world = World(restarts, in_order)
    mailbox = world.mailbox
    for _ in range(data.draw(st.integers(1, 60))):
        step = data.draw(st.sampled_from("ccccrsaaawxlknhde"))
        if step == "c":
            group = data.draw(st.sampled_from(["", "io"]))
            call = Call(data.draw(st.sampled_from("ab")), data.draw(st.booleans()), 0, group)
            world.calls.append(call)
            world.do(mailbox.called(call))
        elif step == "r" and (waiting := [c for c in world.calls if not c.ready]):
            world.do(mailbox.resolved(data.draw(st.sampled_from(waiting))))
        elif step == "s" and world.running:
            world.do(mailbox.started())
        elif step == "a" and world.inside:
            call = world.inside.pop(0)
            answered, commands = mailbox.answered(call.number)
            assert answered is call
            world.outcomes[id(call)] += 1
            world.do(commands)
        elif step == "w" and world.calls:
            call = data.draw(st.sampled_from(world.calls))
            if mailbox.withdraw(call):
                world.outcomes[id(call)] += 1
                world.do(mailbox.flush())
        elif step == "x":
            world.exit(data.draw(st.booleans()))
        elif step == "k":
            world.do(mailbox.kill("by hand", data.draw(st.booleans())))
        elif step == "h":
            mailbox.held()
        elif step == "d":
            world.do(mailbox.released())
        elif step == "e" and world.idle:
            world.idle = False
            world.do(mailbox.end())
        elif step == "n" and world.running:
            world.do(mailbox.refused("its constructor raised"))
    for call in world.calls:
        if not call.ready:
            world.do(mailbox.resolved(call))
    world.do(mailbox.released())
    while mailbox.state != DEAD:
        if world.running and mailbox.state == STARTING and not world.doomed:
            world.do(mailbox.started())
        while world.inside and mailbox.state == ALIVE:
            call = world.inside.pop(0)
            _, commands = mailbox.answered(call.number)
            world.outcomes[id(call)] += 1
            world.do(commands)
        world.exit()
    assert [world.outcomes[id(call)] for call in world.calls] == [1] * len(world.calls)
    for indices in world.order.values():
        # Without a retry nothing is posted twice, nor out of order.
        assert len(indices) == len(set(indices))
        assert not in_order or indices == sorted(indices)


def test_answers_of_a_process_that_has_ended_post_nothing_more() -> None:
    mailbox = Mailbox(restarts=1)
    mailbox.started()
    calls = [Call("a") for _ in range(2 * WINDOW)]
    posted = [command[1] for call in calls for command in mailbox.called(call)]
    mailbox.ending()
    for call in posted:
        assert mailbox.answered(call.number) == (call, [])
    assert mailbox.exited("crashed") == [(LAUNCH,)]
    assert kinds(mailbox.started()) == [POST] * WINDOW
