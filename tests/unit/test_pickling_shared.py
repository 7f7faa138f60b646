"""What is taken for shared memory, and which pickle of it is good for whom."""

from __future__ import annotations

import ctypes
import gc
import mmap
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import store
from pool._pickling import _shared
from pool._pickling._shared import ALL, Sharing, number_of, reopen, upcoming

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 3 * mmap.PAGESIZE


def anonymous() -> Any:
    return np.frombuffer(mmap.mmap(-1, SIZE))


def in_file(folder: Path, mode: Any = "w+") -> Any:
    return np.memmap(folder / "memory", "f8", mode, shape=SIZE // 8)


def by_ctypes() -> Any:
    memory = (ctypes.c_double * 9).from_buffer(mmap.mmap(-1, SIZE))
    return np.ctypeslib.as_array(memory)[1:].reshape(2, 4).T


def test_what_is_shared(tmp_path: Path) -> None:
    for array in (anonymous(), anonymous()[5:9:-1][:0:2], by_ctypes(), in_file(tmp_path)[1:]):
        assert (_shared._place_of(array) is not None) == bool(array.size)


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: np.zeros(SIZE),
        lambda folder: np.zeros(SIZE)[1::2].reshape(2, -1).T,
        lambda folder: np.frombuffer(bytes(SIZE)),
        lambda folder: np.frombuffer(memoryview(bytearray(SIZE))),
        lambda folder: np.ctypeslib.as_array((ctypes.c_double * 9)()),
        lambda folder: np.frombuffer(mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE)),
        lambda folder: in_file(folder, "r"),
        lambda folder: in_file(folder, "c"),
        lambda folder: store.empty(SIZE),
        lambda folder: store.share(np.ones(SIZE)),
        lambda folder: store.get(store.put(np.ones(SIZE)), copy="readonly"),
        lambda folder: memoryview(mmap.mmap(-1, SIZE)),
    ],
    ids=range(12),
)
def test_what_is_not(make: Any, tmp_path: Path) -> None:
    in_file(tmp_path)
    array = make(tmp_path)
    assert _shared._place_of(array) is None
    assert Sharing(ALL).reduce(array) is NotImplemented


def test_numbers_are_those_of_the_objects() -> None:
    one, other = anonymous(), anonymous()
    first = number_of(one)
    assert number_of(one) == first < number_of(other) < upcoming()
    before = len(_shared._numbers)
    del other
    gc.collect()
    assert len(_shared._numbers) == before - 1
    assert number_of(anonymous()) >= number_of(one)


def test_finalizer_within_the_numbers_may_ask_for_one() -> None:
    array = anonymous()
    with _shared._lock:
        assert _shared._lock.acquire(blocking=False)
        _shared._lock.release()
        assert number_of(array) < upcoming()


@pytest.mark.parametrize("key", [slice(None), slice(700, 705), slice(None, None, -3), (None, ...)])
@pytest.mark.parametrize("kind", [np.memmap, np.ndarray])
@pytest.mark.parametrize("frozen", [True, False])
def test_opened_again_by_name(key: Any, kind: Any, frozen: bool, tmp_path: Path) -> None:
    whole = in_file(tmp_path)
    whole[:] = range(len(whole))
    array = whole[key].view(kind)
    array.flags.writeable = not frozen
    sharing = Sharing(0)
    function, arguments = sharing.reduce(array)
    got = function(*arguments)
    assert type(got) is kind and got.flags.writeable == array.flags.writeable
    assert got.strides == array.strides and got.tolist() == array.tolist()
    if kind is np.memmap:
        assert (got.filename, got.mode, got.offset) == (array.filename, array.mode, array.offset)
    whole[702] = -1
    assert got.tolist() == array.tolist()
    assert sharing.standing() == [True] and not sharing.inherits


def test_a_name_that_leads_elsewhere(tmp_path: Path) -> None:
    array = in_file(tmp_path)
    sharing = Sharing(ALL)
    function, arguments = sharing.reduce(array)
    assert function is reopen
    (tmp_path / "memory").rename(tmp_path / "other")
    assert sharing.standing() == [False]
    in_file(tmp_path)
    assert sharing.standing() == [False]
    with pytest.raises(FileNotFoundError, match="another file"):
        reopen(*arguments)
    assert Sharing(ALL).reduce(array)[1][1] == str(tmp_path / "other")
    (tmp_path / "other").unlink()
    assert Sharing(ALL).reduce(array)[0] is _shared.inherited_object


def test_which_pickle_is_good_for_whom() -> None:
    plain = Sharing(ALL)
    assert plain.suits(None) and plain.suits(0) and plain.suits(ALL)
    array = anonymous()
    numbered = Sharing(ALL)
    assert numbered.reduce(array) == (_shared.inherited_object, (number_of(array),))
    enough = number_of(array) + 1
    assert numbered.inherits == enough and numbered.held == [array]
    assert [numbered.suits(n) for n in (None, 0, enough - 1, enough, ALL)] == [
        False, False, False, True, True,
    ]  # fmt: skip
    copied = Sharing(0)
    assert copied.reduce(array) is NotImplemented
    assert [copied.suits(n) for n in (None, 0, enough, ALL)] == [False, True, False, False]
    never = Sharing(None)
    assert never.reduce(array) is NotImplemented
    assert [never.suits(n) for n in (None, 0, ALL)] == [True, False, False]
