"""The runtime where descriptors are scarce."""

from __future__ import annotations

from pathlib import Path

import pytest
from rayprograms import run_program

HEAD = """
import os, resource, sys
import pool as ray

def all_descriptors():
    taken = []
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return taken
"""

LIMITED = """
@ray.remote
class Speaker:
    def speak(self):
        print("heard")
        os.write(1, b"heard too\\n")
        return 1

ray.init(num_cpus=1)
first = Speaker.remote()
ray.get(first.speak.remote())
taken = len(os.listdir("/proc/self/fd"))
resource.setrlimit(resource.RLIMIT_NOFILE, (taken + 4, resource.getrlimit(7)[1]))
# There is a descriptor for the actor, and none for what it writes.
held = all_descriptors()
for fd in held[:2]:
    os.close(fd)
second = Speaker.remote()
got = ray.get([second.speak.remote() for _ in range(2)]), ray.get(first.speak.remote())
# In one piece: lines of workers come from another thread.
sys.stdout.write("got %s %s\\n" % got)
"""


def test_without_descriptors_for_its_output_an_actor_works(tmp_path: Path) -> None:
    done = run_program(HEAD + LIMITED, tmp_path)
    lines = [line.partition(") ")[2] or line for line in done.stdout.splitlines()]
    assert sorted(lines) == ["got [1, 1] 1", *["heard"] * 2, *["heard too"] * 2], done


LARGE = """
@ray.remote
class Maker:
    def make(self, nbytes):
        return bytes(nbytes)

    def make_some(self, nbytes):
        yield b"first"
        yield bytes(nbytes)
        yield b"third"

ray.init(num_cpus=1)
maker = Maker.remote()
ray.get(maker.make.remote(1))
from pool import exceptions  # there is no descriptor for it later
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(7)[1]))
held = all_descriptors()
refs = [maker.make.remote(n) for n in (1, NBYTES, 2)]
print(len(ray.get(refs[0])), len(ray.get(refs[2])))
try:
    ray.get(refs[1])
except OSError as error:
    print(error.cause.errno)
some = maker.make_some.options(num_returns="streaming").remote(NBYTES)
print(ray.get(next(some)))
try:
    ray.get(next(some))
except OSError as error:
    print(error.errno)
print(len(list(some)), ray.get(maker.make.remote(3)))
for fd in held:
    os.close(fd)
print(len(ray.get(maker.make.remote(NBYTES))))
"""


@pytest.mark.parametrize("nbytes", [200_000, 2_000_000])  # by a file; by reference
def test_without_a_descriptor_for_a_large_result_only_that_call_fails(
    tmp_path: Path, nbytes: int
) -> None:
    done = run_program(HEAD + LARGE.replace("NBYTES", str(nbytes)), tmp_path)
    streamed = "b'first'\n24\n0 b'\\x00\\x00\\x00'\n"
    assert done.stdout == f"1 2\n24\n{streamed}{nbytes}\n", done


KILLED = """
@ray.remote
class Counter:
    def count(self):
        return os.getpid()

ray.init(num_cpus=1)
mine = Counter.remote()
detached = Counter.options(name="counter", lifetime="detached").remote()
pid = ray.get(detached.count.remote())
ray.get(mine.count.remote())
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(7)[1]))
held = all_descriptors()
ray.kill(detached)
try:
    ray.get(detached.count.remote())
except ray.exceptions.ActorDiedError:
    for fd in held:
        os.close(fd)
    print("ended", ray.get(mine.count.remote()) > 0)
"""


def test_a_detached_actor_is_killed_without_a_descriptor_to_do_so(tmp_path: Path) -> None:
    done = run_program(HEAD + KILLED, tmp_path)
    assert done.stdout == "ended True\n", done


RECEIVING = """
class Sizes:
    def take(self):
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(7)[1]))
        self.held = all_descriptors()

    def give(self):
        for fd in self.held:
            os.close(fd)

    def size(self, data):
        return len(data)

class AsyncSizes(Sizes):
    async def size(self, data):
        return len(data)

ray.init(num_cpus=1)
actor = ray.remote(KIND).options(OPTIONS).remote()
ray.get(actor.take.remote())
refs = [actor.size.remote(bytes(n)) for n in (1, NBYTES, 2)]
print(ray.get(refs[0]), ray.get(refs[2]))
try:
    ray.get(refs[1])
except OSError as error:
    print(error.cause.errno)
ray.get(actor.give.remote())
print(ray.get(actor.size.remote(bytes(NBYTES))))
"""


@pytest.mark.parametrize("nbytes", [200_000, 2_000_000])  # by a file; by reference
@pytest.mark.parametrize("lifetime", ["", "name='sizes', lifetime='detached'"])
@pytest.mark.parametrize(("kind", "concurrency"), [("Sizes", 1), ("Sizes", 2), ("AsyncSizes", 5)])
def test_without_a_descriptor_for_its_arguments_only_that_call_fails(
    tmp_path: Path, kind: str, concurrency: int, lifetime: str, nbytes: int
) -> None:
    options = f"max_concurrency={concurrency}, {lifetime}" if concurrency > 1 else lifetime
    given = {"KIND": kind, "OPTIONS": options, "NBYTES": str(nbytes)}
    program = HEAD + RECEIVING
    for name, value in given.items():
        program = program.replace(name, value)
    done = run_program(program, tmp_path)
    assert done.stdout == f"1 2\n24\n{nbytes}\n", done
