"""Programs whose workers write into memory that they have in common with the program.

Each of these recipes relies on `fork`, by which `multiprocessing` starts workers where nobody
has chosen. The programs print what is in the memory afterwards.
"""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
from poolscripts import run_program

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.parametrize("library", ["multiprocessing", "pool"]),
    pytest.mark.skipif(sys.version_info >= (3, 14), reason="the standard no longer forks"),
]

HEAD = """
import mmap, os
import multiprocessing.shared_memory
import numpy as np
import {library} as multiprocessing

def anonymous():
    return np.frombuffer(mmap.mmap(-1, 40))

def raw():
    return np.frombuffer(multiprocessing.RawArray("d", 5))

def locked():
    return np.ctypeslib.as_array(multiprocessing.Array("d", 5).get_obj())

def in_file(mode="w+"):
    return np.memmap("memory", mode=mode, shape=5, dtype="d")

def in_unlinked_file():
    made = in_file()
    os.unlink("memory")
    return made

class Block:
    def __init__(self):
        self.block = multiprocessing.shared_memory.SharedMemory(create=True, size=40)
        self.array = np.ndarray(5, "d", buffer=self.block.buf)
        self.array[:] = 0

    def close(self):
        del self.array
        self.block.close()
        self.block.unlink()

def show(array):
    print(np.asarray(array).tolist())
"""

MADE_BY = ["anonymous", "raw", "locked", "in_file", "in_unlinked_file"]


def run(library: str, body: str, folder: Path, **names: str) -> str:
    program = HEAD.format(library=library) + textwrap.dedent(body).format(**names)
    return run_program(program, folder).succeeded()


@pytest.mark.parametrize("made", MADE_BY)
def test_a_global_that_tasks_write_to(library: str, made: str, tmp_path: Path) -> None:
    body = """
    array = {made}()

    def work(i):
        array[i] = i * i
        return type(array).__name__, array.flags.writeable

    if __name__ == "__main__":
        with multiprocessing.Pool(2) as p:
            kinds = set(p.map(work, range(3), 1))
            show(array)
            list(p.imap(work, range(4)))
            p.apply(work, (4,))
            show(array)
            array[:] = 7
            p.apply_async(work, (0,)).get()
            show(array)
        print(kinds == {{(type(array).__name__, True)}})
    """
    assert run(library, body, tmp_path, made=made).splitlines() == [
        "[0.0, 1.0, 4.0, 0.0, 0.0]",
        "[0.0, 1.0, 4.0, 9.0, 16.0]",
        "[0.0, 7.0, 7.0, 7.0, 7.0]",
        "True",
    ]


@pytest.mark.parametrize("made", MADE_BY)
def test_an_initializer_argument_that_tasks_write_to(
    library: str, made: str, tmp_path: Path
) -> None:
    body = """
    def take(given, parts):
        global array
        array = given
        parts["last"][0] = 3

    def work(i):
        array[i] = i * i

    if __name__ == "__main__":
        shared = {made}()
        with multiprocessing.Pool(2, take, (shared, {{"last": shared[4:]}})) as p:
            p.map(work, range(4), 1)
        show(shared)
    """
    assert run(library, body, tmp_path, made=made) == "[0.0, 1.0, 4.0, 9.0, 3.0]\n"


def test_a_block_of_shared_memory(library: str, tmp_path: Path) -> None:
    body = """
    block = Block()
    array = block.array
    every = array[::-2]

    def take(given):
        given[3] = 30

    def work(i):
        array[i] = every[0] = i
        return every.base is not None

    if __name__ == "__main__":
        with multiprocessing.Pool(2, take, (array,)) as p:
            p.map(work, [1], 1)
            show(array)
        del array, every
        block.close()
    """
    assert run(library, body, tmp_path) == "[0.0, 1.0, 0.0, 30.0, 1.0]\n"


def test_what_else_holds_the_memory(library: str, tmp_path: Path) -> None:
    """Attributes of objects and classes, a slice of another array, a masked array, a subclass."""
    body = """
    class Kind(np.ndarray):
        pass

    class Simulation:
        array = raw()

        def __init__(self):
            self.steps = 0

        def step(self, i):
            self.array[i] += i
            self.steps += 1
            return self.steps

    class Holder:
        def __init__(self):
            self.arrays = [raw()]

    holder = Holder()
    matrix = raw().reshape(5, 1)
    column = matrix.T[0, ::-1]
    masked = np.ma.MaskedArray(raw(), mask=[0, 1, 0, 0, 0], copy=False)
    kind = raw().view(Kind)
    frozen = raw()
    through = frozen[:]
    frozen.flags.writeable = False

    def work(i):
        holder.arrays[0][i] = column[i] = masked.data[i] = kind[i] = through[i] = i
        return frozen.flags.writeable, type(kind).__name__, masked.mask.tolist()

    def step(simulation):
        return simulation.step(2)

    if __name__ == "__main__":
        with multiprocessing.Pool(2) as p:
            print(p.map(work, range(5), 1)[0])
            for array in (holder.arrays[0], column, matrix[:, 0], masked.data, kind, frozen):
                show(array)
            # The object itself is a copy for each chunk.
            print(p.map(Simulation().step, range(3), 1), p.map(step, [Simulation()] * 2, 1))
            print(list(p.imap(step, [Simulation()])))
            show(Simulation.array)
    """
    ascending = "[0.0, 1.0, 2.0, 3.0, 4.0]"
    assert run(library, body, tmp_path).splitlines() == [
        "(False, 'Kind', [False, True, False, False, False])",
        ascending,
        ascending,
        "[4.0, 3.0, 2.0, 1.0, 0.0]",
        *[ascending] * 3,
        "[1, 1, 1] [1, 1]",
        "[1]",
        "[0.0, 1.0, 8.0, 0.0, 0.0]",
    ]


@pytest.mark.parametrize("made", [*MADE_BY, "lambda: blocks.pop().array"])
def test_arguments_are_copies(library: str, made: str, tmp_path: Path) -> None:
    """Also if the function has the memory, or inherits a lock that no pickle can carry."""
    body = """
    blocks = [Block()]
    kept = list(blocks)
    array = ({made})()
    lock = multiprocessing.Lock()

    def double(part):
        part *= 2
        return part.tolist()

    def count(part):
        array[4] = 9
        return double(part)

    def under_lock(part, times=1):
        with lock:
            return double(part * times)

    if __name__ == "__main__":
        array[:4] = range(4)
        parts = [array[:2], array[2:4]]
        with multiprocessing.Pool(2) as p:
            for function in (double, count, under_lock):
                print(p.map(function, parts), list(p.imap(function, parts)))
                print(p.apply(function, (array[1:3],)), p.starmap(function, zip(parts)))
            print(p.apply(under_lock, (array[1:3],), {{"times": 2}}))
        show(array)
        del array, parts
        kept[0].close()
    """
    both = "[[0.0, 2.0], [4.0, 6.0]]"
    assert run(library, body, tmp_path, made=made).splitlines() == [
        *[f"{both} {both}", f"[2.0, 4.0] {both}"] * 3,
        "[4.0, 8.0]",
        "[0.0, 1.0, 2.0, 3.0, 9.0]",
    ]


def test_arrays_of_a_process_alone_are_copies(library: str, tmp_path: Path) -> None:
    """Nothing of what a fork would not share is shared, and nothing is opened to be written to."""
    body = """
    in_file()[:] = range(5)
    reads = in_file("r")
    copies = in_file("c")
    copies[0] = 8
    arrays = [np.frombuffer(bytearray(40)), np.ndarray(5, buffer=memoryview(bytearray(40))), copies]

    def take(*given):
        for array in given:
            array[1] = 5

    def work(i):
        for array in arrays:
            array[i] = 4
        return reads.tolist(), copies.tolist()

    if __name__ == "__main__":
        with multiprocessing.Pool(1, take, arrays) as p:
            print(p.map(work, [4]))
        for array in (*arrays, reads, in_file("r")):
            show(array)
    """
    lines = run(library, body, tmp_path).splitlines()
    # A fork has the very objects that the initializer wrote to; here they are copies of its own.
    assert lines[0] in (
        "[([0.0, 1.0, 2.0, 3.0, 4.0], [8.0, 5.0, 2.0, 3.0, 4.0])]",
        "[([0.0, 1.0, 2.0, 3.0, 4.0], [8.0, 1.0, 2.0, 3.0, 4.0])]",
    )
    assert lines[1:] == [
        *["[0.0, 0.0, 0.0, 0.0, 0.0]"] * 2,
        "[8.0, 1.0, 2.0, 3.0, 4.0]",
        *["[0.0, 1.0, 2.0, 3.0, 4.0]"] * 2,
    ]


def test_results_are_copies(library: str, tmp_path: Path) -> None:
    body = """
    array = raw()

    def work(i):
        array[i] = 1
        return array

    if __name__ == "__main__":
        with multiprocessing.Pool(1) as p:
            got = p.map(work, range(2), 1)
        got[0][4] = 9
        show(array)
        show(got[0])
    """
    lines = ["[1.0, 1.0, 0.0, 0.0, 0.0]", "[1.0, 0.0, 0.0, 0.0, 9.0]"]
    assert run(library, body, tmp_path).splitlines() == lines


def test_workers_stay_and_globals_are_seen_as_they_are(library: str, tmp_path: Path) -> None:
    """One worker runs all calls that have the same memory, and keeps what they leave there."""
    body = """
    array = raw()
    seen = []

    def work(i):
        array[i] = 1
        seen.append(i)
        return os.getpid(), len(seen)

    if __name__ == "__main__":
        with multiprocessing.Pool(1) as p:
            (first, one), (second, two) = p.apply(work, (0,)), p.apply(work, (1,))
            print(first == second, one, two, p.map(work, [2, 3], 1)[-1][1])
        show(array)
    """
    assert run(library, body, tmp_path) == "True 1 2 4\n[1.0, 1.0, 1.0, 1.0, 0.0]\n"


def test_a_file_that_loses_its_name(library: str, tmp_path: Path) -> None:
    """What was sent by a name is not sent again by it when that leads elsewhere."""
    body = """
    array = in_file()

    def work(i):
        array[i] = 1

    if __name__ == "__main__":
        with multiprocessing.Pool(1) as p:
            p.map(work, [0])
            os.rename("memory", "moved")
            other = in_file()
            p.map(work, [1])
            p.apply(work, (2,))
        show(array)
        show(other)
    """
    lines = ["[1.0, 1.0, 1.0, 0.0, 0.0]", "[0.0, 0.0, 0.0, 0.0, 0.0]"]
    assert run(library, body, tmp_path).splitlines() == lines
