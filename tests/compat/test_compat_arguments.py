"""Check what arguments and results are when they arrive, small or large."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pooltasks import identity, layouts, same

if TYPE_CHECKING:
    from collections.abc import Callable

STANDARD_FAILS: dict[str, str] = {}
if sys.version_info >= (3, 14):
    STANDARD_FAILS["test_order_of_axes_and_bytes"] = "pickles by protocol 5, which keeps them"


@pytest.mark.parametrize("side", [6, 120])
def test_order_of_axes_and_bytes(make_pool: Callable[..., Any], side: int) -> None:
    plane = np.arange(float(side * side)).reshape(side, side)
    cube = np.arange(float(4 * side * side)).reshape(side, 4, side)
    dense = (side * 8, 8)
    sent: list[tuple[Any, str, tuple[int, ...]]] = [
        (plane, "<f8", dense),
        (plane.T, "<f8", dense[::-1]),
        (plane.T[::2], "<f8", dense),
        (plane[::-1, ::-1], "<f8", dense),
        (np.broadcast_to(plane[0], plane.shape), "<f8", dense),
        (cube.transpose(1, 0, 2), "<f8", (side * side * 8, side * 8, 8)),
        (cube.T, "<f8", (8, side * 8, side * 4 * 8)),
        (plane.astype(">f4"), "<f4", (side * 4, 4)),
        (plane.T.astype(">i8"), "<i8", dense[::-1]),
        (plane.astype(">M8[D]")[::2], "<M8[D]", dense),
        (np.zeros((side, side), "f8,>i4").T, "|V12", (12, side * 12)),
    ]
    arrays = [array for array, _, _ in sent]
    wanted = [(dtype, strides, strides[-1] < strides[0], True) for _, dtype, strides in sent]
    pool = make_pool(1)
    assert pool.apply(layouts, (arrays,)) == wanted
    got = pool.apply(identity, (arrays,))
    assert layouts(got) == wanted
    for one, other in zip(got, arrays, strict=True):
        assert one.tolist() == other.tolist()


@pytest.mark.parametrize("size", [10, 2_000_000])
def test_what_is_the_same_object_stays_the_same(make_pool: Callable[..., Any], size: int) -> None:
    value = bytes(size)
    values = [value, value]
    values.append(values)  # type: ignore[arg-type]  # that is the point
    pool = make_pool(1)
    assert pool.apply(same, (values,)) == [True] * 3
    got = pool.apply(identity, ([value, {"within": value}],))
    assert got[0] == value and got[1]["within"] is got[0]
    knot: Any = ([], value)
    knot[0].append(knot)
    (item,) = pool.map(identity, [knot])
    assert item[0][0] is item and item[1] == value
