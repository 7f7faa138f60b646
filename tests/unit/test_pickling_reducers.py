"""What programs keep as attributes arrives as something that is as good."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from picklingpeer import run_main

from pool import CannotSend
from pool._pickling import dumps_to_worker


def test_locks_and_their_kin(tmp_path: Path) -> None:
    run_main(
        """
        import threading
        class Holder: pass
        h = Holder()
        h.lock, h.rlock = threading.Lock(), threading.RLock()
        h.lock.acquire(), h.rlock.acquire()
        h.first = threading.Condition(h.lock)
        h.second = threading.Condition(h.lock)
        h.own = threading.Condition()
        h.set, h.clear = threading.Event(), threading.Event()
        h.set.set()
        h.semaphore, h.bounded = threading.Semaphore(3), threading.BoundedSemaphore(4)
        h.bounded.acquire()
        h.barrier = threading.Barrier(2, timeout=9)
        h.local = threading.local()
        h.local.x = 1
        class Mine(threading.local): y = 2
        h.mine = Mine()
        def use(h):
            assert not h.lock.locked() and h.lock.acquire(False) is True
            h.lock.release()
            with h.rlock, h.rlock, h.own:
                h.own.notify_all()
            with h.first:
                assert h.lock.locked()
            assert h.second._lock is h.lock
            assert h.set.is_set() and not h.clear.is_set()
            assert h.semaphore._value == 3 and h.bounded._value == 4
            assert h.barrier.parties == 2 and h.barrier._timeout == 9
            assert not hasattr(h.local, "x") and h.mine.y == 2
            h.local.x = 5
            return h
        back = w(use, h)
        assert not back.lock.locked() and back.first._lock is back.lock
        assert h.lock.locked()
        lock = threading.Lock()
        def shared():
            with lock:
                return lock.locked()
        assert w(shared)
        """,
        tmp_path,
    )


def test_loggers_and_handlers(tmp_path: Path) -> None:
    run_main(
        f"""
        import logging, sys
        file = {str(tmp_path / "log.txt")!r}
        log = logging.getLogger("some.where")
        class Service:
            def __init__(self):
                self.log = log
                self.root = logging.getLogger()
                self.adapter = logging.LoggerAdapter(log, {{"k": 1}})
                self.stream = logging.StreamHandler(sys.stderr)
                self.file = logging.FileHandler(file)
        def use(s):
            assert s.log is logging.getLogger("some.where") and s.root is logging.getLogger()
            assert s.adapter.logger is s.log and s.stream.stream is sys.stderr
            s.file.emit(logging.LogRecord("n", 20, "p", 1, "from the worker", (), None))
            s.file.close()
            return log.name
        assert w(use, Service()) == "some.where"
        assert "from the worker" in open(file).read()
        """,
        tmp_path,
    )


def test_open_files(tmp_path: Path) -> None:
    run_main(
        f"""
        import os, sys, tempfile
        os.chdir({str(tmp_path)!r})
        def use(f):
            before = f.tell()
            rest = f.read()
            return before, rest, f.mode, os.path.abspath(f.name) == os.path.abspath(f.name)
        written = open("a.txt", "a", encoding="latin-1")
        written.write("h\\xe4llo\\n")
        def append(f):
            f.write("more")
            f.close()
            return f.encoding
        assert w(append, written) == "latin-1"       # what this process wrote comes first
        written.close()
        assert open("a.txt", encoding="latin-1").read() == "h\\xe4llo\\nmore"
        with open("a.txt", encoding="latin-1") as text:
            text.read(3)
            assert w(use, text)[:2] == (3, "lo\\nmore") and text.read(1) == "l"
        with open("a.txt", "rb") as raw:
            raw.seek(2)
            assert w(use, raw)[:3] == (2, b"llo\\nmore", "rb")
        with open("a.txt", "rb", buffering=0) as raw:
            raw.seek(1)
            assert w(use, raw)[1][1:] == b"llo\\nmore"
        with open("a.txt", "a") as end:
            w(lambda f: (f.write("!"), f.close()), end)
        for mode in "w", "x+", "r+b", "wb":
            name = "new " + mode
            if mode == "r+b":
                open(name, "w").close()
            with open(name, mode) as new:
                new.write("12" if "b" not in mode else b"12")
                try:
                    dumps_to_worker([new])
                except CannotSend as error:
                    assert "cannot pickle" in str(error) and "write over" in str(error), error
                else:
                    raise AssertionError(mode)
                # A fork that inherits the file now has nothing of it to write.
                assert os.path.getsize(name) == 2
        with open("raw.bin", "wb", buffering=0) as raw:
            try:
                dumps_to_worker(raw)
            except CannotSend as error:
                assert "write over" in str(error), error
            else:
                raise AssertionError(raw)
        closed = open("a.txt")
        closed.close()
        assert w(lambda f: f.closed, closed)
        for name in "stdin", "stdout", "stderr", "__stderr__":
            assert w(lambda f, n: f is getattr(sys, n), getattr(sys, name), name)
        with tempfile.NamedTemporaryFile("a+") as temporary:
            temporary.write("kept")
            assert w(lambda t: (t.seek(0), t.read(), t.close())[1], temporary) == "kept"
            assert os.path.exists(temporary.name)
        reading, writing = os.pipe()
        for nameless in tempfile.TemporaryFile(), os.fdopen(reading), os.fdopen(writing, "w"):
            try:
                dumps_to_worker(nameless)
            except CannotSend as error:
                assert "without a name" in str(error), error
            else:
                raise AssertionError(nameless)
            nameless.close()
        """,
        tmp_path,
    )


def test_a_stream_that_something_else_stands_in_for(tmp_path: Path) -> None:
    run_main(
        """
        import sys
        class Tee:
            def __init__(self, stream):
                self.stream, self.odd = stream, (i for i in ())
            def write(self, text): return self.stream.write(text)
            def flush(self): self.stream.flush()
        sys.stdout = Tee(sys.stdout)
        def say(out): return out is sys.stdout
        assert w(say, sys.stdout)
        """,
        tmp_path,
    )


def test_executors_and_queues(tmp_path: Path) -> None:
    run_main(
        """
        import queue
        from concurrent.futures import ThreadPoolExecutor
        from multiprocessing.pool import ThreadPool
        class Holder: pass
        h = Holder()
        h.executor = ThreadPoolExecutor(3, "mine")
        h.threads = ThreadPool(2)
        h.executor.submit(int).result()
        h.fifo, h.lifo, h.heap = queue.Queue(5), queue.LifoQueue(), queue.PriorityQueue()
        for q in h.fifo, h.lifo, h.heap:
            for n in 3, 1, 2:
                q.put(n)
        h.simple = queue.SimpleQueue()
        def use(h):
            with h.executor as e:
                assert e.submit(int, "3").result() == 3 and e._max_workers == 3
            assert h.threads.map(int, "12") == [1, 2]
            h.threads.terminate()
            got = [[q.get() for _ in range(3)] for q in (h.fifo, h.lifo, h.heap)]
            for _ in range(3):
                h.fifo.task_done()
            h.fifo.join()
            h.simple.put(1)
            return got, h.fifo.maxsize, h.simple.get()
        assert w(use, h) == ([[3, 1, 2], [2, 1, 3], [1, 2, 3]], 5, 1)
        assert h.fifo.qsize() == 3
        h.executor.shutdown(), h.threads.terminate()
        h.simple.put(1)
        try:
            dumps_to_worker(h.simple)
        except CannotSend as error:
            assert "not empty" in str(error)
        else:
            raise AssertionError
        """,
        tmp_path,
    )


def test_thread_locals_that_take_arguments(tmp_path: Path) -> None:
    run_main(
        """
        import threading
        class Style(threading.local):
            __slots__ = ("slot",)
            def __init__(self, name, *, size=1):
                self.name, self.size, self.made = name, size, []
        class Holder: pass
        h = Holder()
        h.both, h.one, h.bare = Style("a", size=2), Style("b"), threading.local()
        h.one.slot = {"name": "x"}
        h.both.made.append(1)
        def look(h):
            return [(s.name, s.size, s.made) for s in (h.both, h.one)]
        def in_thread(h):
            found = []
            thread = threading.Thread(target=lambda: found.extend(look(h)))
            thread.start()
            thread.join()
            return found
        for work in (look, in_thread):
            assert w(work, h) == [("a", 2, []), ("b", 1, [])]
        """,
        tmp_path,
    )


def test_thread_locals_that_were_set_up_after_they_were_made(tmp_path: Path) -> None:
    """As peewee has one for its connection: half of it would be worse than nothing."""
    run_main(
        """
        import sqlite3, threading
        class State(threading.local):
            def __init__(self):
                self.closed, self.conn = True, None
        class Made(threading.local):
            def __init__(self):
                self.conn, self.count = sqlite3.connect(":memory:"), 0
        state, made, bare = State(), Made(), threading.local()
        state.closed, state.conn = False, sqlite3.connect(":memory:")
        bare.conn, bare.count, made.count = state.conn, 3, 5
        def look():
            return state.closed, state.conn, made.count, hasattr(bare, "conn"), bare.count
        assert w(look) == (True, None, 5, False, 3)
        """,
        tmp_path,
    )


def test_weak_references(tmp_path: Path) -> None:
    run_main(
        """
        import weakref
        class Node:
            def __init__(self, parent=None):
                self.parent = None if parent is None else weakref.ref(parent)
                self.children = [] if parent else [Node(self)]
        root = Node()
        assert w(lambda r: r.children[0].parent() is r, root)
        root.by_name = weakref.WeakValueDictionary(me=root)
        root.by_node = weakref.WeakKeyDictionary({root: 1})
        root.all = weakref.WeakSet([root])
        def look(r): return r.by_name["me"] is r, r.by_node[r], list(r.all) == [r]
        assert w(look, root) == (True, 1, True)
        dead = weakref.ref(Node())
        assert w(lambda r: r(), dead) is None
        """,
        tmp_path,
    )


def test_what_multiprocessing_has_reducers_for(tmp_path: Path) -> None:
    run_main(
        """
        import copyreg, multiprocessing.reduction as reduction
        class Tensor:
            def __init__(self, n): self.n, self.odd = n, (i for i in ())
        def reduce_tensor(t): return Tensor, (t.n * 2,)
        reduction.ForkingPickler.register(Tensor, reduce_tensor)
        assert w(lambda t: t.n, Tensor(4)) == 8
        class Other:
            def __init__(self, n): self.n = n
        copyreg.pickle(Other, lambda o: (Other, (o.n + 1,)))
        assert w(lambda o: o.n, Other(4)) == 5
        """,
        tmp_path,
    )


def test_references_of_ray_itself_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # A worker that asked for what it stands for would start a Ray of its own, and wait for ever.
    kind = type("ObjectRef", (), {"__module__": "ray"})
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    monkeypatch.setattr(sys.modules["ray"], "ObjectRef", kind, raising=False)
    with pytest.raises(CannotSend, match="not connected to Ray; give them what `ray.get` returns"):
        dumps_to_worker([kind()])
