"""Counting CPUs and GPUs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pool._objects._resources import Resources


def test_devices_are_told_apart() -> None:
    books = Resources({"CPU": 2, "GPU": 2}, ["5", "6"])
    one = books.take({"GPU": 1})
    two = books.take({"GPU": 1})
    assert one is not None and two is not None
    assert (books.names_of(one), books.names_of(two)) == (["5"], ["6"])
    assert books.take({"GPU": 1}) is None
    books.give_back(one)
    again = books.take({"GPU": 0.5})
    assert again is not None and books.names_of(again) == ["5"]


def test_fractions_share_the_fullest_device_that_fits() -> None:
    books = Resources({"GPU": 2})
    grants = [books.take({"GPU": share}) for share in (0.5, 0.25, 0.25, 0.3)]
    names = [books.names_of(grant) for grant in grants if grant is not None]
    assert names == [["0"], ["0"], ["0"], ["1"]]
    # One half is free on a device, but no device is whole.
    assert books.take({"GPU": 1}) is None


def test_thirds_add_up() -> None:
    books = Resources({"CPU": 1})
    grants = [books.take({"CPU": 1 / 3}) for _ in range(3)]
    assert None not in grants


def test_impossible_requests_say_why() -> None:
    books = Resources({"CPU": 2})
    assert books.impossible({"CPU": 2}) == ""
    assert books.impossible({"CPU": 3}) == "it asks for 3 CPU, and there are 2 in all"
    assert books.impossible({"GPU": 1}) == "it asks for 1 GPU, and there are 0 in all"


requests = st.fixed_dictionaries(
    {}, optional={"CPU": st.sampled_from([0.5, 1, 2]), "GPU": st.sampled_from([0.25, 0.5, 1, 2])}
)


@given(st.lists(st.one_of(requests, st.integers(0, 5)), max_size=40))
def test_nothing_is_granted_twice(steps: list[dict[str, float] | int]) -> None:
    books = Resources({"CPU": 2, "GPU": 3})
    held = []
    for step in steps:
        if isinstance(step, int):
            if held:
                books.give_back(held.pop(step % len(held)))
        else:
            grant = books.take(step)
            if grant is not None:
                held.append(grant)
                assert sum(grant.gpus.values()) == grant.amounts.get("GPU", 0)
        books.check_invariants()
    for grant in held:
        books.give_back(grant)
    assert books.free == books.total


def test_cpus_of_who_waits_are_lent_and_taken_back_at_once() -> None:
    books = Resources({"CPU": 2, "GPU": 1})
    holder = books.take({"CPU": 2, "GPU": 1})
    assert holder is not None
    books.lend(holder)
    assert books.amounts(free=True) == {"CPU": 2, "GPU": 0}
    other = books.take({"CPU": 1})
    assert other is not None
    books.take_again(holder)
    books.check_invariants()
    assert books.take({"CPU": 1}) is None
    books.give_back(other)
    assert books.amounts(free=True)["CPU"] == 0
    books.give_back(holder)
    assert books.amounts(free=True) == {"CPU": 2, "GPU": 1}
