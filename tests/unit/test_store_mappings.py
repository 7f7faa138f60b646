"""Views of the store: what is built on them, when they let go, and where mapping fails."""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import gc
import mmap
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from forking import ended_well, fork, run_in_fork

import store
import store._depot
from pool._pickling import dumps_to_worker, loads
from store import _finding, _interrupts, _links, _mappings, _readers, _refs, _returned
from store._arena import Arena
from store._links import Link

COUNT = 20_000


def live() -> int:
    gc.collect()
    found: int = store.stats().get("live", 0)
    return found


@pytest.mark.parametrize(
    "derive",
    [
        lambda a: a[5:],
        lambda a: a[5:][::-2],
        lambda a: a.reshape(10, -1).T[3],
        lambda a: a.view("u1")[100:],
        memoryview,
        lambda a: memoryview(a)[3:9],
        lambda a: np.from_dlpack(a),
        lambda a: np.lib.stride_tricks.sliding_window_view(a, 5),
        lambda a: __import__("pandas").Series(a, copy=False).iloc[4:],
        lambda a: (__import__("ctypes").c_double * 3).from_buffer(a),
        lambda a: pytest.importorskip("pyarrow").py_buffer(a).slice(800),
        lambda a: pytest.importorskip("pyarrow").array(a)[5:].to_numpy(),
    ],
    ids=["slice", "slice of slice", "reshaped", "bytes", "memoryview", "part", "dlpack", "windows",
         "Series", "ctypes", "Arrow's buffer", "Arrow's array"],
)  # fmt: skip
def test_object_lives_as_long_as_anything_on_top_of_it(derive: Any) -> None:
    before = live()
    view = derive(store.get(store.put(np.arange(float(COUNT)))))
    assert live() - before >= 8 * COUNT
    del view
    assert live() == before


def where_is(view: Any) -> int | None:
    """Return where in an object of the store a view begins."""
    found = _finding.find(memoryview(view).cast("B"))
    return None if found is None else found[1]


def test_buffers_that_do_not_tell_what_they_are_built_on_are_found() -> None:
    refs = [store.put(np.arange(float(COUNT))) for _ in range(3)]
    arrays = [store.get(ref) for ref in refs]
    again = store.get(refs[1])  # mapped apart from the first one
    filled = store.zeros(COUNT)
    for array in (*arrays, again, filled):
        assert where_is((ctypes.c_char * array.nbytes).from_buffer(array)) == 0
        tail = array[100:]
        assert where_is((ctypes.c_char * tail.nbytes).from_buffer(tail)) == 800
    # Not what was written to, nor what is not in the store.
    again[COUNT // 2] = -1
    assert where_is((ctypes.c_char * again.nbytes).from_buffer(again)) is None
    assert where_is((ctypes.c_char * arrays[1].nbytes).from_buffer(arrays[1])) == 0
    own = np.ones(COUNT)
    assert where_is((ctypes.c_char * own.nbytes).from_buffer(own)) is None


def test_views_that_were_made_before_numpy_was_there_are_found() -> None:
    ref = store.put(np.arange(float(COUNT)))
    (block,) = (blob for blob in ref._object.blobs if type(blob) is _mappings.Block)
    view = _mappings._mmap_lease(block.part(800, 8 * COUNT - 800))
    array = np.frombuffer(view)
    assert array[0] == 100 and where_is(array) == 800 and where_is(array[50:]) == 1200
    assert where_is(_mappings._mmap_lease(block, readonly=True)) == 0
    array[COUNT // 2] = -1
    assert where_is(array) is None
    assert store.get(ref)[COUNT // 2 + 100] == COUNT // 2 + 100


def test_memory_that_was_let_go_is_not_taken_for_what_was_there() -> None:
    ref = store.put(np.arange(float(COUNT)))
    first, apart = store.get(ref), store.get(ref)
    addresses = [first.ctypes.data, apart.ctypes.data]
    del first, apart
    for address in addresses:
        assert _finding.lease_at(address) is None
    assert not _mappings.apart


def test_memory_above_what_is_in_the_store_is_not_taken_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ref = store.put(np.zeros(COUNT))
    first, shown = store.get(ref), store.get(ref, copy="readonly")
    lease = _finding.base_of(memoryview(shown))
    assert lease is not None and lease.readonly
    other = np.frombuffer(mmap.mmap(-1, 8 * COUNT))
    other[:] = 1
    # As if it were the next one below, wherever the system has mapped both.
    place = _mappings.address_of(other) - mmap.PAGESIZE
    monkeypatch.setitem(_mappings.apart, place, weakref.ref(lease))
    assert _finding.find(memoryview(other).cast("B")) is None
    assert _finding.arrived(memoryview(other).cast("B")) is None
    assert (store.get(store.put(other)) == 1).all()
    assert not first.any()


@pytest.mark.parametrize("copy", ["cow", "readonly"])
def test_as_much_memory_that_begins_elsewhere_is_not_taken_for_all_of_it(copy: str) -> None:
    view = store.get(store.put(np.arange(float(COUNT))), copy=copy)
    shifted = np.lib.stride_tricks.as_strided(view[100:], view.shape)  # up to the end of the page
    flat = memoryview(shifted).cast("B")
    assert _finding.find(flat) is None and _finding.arrived(flat) is None
    assert store.get(store.put(shifted))[0] == 100


def test_copies_and_results_do_not_hold_it() -> None:
    before = live()
    array = store.share(np.arange(float(COUNT)))
    kept = [array.copy(), array * 2, array[3], array.sum()]
    del array
    assert live() == before and len(kept) == 4


def test_space_is_used_again() -> None:
    for number in range(50):
        assert (store.get(store.put(np.full(COUNT, number))) == number).all()
    assert store.stats()["peak"] < 20 * 8 * COUNT


def test_threads_that_put_their_first_objects_at_once_have_one_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = threading.Barrier(2, timeout=60.0)

    class Slow(store._depot.Depot):
        def __init__(self) -> None:
            super().__init__()
            both.wait()

    assert not store._depot.shutdown()
    monkeypatch.setattr(store._depot, "Depot", Slow)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(store._depot.depot())) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = found
    assert first is second


@pytest.mark.parametrize("first", ["the reference", "what holds it"])
def test_what_a_finalizer_in_a_cycle_looks_at_is_not_overwritten(first: str) -> None:
    """The collector finalizes all of a cycle, in any order, before it knows what is kept."""
    before = live()
    found: list[Any] = []

    class InCycle:
        def __init__(self, ref: Any = None) -> None:
            self.me, self.ref = self, ref

        def __del__(self) -> None:
            found.append(store.get(self.ref))
            found.append(store.put(np.full(COUNT, 7.0)))
            found.append(self.ref)

    if first == "the reference":
        InCycle(store.put(np.ones(COUNT)))
    else:
        InCycle().ref = store.put(np.ones(COUNT))
    gc.collect()
    others = [store.put(np.full(COUNT, 7.0)) for _ in range(3)]
    view, other, ref = found
    assert (view == 1).all() and (store.get(ref) == 1).all()
    del view, other, ref
    found.clear()
    others.clear()
    assert live() == before


#: A debugger looks at each frame; the modules of the store are imported under it.
WATCHED = """
import gc, sys

def look(frame, event, arg):
    frame.f_locals

sys.settrace(look)
import store._mappings
sys.settrace(None)
import numpy as np

class InCycle:
    def __init__(self, ref):
        self.me, self.ref = self, ref
    def __del__(self):
        view = store.get(self.ref)
        other = store.put(np.full(20_000, 7.0))
        print((view == 1).all())

InCycle(store.put(np.ones(20_000)))
gc.collect()
"""


def test_a_debugger_does_not_hide_from_the_store_what_the_collector_does() -> None:
    done = subprocess.run([sys.executable, "-c", WATCHED], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_what_is_put_while_the_collector_takes_a_cycle_apart() -> None:
    """The block has lost what it refers to, but the list of the cycle has it still."""
    before = live()
    done = []

    class Putting:
        def __del__(self) -> None:
            done.append(store.put(np.ones(COUNT)))

    older = [Putting()]
    gc.collect()  # or it would be finalized along with the cycle

    def make() -> None:
        block = store.put(np.ones(COUNT))._object.blobs[1]
        box: list[Any] = [older.pop()]
        cycle: list[Any] = [block, box]
        cycle.append(cycle)
        box.append(cycle)

    enabled = gc.isenabled()
    gc.disable()
    try:
        make()
        gc.collect(0)
    finally:
        if enabled:
            gc.enable()
    assert len(done) == 1
    done.clear()
    assert live() == before


def test_ctrl_c_while_the_memory_of_an_array_is_given_back() -> None:
    """What is raised in a finalizer Python drops, and it ends there."""
    before = live()
    views = store.get(store.put([np.ones(COUNT) for _ in range(3)]))
    lease: Any = _finding.base_of(views[-1])  # lists let go of the last one first

    class Struck:
        def __init__(self, block: Any) -> None:
            self.block = block

        def __getattr__(self, name: str) -> Any:
            if name == "reader":
                signal.raise_signal(signal.SIGINT)
            return getattr(self.block, name)

    lease.block = Struck(lease.block)
    del lease
    with pytest.raises(KeyboardInterrupt):
        del views  # the finalizers of the others are not struck instead
        time.sleep(5)
    assert live() == before
    again = store.get(store.put(np.ones(COUNT)))
    shown: Any = _finding.base_of(again)
    assert shown._mapped is None  # its place is free


@pytest.mark.parametrize("made", ["in place", "by a second get"])
def test_ctrl_c_while_a_mapping_is_given_back(made: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(_mappings.apart)
    ref = store.put(np.ones(COUNT))
    first = store.get(ref)
    array = store.empty(COUNT) if made == "in place" else store.get(ref)
    assert len(_mappings.apart) == before + 1
    finalizer: Any = _mappings._Mapped.__del__
    unmap, *others = finalizer.__defaults__

    def struck(address: int, nbytes: int) -> None:
        signal.raise_signal(signal.SIGINT)
        unmap(address, nbytes)

    monkeypatch.setattr(finalizer, "__defaults__", (struck, *others))
    with pytest.raises(KeyboardInterrupt):
        del array
        time.sleep(5)
    assert len(_mappings.apart) == before
    assert (first == 1).all()


def test_two_gets_never_see_each_other() -> None:
    ref = store.put(np.zeros(COUNT))
    views = [store.get(ref) for _ in range(4)]
    for number, view in enumerate(views):
        view[:] = number
    assert [view[7] for view in views] == [0, 1, 2, 3]
    views.clear()
    assert (store.get(ref) == 0).all()


@pytest.fixture
def locked() -> Iterator[Callable[[int], None]]:
    """Return what locks 2 MB in memory, as `mlockall` does with everything."""
    libc = ctypes.CDLL(None, use_errno=True)
    done: list[tuple[Any, Any]] = []

    def lock(address: int) -> None:
        args = ctypes.c_void_p(address), ctypes.c_size_t(2 << 20)
        if libc.mlock(*args):
            pytest.skip("no memory may be locked here")
        done.append(args)

    yield lock
    for args in done:
        libc.munlock(*args)


def mapped_at(ref: Any) -> int:
    """Return where the object of a reference is, or would be, mapped first."""
    (block,) = (blob for blob in ref._object.blobs if type(blob) is _mappings.Block)
    address: int = block.reader.address + block.start
    return address


def test_memory_that_was_locked_is_not_seen_with_old_changes(
    locked: Callable[[int], None],
) -> None:
    ref = store.put(np.ones(COUNT))
    view = store.get(ref)
    locked(view.ctypes.data // 4096 * 4096)
    for _ in range(2):
        view[:] = -1
        del view
        view = store.get(ref)
        assert (view == 1).all()
    place = mapped_at(ref)
    view[:] = -1
    del view, ref
    ref = store.put(np.full(COUNT, 2.0))
    assert mapped_at(ref) == place and (store.get(ref) == 2).all()


def test_what_is_put_where_memory_was_locked_is_seen(locked: Callable[[int], None]) -> None:
    first = store.put(np.ones(COUNT))
    locked(mapped_at(first))
    second = store.put(np.full(COUNT, 2.0))
    assert 0 < mapped_at(second) - mapped_at(first) < 1 << 20
    assert (store.get(second) == 2).all() and (store.get(first) == 1).all()


def test_where_memory_cannot_be_reset_each_view_has_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ref = store.put(np.ones(COUNT))
    view = store.get(ref)
    address = view.ctypes.data
    with monkeypatch.context() as patched:
        patched.setattr(_mappings, "reset", lambda address, nbytes: False)
        del view
        view = store.get(ref)
        assert view.ctypes.data != address and (view == 1).all()
        assert where_is(view) == 0
        view[:] = -1
        del view
    assert not _mappings.apart
    view = store.get(ref)
    assert view.ctypes.data == address and (view == 1).all()


def test_a_segment_that_cannot_be_mapped_now_is_mapped_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not store._depot.shutdown()
    ref = store.put(np.ones(COUNT))

    def fail(*args: Any, **options: Any) -> int:
        raise OSError(12, "no address space")

    with monkeypatch.context() as patched:
        patched.setattr(_readers, "map_file", fail)
        assert (store.get(ref) == 1).all()
    assert store.get(ref).ctypes.data == mapped_at(ref)


def test_readonly_and_copies() -> None:
    ref = store.put(np.zeros(COUNT))
    view = store.get(ref, copy="readonly")
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        view.flags.writeable = True
    copied = store.get(ref, copy="copy")
    copied[:] = 1
    assert (store.get(ref) == 0).all()
    with pytest.raises(ValueError, match="copy='steal'"):
        store.get(ref, copy="steal")


def test_part_of_a_changed_view_that_was_not_changed_is_not_copied() -> None:
    view = store.share(np.zeros(1_000_000))
    view[0] = 1
    copied = store.stats()["copied"]
    link = Link(lambda: None)
    link.pack([memoryview(view[500_000:]).cast("B")])
    assert store.stats()["copied"] == copied
    link.pack([memoryview(view).cast("B")])
    assert store.stats()["copied"] == copied + view.nbytes
    link.close()


def bytes_shared() -> Any:
    return store.share(np.zeros(8 * COUNT + 32, "u1"))


@pytest.mark.parametrize(
    ("view", "copied"),
    [
        (lambda: bytes_shared()[1:-31].view("f8"), True),
        (lambda: bytes_shared()[1:-31].view("M8[s]"), True),
        (lambda: bytes_shared()[1:-31].view([("a", "M8[s]"), ("b", "f8")]), True),
        (lambda: bytes_shared()[1:-31].view([("a", "f8"), ("b", "f8")]), True),
        (lambda: bytes_shared()[4:-28].view("f4"), False),
        (lambda: bytes_shared()[1:], True),  # whatever it is looked at as
        (lambda: bytes_shared()[16:], False),
        (lambda: store.share(np.zeros(COUNT))[1:], False),
    ],
)
def test_what_arrives_is_aligned_as_a_copy_is(view: Any, copied: bool) -> None:
    sent = view()
    before = store.stats()["copied"]
    arrived = store.get(store.put(sent))
    assert arrived.flags.aligned and (arrived == sent).all()
    if arrived.dtype == "u1":
        assert arrived[: COUNT * 8 // 16 * 16 - 16].view("c16").flags.aligned
    assert store.stats()["copied"] - before == copied * sent.nbytes


@pytest.mark.parametrize("order", ["C", "F"])
def test_array_that_is_filled_in_place(order: Any) -> None:
    array = store.empty((100, 200), "i4", order)
    assert type(array) is np.ndarray and array.flags[f"{order}_CONTIGUOUS"]
    array[:] = np.arange(20_000).reshape(100, 200)
    copied = store.stats()["copied"]
    ref = store.put(array)
    array[:] = -1  # too late: it has left
    assert store.stats()["copied"] == copied
    got = store.get(ref)
    assert got.flags[f"{order}_CONTIGUOUS"]
    assert (got == np.arange(20_000).reshape(100, 200)).all()
    ref = store.put(array)  # changed since: a copy
    assert store.stats()["copied"] == copied + array.nbytes
    assert (store.get(ref) == -1).all()


class Announced:
    """A lock of which one knows that somebody has come to it."""

    def __init__(self, lock: Any) -> None:
        self.lock = lock
        self.reached = threading.Event()

    def __enter__(self) -> None:
        self.reached.set()
        self.lock.__enter__()

    def __exit__(self, *exc_info: object) -> None:
        self.lock.__exit__(*exc_info)


def test_array_that_two_threads_send_at_once_keeps_what_is_written_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    array = store.empty(COUNT)
    array[:] = 1
    refs: list[Any] = []

    def send_and_write() -> None:
        refs.append(store.put(array))
        array[1:] = 2
        books.reached.set()

    books = Announced(_mappings.books)
    other = threading.Thread(target=send_and_write)
    remap = _mappings.remap_file

    def remap_slowly(*args: Any) -> None:
        if threading.current_thread() is other:
            remap(*args)
            return
        books.reached.clear()
        other.start()
        books.reached.wait()  # it waits here, or has done all of it
        remap(*args)
        array[0] = 2  # private from now on

    monkeypatch.setattr(_mappings, "books", books)
    monkeypatch.setattr(_mappings, "remap_file", remap_slowly)
    refs.append(store.put(array))
    other.join()
    assert (array == 2).all()
    assert all((store.get(ref)[1:] == 1).all() for ref in refs)


def test_array_that_a_finalizer_sends_while_it_is_being_sent_keeps_what_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    array = store.empty(COUNT)
    array[:] = 1
    refs: list[Any] = []
    remap = _mappings.remap_file

    def remap_and_finalize(*args: Any) -> None:
        remap(*args)
        array[0] = 2  # by another thread, private
        monkeypatch.undo()
        refs.append(store.put(array))
        array[1:] = 2

    monkeypatch.setattr(_mappings, "remap_file", remap_and_finalize)
    refs.append(store.put(array))
    assert (array == 2).all()
    assert all((store.get(ref)[1:] == 1).all() for ref in refs)
    assert (store.get(store.put(array)) == 2).all()


def test_array_is_copied_where_it_cannot_be_made_private(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise OSError(12, "too many mappings")

    array = store.empty(COUNT)
    array[:] = 1
    with monkeypatch.context() as patched:
        patched.setattr(_mappings, "remap_file", fail)
        ref = store.put(array)
        array[:] = 2
    assert (store.get(ref) == 1).all()
    assert (store.get(store.put(array)) == 2).all()


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_child_does_not_write_to_what_its_parent_fills(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the array cannot be made private, the child ends, and the parent keeps its own."""

    def fail(*args: Any) -> None:
        raise OSError(errno.ENOMEM, "no memory may be promised")

    array = store.empty(COUNT)
    array[:] = 1
    with monkeypatch.context() as patched:
        patched.setattr(_mappings, "remap_file", fail)
        child = os.fork()
        if not child:
            faulthandler.disable()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            other = mmap.mmap(-1, 1 << 20)  # lies somewhere else
            array[:] = 3
            other.close()
            os._exit(0)
    assert ended(child) == -signal.SIGSEGV
    assert (array == 1).all()
    child = os.fork()
    if not child:
        array[:] += 1
        os._exit(0 if (array == 2).all() else 1)
    assert ended(child) == 0
    assert (array == 1).all()
    assert where_is(array) == 0 and len(_mappings.apart) == 1


def test_array_that_is_being_let_go_is_not_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed: list[Any] = []
    monkeypatch.setattr(_mappings, "remap_file", lambda *args: sealed.append(args))

    def fork_elsewhere(frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_name == "__del__":
            finalized.append(frame)
            _mappings.seal_all()

    finalized: list[Any] = []
    array = store.empty(COUNT)
    array[:] = 1
    sys.setprofile(fork_elsewhere)
    try:
        del array
    finally:
        sys.setprofile(None)
    assert finalized and not sealed


def test_fork_within_the_lock_seals_and_leaves_it_free_in_the_child() -> None:
    array = store.empty(COUNT)
    array[:] = 1
    store.put(array)
    other = store.empty(COUNT)
    other[:] = 1

    def look() -> None:
        other[:] = 3
        assert (array == 1).all() and not _mappings.books.held_here

    with _mappings.books:  # as a thread that sends; its finalizers may fork
        child = fork(look)
    assert ended_well(child)
    assert (other == 1).all()


def test_interrupted_fork_pins_what_the_child_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    views = [store.get(store.put(np.ones(COUNT)))]
    before = signal.getsignal(signal.SIGINT)
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: seen.append(found.exc_type))
    seal_all = _mappings.seal_all

    def strike() -> None:
        signal.raise_signal(signal.SIGINT)
        seal_all()

    monkeypatch.setattr(_mappings, "seal_all", strike)
    monkeypatch.setattr(_interrupts, "PAUSE", 0.3)
    reading, writing = os.pipe()

    def look() -> None:
        os.close(writing)
        os.read(reading, 1)
        assert (views[0] == 1).all() and not seen and signal.getsignal(signal.SIGINT) is before

    child = fork(look)
    with pytest.raises(KeyboardInterrupt):
        time.sleep(5)
    assert not seen  # what a hook raises is dropped
    assert not _mappings.books.held_here and signal.getsignal(signal.SIGINT) is before
    views.clear()
    assert store.stats()["pinned"] == 1
    os.close(reading)
    os.close(writing)
    assert ended_well(child)
    assert not live()


def test_zeros_are_zeros_where_something_else_was() -> None:
    store.put(np.full(COUNT, 7.0))
    assert (
        not store.zeros(COUNT).any()
        and not store.zeros((10, COUNT // 10), "M8[s]").view("i8").any()
    )
    assert store.zeros(()).shape == () and store.zeros((0, 5)).shape == (0, 5)


def made(make: Callable[..., Any], *args: Any) -> tuple[Any, ...]:
    try:
        array = make(*args)
    except Exception as error:
        return type(error), str(error)
    return array.shape, array.dtype


@pytest.mark.parametrize(
    "shape",
    [COUNT, np.int64(COUNT), np.ones(COUNT, bool).sum(), np.array([300, 400]), [300, 400],
     (np.int32(300), 400), (), [], (0, 5), -1, (-1, COUNT), 1 << 62, (1 << 40, 1 << 40), 1 << 70,
     3e4, (3.0, COUNT), "a", [[300, 400]]],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["f8", "(2,)i4", "U", "S7", [("a", "M8[s]"), ("b", "u1")]])
def test_shapes_and_errors_are_numpys(shape: Any, dtype: Any) -> None:
    assert made(store.empty, shape, dtype) == made(np.empty, shape, dtype)
    assert made(store.zeros, shape, dtype) == made(np.zeros, shape, dtype)


@pytest.mark.parametrize(
    ("nbytes", "error"),
    [(1e6, TypeError), ("1M", TypeError), (-1, ValueError), (1 << 62, MemoryError),
     (1 << 90, MemoryError)],
)  # fmt: skip
def test_memory_that_cannot_be_had_ready_spoils_nothing(nbytes: Any, error: Any) -> None:
    before = live()
    with pytest.raises(error):
        store.prefault(nbytes)
    assert live() == before
    store.prefault(0)
    store.prefault(np.int64(8 * COUNT))
    refs = [store.put(np.full(COUNT, number)) for number in range(20)]
    assert all((store.get(ref) == number).all() for number, ref in enumerate(refs))


def test_objects_cannot_be_in_the_store() -> None:
    with pytest.raises(TypeError, match="Python objects"):
        store.empty(10, object)


def test_threads_that_get_and_let_go() -> None:
    refs = [store.put(np.full(COUNT, number)) for number in range(4)]
    wrong: list[int] = []

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        held: list[Any] = []
        for _ in range(300):
            number = int(random.integers(4))
            view = store.get(refs[number])
            if not (view == number).all():
                wrong.append(number)
            view[:] = 99
            held.append(view)
            if len(held) > 5:
                held.pop(int(random.integers(5)))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_without_address_space_it_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    ref = store.put(np.arange(COUNT))
    first = store.get(ref)

    def fail(*args: Any, **options: Any) -> int:
        raise OSError(12, "no address space")

    monkeypatch.setattr(_mappings, "map_file", fail)
    second = store.get(ref)  # would need a mapping of its own
    first[:] = 0
    assert (second == np.arange(COUNT)).all()
    assert type(_finding.base_of(memoryview(first))) is _mappings.Lease
    assert _finding.base_of(memoryview(second)) is None


@pytest.mark.parametrize("numpy", [True, False])
def test_pickle_without_room_for_a_mapping_is_made_of_a_copy(
    numpy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = store.put(np.arange(COUNT))
    view = store.get(ref)  # in the place where the segment is mapped

    def fail(*args: Any, **options: Any) -> int:
        raise OSError(errno.EMFILE, "no descriptor")

    with monkeypatch.context() as patched:
        patched.setattr(_mappings, "map_file", fail)
        patched.setattr(_mappings, "MmapLease", fail)
        if not numpy:
            patched.delitem(sys.modules, "numpy")
        data = pickle.dumps(ref, 5)
    assert (store.get(pickle.loads(data)) == view).all()


def test_without_numpy_a_mapping_of_its_own() -> None:
    block = store._depot.depot().put(b"x" * 100_000)
    view = _mappings._mmap_lease(block.part(10, 5))
    assert bytes(view) == b"xxxxx"
    view[0] = 0
    assert bytes(block.part(10, 5).copy()) == b"xxxxx"


def test_descriptor_for_readers_is_read_only() -> None:
    ref = store.put(np.zeros(COUNT))
    (segment, _), *_ = store._depot.depot().arena.segments.values()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(segment.reader_fd, b"x", 0)
    assert os.fstat(segment.fd).st_mode & 0o777 == 0o600
    assert not os.get_inheritable(segment.fd) and not os.get_inheritable(segment.reader_fd)
    with pytest.raises(PermissionError):
        os.ftruncate(segment.fd, 0)
    del ref


def test_reference_is_a_value_of_its_own() -> None:
    ref = store.put(np.arange(COUNT))
    other = store.put(np.arange(COUNT))
    assert ref != other and ref == pickle.loads(pickle.dumps(ref))
    assert len({ref, pickle.loads(pickle.dumps(ref, 2)), other}) == 2
    assert ref.nbytes > 8 * COUNT and ref.hex() in repr(ref)
    store.free(ref)
    with pytest.raises(store.ObjectFreed, match=ref.hex()) as caught:
        store.get(ref)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), LookupError)
    assert "freed" in repr(ref)


def test_pickle_of_a_reference_is_complete() -> None:
    ref = store.put({"a": np.arange(COUNT), "b": "text"})
    pickled = pickle.dumps(ref)
    del ref
    gc.collect()
    got = store.get(pickle.loads(pickled))
    assert (got["a"] == np.arange(COUNT)).all() and got["b"] == "text"
    got["a"][:] = 0


def test_wait_and_wrong_arguments() -> None:
    refs = [store.put(number) for number in range(3)]
    assert store.wait(refs, 2) == (refs[:2], refs[2:])
    assert store.get(refs) == [0, 1, 2]
    with pytest.raises(ValueError, match="twice"):
        store.wait([refs[0], refs[0]])
    with pytest.raises(ValueError, match="num_returns=4"):
        store.wait(refs, 4)
    with pytest.raises(TypeError, match="not int"):
        store.get(3)
    with pytest.raises(TypeError, match="takes what store.put.. returned, not builtins.int"):
        store.free([refs[0], 3])


def test_stats_are_a_table_in_notebooks() -> None:
    view = store.share(np.zeros(COUNT))
    stats = store.stats()
    assert stats["objects"] == 1 and stats["live"] >= view.nbytes
    assert "<table>" in stats._repr_html_() and "MB" in stats._repr_html_()


def test_stats_tell_who_holds_what() -> None:
    sender, receiver, third = (Link(lambda: None) for _ in range(3))
    blobs, _ = sent(sender, receiver)
    assert store.stats()["objects"] == 1
    assert store.stats()["held"] == {str(sender): 1}
    assert str(sender).startswith("connection ") and str(sender) != str(receiver)
    # Handed on, it is held here for the third one, but it is the sender's object.
    depot = store._depot.depot()
    own = depot._numbers.copy()
    depot._numbers.clear()
    _, note, _ = third.pack(blobs)
    assert store.stats()["held"] == {str(sender): 1, str(third): 1}
    assert store.stats()["objects"] == 1
    third.take_back(note)
    depot._numbers.update(own)
    blobs.clear()
    for link in (third, receiver, sender):
        link.close()


def test_returns_of_much_memory_are_told_at_once() -> None:
    urged: list[int] = []
    link = Link(lambda: urged.append(len(link.returned)))
    for _ in range(3):
        link.returned.notice(100 << 20)
    assert len(urged) == 1
    link.returned.notice(100 << 20)
    assert len(urged) == 1


def test_much_memory_that_is_let_go_is_given_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOL_STORE_KEEP", "8M")
    assert not store._depot.shutdown()
    array = store.share(np.ones(10 << 20))
    arena = store._depot.depot().arena
    assert arena.live >= 80 << 20
    with _mappings.books:  # as a finalizer that struck while the books are written
        other = store.get(store.put(np.ones(10 << 20)))
        del array
        assert arena.live >= 80 << 20
    store.stats()
    assert arena.live == 0 and arena.resident <= 8 << 20
    array = store.share(np.ones(10 << 20))
    assert arena.live >= 80 << 20
    child = os.fork()
    if not child:
        os._exit(0)
    assert ended(child) == 0  # and nobody has looked since
    del array, other
    assert arena.live == 0 and arena.resident <= 8 << 20
    held, over = threading.Event(), threading.Event()

    def keep_books() -> None:
        with _mappings.books:
            held.set()
            over.wait()

    array = store.share(np.ones(10 << 20))
    busy = threading.Thread(target=keep_books)
    busy.start()
    held.wait()
    del array  # waits for nobody
    assert arena.live >= 80 << 20
    over.set()
    busy.join()
    assert store.stats()["live"] == 0
    assert not store._depot.shutdown()


def test_interrupted_put_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    allocate = Arena.allocate

    def strike(self: Arena, nbytes: int) -> Any:
        signal.raise_signal(signal.SIGINT)
        return allocate(self, nbytes)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Arena, "allocate", strike)
        store._depot.depot().put(bytes(COUNT))
    assert not live()


def test_put_without_a_free_descriptor_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise OSError(errno.EMFILE, "no descriptor")

    depot = store._depot.depot()
    with monkeypatch.context() as patched:
        patched.setattr(store._depot.Depot, "_reader_of", fail)
        assert depot.place(bytearray(COUNT), "link") is None
        with pytest.raises(store.StoreFull, match="no descriptor") as caught:
            store.put(bytearray(2 << 20))
        assert isinstance(caught.value.__cause__, OSError)
        del caught
    assert not live() and not depot.ledger.things


def test_connection_that_is_closed_while_something_is_put_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link = Link(lambda: None)
    depot = store._depot.depot()
    others = []
    write = Arena.write

    def write_and_close(self: Arena, place: Any, data: memoryview) -> None:
        monkeypatch.undo()
        write(self, place, data)
        link.close()  # as another thread may
        others.append(depot.put(bytes(8 * COUNT)))

    monkeypatch.setattr(Arena, "write", write_and_close)
    _, note, _ = link.pack([bytearray(8 * COUNT)])
    assert others[0].start != note[0][0][2]
    link.take_back(note)
    others.clear()
    assert not live()


def test_what_is_let_go_in_the_last_moments_of_the_interpreter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sender, receiver = Link(lambda: None), Link(lambda: None)
    blobs, _ = sent(sender, receiver, nbytes=2 << 20)
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    with monkeypatch.context() as patched:
        patched.setattr(_returned, "os", None)
        patched.setattr(_links, "URGENT_NBYTES", None)
        blobs.clear()
    assert not seen and receiver.due
    first = store.get(store.put(np.ones(COUNT)))
    views = [store.get(store.put(first)), store.empty(COUNT)]
    assert len(_mappings.apart) == 2
    apart = _mappings.apart
    with monkeypatch.context() as patched:
        patched.setattr(_mappings, "apart", None)
        views.clear()
    assert not seen and not apart
    receiver.close()
    sender.close()


def test_finalizer_within_the_store_does_without_it() -> None:
    depot = store._depot.depot()
    ref = store.put(np.arange(COUNT))
    link = Link(lambda: None)
    _, note, _ = link.pack([memoryview(store.get(ref)).cast("B")])
    with depot._lock:  # as if the books were half written
        inner = store.put(np.ones(COUNT))
        filled = store.empty(COUNT)
        filled[:] = 2
        left, _, _ = link.pack([memoryview(filled).cast("B")])
        depot.release(link, [note[0][0][-1]])
        link.close()
        depot.sweep()
        assert len(left[0]) == filled.nbytes
        assert len(store.stats()["held"]) == 2  # as the books are: nothing is settled
    assert (store.get(inner) == 1).all()
    assert store.stats()["held"] == {"local": 1}  # that of the reference
    depot.ledger.check_invariants()


def test_what_was_let_go_is_not_returned_from_within_the_store() -> None:
    sender, receiver = Link(lambda: None), Link(lambda: None)
    blobs, note = sent(sender, receiver)
    blobs.clear()
    with store._depot.depot()._lock:  # as a finalizer that struck while the books are written
        assert receiver.pack([])[1][1] == ()
    assert receiver.pack([])[1][1] == (note[0][0][-1],)
    receiver.close()
    sender.close()


def sent(sender: Link, receiver: Link, nbytes: int = 8 * COUNT) -> tuple[list[Any], Any]:
    """Return what arrives as in another process: this one would know its own object."""
    blobs, note, fds = sender.pack([bytearray(nbytes)])
    numbers, depot = store._depot.depot()._numbers.copy(), store._depot.depot()
    depot._numbers.clear()
    receiver.unpack(blobs, note, [os.dup(fd) for fd in fds])
    depot._numbers.update(numbers)
    return blobs, note


def test_child_has_no_say_in_what_its_parent_has_received() -> None:
    sender, receiver = Link(lambda: None), Link(lambda: None)
    blobs, note = sent(sender, receiver)
    blobs.clear()
    assert receiver.due

    def be_silent() -> None:
        data = memoryview(np.arange(COUNT)).cast("B")
        assert not receiver.due and receiver.pack([data]) == ([data], ((), (), (), ()), [])

    run_in_fork(be_silent)
    assert receiver.pack([])[1][1:3] == ((note[0][0][-1],), (note[0][0][1],))
    receiver.close()
    sender.close()


class Stuck:
    """A lock that is held by a thread which is not there any more."""

    held_here = False

    def __enter__(self) -> None:
        os._exit(1)

    def __exit__(self, *error: object) -> None: ...


def test_child_lets_go_of_what_came_whoever_held_the_locks_at_the_fork() -> None:
    sender, receiver = Link(lambda: None), Link(lambda: None)
    blobs, _ = sent(sender, receiver)

    def let_go() -> None:
        _readers._lock = _mappings.books = Stuck()  # type: ignore[assignment]  # as it is used here
        receiver.close()

    run_in_fork(let_go)
    blobs.clear()
    receiver.close()
    sender.close()


def test_what_a_child_inherited_is_returned_when_it_has_ended() -> None:
    sender, receiver = Link(lambda: None), Link(lambda: None)
    blobs, note = sent(sender, receiver)
    reading, writing = os.pipe()

    def live_on() -> None:
        os.close(writing)
        os.read(reading, 1)

    child = fork(live_on)
    os.close(reading)
    blobs.clear()
    assert receiver.pack([])[1][1] == ()  # let go here, not there
    assert receiver.due
    os.close(writing)
    os.waitpid(child, 0)
    assert receiver.pack([])[1][1] == (note[0][0][-1],)
    assert not receiver.due
    receiver.close()
    sender.close()


def test_a_reference_is_opened_on_the_mappings_that_came_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Any] = []
    initialize = _mappings.Lease.__init__

    def counted(lease: Any, *args: Any) -> None:
        made.append(lease)
        initialize(lease, *args)

    ref = store.put(np.ones(100_000))
    monkeypatch.setattr(_mappings.Lease, "__init__", counted)
    encoded = dumps_to_worker([ref])
    assert not made  # to send it, nothing is mapped
    assert [buffer.nbytes for buffer in encoded.buffers] == [800_000]
    (arrived,) = loads(encoded.data, encoded.buffers)
    array = store.get(arrived)
    assert len(made) == 1
    array[0] = 2
    assert store.get(arrived)[0] == 1 and len(made) == 2
    made.clear()


def test_an_object_that_came_back_is_freed_with_what_came_with_it() -> None:
    before = live()
    ref = store.put(np.ones(100_000))
    encoded = dumps_to_worker([ref])
    loads(encoded.data, encoded.buffers)
    del encoded
    store.free(ref)
    assert live() == before


@pytest.mark.parametrize("copy", ["cow", "readonly", "copy"])
def test_an_object_that_is_freed_while_it_is_being_loaded_is_loaded(
    copy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = store.put(np.ones(COUNT))

    def freed_by_another_thread(found: Any) -> Any:
        blobs = blobs_of(found)
        store.free(found)
        return blobs

    blobs_of = _refs.blobs_of
    monkeypatch.setattr(_refs, "blobs_of", freed_by_another_thread)
    assert (store.get(ref, copy=copy) == 1).all()
    monkeypatch.undo()
    with pytest.raises(store.ObjectFreed):
        store.get(ref)


@pytest.mark.parametrize(
    "obj",
    [(ctypes.c_double * 3)(), ctypes.c_double * 3, ctypes.POINTER(ctypes.c_double)],
    ids=["array", "class of arrays", "class of pointers"],
)
def test_classes_of_ctypes_that_have_no_name_are_refused_when_they_are_put(obj: Any) -> None:
    with pytest.raises(pickle.PicklingError, match="c_double"):
        store.put(obj)
    assert store.get(store.put(ctypes.c_double(2))).value == 2
