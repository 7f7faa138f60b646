"""Large tables that a program fills before it makes a pool: forked workers have them, unsent."""

from __future__ import annotations

from pathlib import Path

import pytest
from poolscripts import run_program, run_with

#: Tables whose last item tells in the program that it is pickled.
HEAD = """
import collections, os, sys

class Told:
    pickled = 0
    def __init__(self, text):
        self.text = text
    def __hash__(self):
        return 5
    def __reduce__(self):
        Told.pickled += 1
        return Told, (self.text,)

MANY = 120_000
"""

MAKERS = {
    "list": "[*range(MANY), Told('last')]",
    "tuple": "(*range(MANY), Told('last'))",
    "set": "{*range(MANY), Told('last')}",
    "frozenset": "frozenset([*range(MANY), Told('last')])",
    "dict": "{**{n: n for n in range(MANY)}, MANY: Told('last')}",
    "OrderedDict": "collections.OrderedDict({**dict.fromkeys(range(MANY)), MANY: Told('last')})",
    "defaultdict": "collections.defaultdict(list, {**dict.fromkeys(range(MANY)), MANY: Told('')})",
    "deque": "collections.deque([*range(MANY), Told('last')])",
}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("method", ["", "fork"])
def test_they_are_not_pickled(kind: str, method: str, tmp_path: Path) -> None:
    program = f"""{HEAD}
table = {MAKERS[kind]}

def look(n):
    return type(table).__name__, len(table), sum(type(item) is Told for item in values())

def values():
    return table.values() if hasattr(table, "values") else table

if __name__ == "__main__":
    with Pool(2) as p:
        print(set(p.map(look, range(8))), p.apply(look, (0,)), set(p.imap(look, range(4))))
    print(Told.pickled)
"""
    seen = (kind, 120_001, 1)
    assert run_with("pool", method, program, tmp_path) == f"{ {seen} } {seen} { {seen} }\n0\n"


def test_other_objects_that_hold_them_are_about_the_same_ones(tmp_path: Path) -> None:
    program = f"""{HEAD}
table = {MAKERS["dict"]}
counts = {MAKERS["defaultdict"]}
both = [table, counts]

class Index:
    def __init__(self):
        self.table = table

index = Index()

def same(n, known=table, others=[counts]):
    held = index.table is table, known is table, both[0] is table
    return *held, both[1] is counts, others[0] is counts

with Pool(2) as p:
    print(set(p.map(same, range(6))))
print(Told.pickled)
"""
    done = run_with("pool", "", program, tmp_path)
    assert done == "{(True, True, True, True, True)}\n0\n"


def test_items_keep_their_classes(tmp_path: Path) -> None:
    program = """
class Point:
    def __init__(self, x):
        self.x = x

points = [Point(n) for n in range(110_000)]

def pick(n):
    return points[n]

with Pool(2) as p:
    found = p.map(pick, range(5))
print([type(point) is Point for point in found], [point.x for point in found])
print(p is not None and [points[0].x, len(points)])
"""
    expected = "[True, True, True, True, True] [0, 1, 2, 3, 4]\n[0, 110000]\n"
    for library in "pool", "multiprocessing":
        method = "fork" if library == "multiprocessing" else ""
        assert run_with(library, method, program, tmp_path) == expected


CHANGED = """
table = list(range(150_000))

def look(n):
    return table[n] if n < len(table) else None, len(table)

with Pool(2) as p:
    {change}
    print(set(p.map(look, [7] * 8)), set(p.map(look, [150_000] * 8)))
"""


@pytest.mark.parametrize("library", ["pool", "multiprocessing"])
@pytest.mark.parametrize(
    "change", ["table[7] = 'new'", "table.append('new')", "del table[5:]", "table.clear()"]
)
def test_changes_since_are_seen_as_by_forks(library: str, change: str, tmp_path: Path) -> None:
    method = "fork" if library == "multiprocessing" else ""
    done = run_with(library, method, CHANGED.format(change=change), tmp_path)
    assert done == "{(7, 150000)} {(None, 150000)}\n"


def test_it_stays_one_object_after_changes(tmp_path: Path) -> None:
    program = """
table = alias = {n: n for n in range(120_000)}

class Index:
    all = table

def look(n):
    return table is alias is Index.all, len(Index.all)

def look_again(n):
    return table is alias is Index.all, len(table)

with Pool(2) as p:
    table["new"] = 1
    print(set(p.map(look, range(8))))
    table.clear()
    print(set(p.map(look_again, range(8))))
"""
    done = run_with("pool", "", program, tmp_path)
    assert done == "{(True, 120000)}\n" * 2


@pytest.mark.parametrize("library", ["pool", "multiprocessing"])
def test_what_an_initializer_has_bound_stays(library: str, tmp_path: Path) -> None:
    program = """
table = {n: n for n in range(120_000)}

def begin():
    global table
    table = {"mine": 1}

def look(n):
    return len(table)

def look_again(n):
    return len(table)

with Pool(1, begin) as p:
    print(p.map(look, [1]))
    table["new"] = 1
    print(p.map(look_again, [1]))
"""
    method = "fork" if library == "multiprocessing" else ""
    assert run_with(library, method, program, tmp_path) == "[1]\n[1]\n"


def test_nobody_is_kept_waiting_at_a_pipe_of_the_program(tmp_path: Path) -> None:
    """A forked worker would keep it open, and a command that reads it would not end."""
    program = """
import subprocess
table = list(range(120_000))

def look(n):
    return table[n]

reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
with Pool(2) as p:
    found = p.map(look, [1, 2])
    reader.stdin.write(repr(found).encode())
    reader.stdin.close()
    print(reader.wait(20))
"""
    assert run_with("pool", "", program, tmp_path) == "[1, 2]0\n"


def test_another_one_of_its_name_is_sent(tmp_path: Path) -> None:
    program = CHANGED.format(change="look(7), globals().update(table=['other'] * 150_000)")
    done = run_with("pool", "", program, tmp_path)
    assert done == "{('other', 150000)} {(None, 150000)}\n"


def test_later_names_and_other_tables_are_sent(tmp_path: Path) -> None:
    program = CHANGED.format(change="later = list(range(200_000))")
    program += "    print(p.map(lambda n: (later[n], len(later), table[n]), [199, 200]))\n"
    done = run_with("pool", "", program, tmp_path)
    expected = "{(7, 150000)} {(None, 150000)}\n[(199, 200000, 199), (200, 200000, 200)]\n"
    assert done == expected


@pytest.mark.parametrize("library", ["pool", "multiprocessing"])
def test_the_next_pool_has_them_as_they_are_then(library: str, tmp_path: Path) -> None:
    method = "fork" if library == "multiprocessing" else ""
    program = """
table = {n: n for n in range(150_000)}

def look(n):
    return table.get(n), len(table)

for change in {}, {7: "new"}, {150_000: "more"}:
    table.update(change)
    with Pool(2) as p:
        print(set(p.map(look, [7] * 4)), set(p.map(look, [150_000] * 4)))
"""
    done = run_with(library, method, program, tmp_path)
    first, second = "{(7, 150000)} {(None, 150000)}", "{('new', 150000)} {(None, 150000)}"
    assert done == f"{first}\n{second}\n{{('new', 150001)}} {{('more', 150001)}}\n"


def test_two_pools_at_once_have_each_their_own(tmp_path: Path) -> None:
    program = f"""{HEAD}
table = {MAKERS["list"]}

def look(n):
    return table[n], len(table)

first = Pool(1)
print(first.map(look, [5]), Told.pickled)
table[5] = "new"
table.append("more")
second = Pool(1)
print(second.map(look, [5]), second.map(look, [MANY + 1]))
forked = multiprocessing.get_context("fork").Pool(1)
started = multiprocessing.get_context("forkserver").Pool(1)
Told.pickled = 0
print(forked.map(look, [5]), Told.pickled)
print(started.map(look, [5]), Told.pickled > 0)
print(first.map(look, [5]), second.map(look, [5]), forked.map(look, [5]))
"""
    done = run_with("pool", "", program, tmp_path)
    old, new = "[(5, 120001)]", "[('new', 120002)]"
    assert done == f"{old} 0\n{new} [('more', 120002)]\n{new} 0\n{new} True\n{old} {new} {new}\n"


THREADS = {
    "of Python": """
import threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
""",
    # OpenMP's, after whose work a fork is not safe.
    "of compiled code": """
import ctypes
libc, number = ctypes.CDLL(None), ctypes.c_ulong()
libc.pthread_create(ctypes.byref(number), None, libc.pause, None)
""",
}


@pytest.mark.parametrize("thread", THREADS.values(), ids=THREADS)
def test_beside_a_thread_they_are_sent(thread: str, tmp_path: Path) -> None:
    program = f"""{HEAD}
table = {MAKERS["list"]}

def look(n):
    return table[n], len(table)
{thread}
with Pool(2) as p:
    print(p.map(look, [5, 6]), Told.pickled > 0)
"""
    done = run_with("pool", "", program, tmp_path)
    assert done == "[(5, 120001), (6, 120001)] True\n"


# A program of more than half of the memory, where the kernel promises none that it lacks
# (vm.overcommit_memory=2).
REFUSED = """
import errno
real, refusals = os.fork, []

def fork():
    refusals.append(errno.ENOMEM)
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
"""


def test_where_the_kernel_refuses_the_fork_they_are_sent(tmp_path: Path) -> None:
    program = f"""{HEAD}{REFUSED}
table = {MAKERS["list"]}

def look(n):
    return table[n], len(table)

os.fork = fork
p = Pool(2)
os.fork = real
with p:
    print(len(refusals), p.map(look, [5, 6]), Told.pickled > 0)
"""
    done = run_with("pool", "", program, tmp_path)
    assert done == "1 [(5, 120001), (6, 120001)] True\n"


def test_where_the_kernel_refuses_a_fork_that_is_only_sooner_workers_come_later(
    tmp_path: Path,
) -> None:
    program = f"""
import numpy, os
{REFUSED}
os.fork = fork
p = Pool(2)
os.fork = real
with p:
    print(len(refusals), p.map(abs, [-5, 6]), p.stats()["start_method"])
"""
    done = run_with("pool", "", program, tmp_path)
    assert done == "1 [5, 6] forkserver\n"


@pytest.mark.parametrize("chosen", ["fork", "default"])
def test_where_the_kernel_refuses_a_fork_that_is_needed_the_error_says_so(
    chosen: str, tmp_path: Path
) -> None:
    method = "fork" if chosen == "fork" else ""
    program = f"""
import os
{REFUSED}
os.fork = fork

if __name__ == "__main__":
    try:
        Pool(2, next, ((n for n in range(5)),))  # what is running can only be inherited
    except OSError as error:
        print(error.errno == errno.ENOMEM, "too little memory" in str(error))
    os.fork = real
"""
    assert run_with("pool", method, program, tmp_path) == "True True\n"


USES = {
    "a lambda": ("", "p.map(lambda n: len(table), [1])"),
    "a function that is defined later": ("", "later()"),
    "one that is nested in another": (
        """
def nested():
    def look(n):
        return len(table)
    return p.map(look, [1])
""",
        "nested()",
    ),
    # As in a shell, where each input is compiled by itself.
    "a function of another text": (
        "exec('def look(n): return len(table)', globals())",
        "p.map(look, [1])",
    ),
    "a method": (
        """
class Reader:
    def read(self, n):
        return len(table)
""",
        "p.map(Reader().read, [1])",
    ),
}


@pytest.mark.parametrize(("user", "use"), USES.values(), ids=USES)
def test_who_uses_them(user: str, use: str, tmp_path: Path) -> None:
    later = """
def look(n):
    return len(table)

def later():
    return p.map(look, [1])
"""
    program = f"""{HEAD}
{user}
table = {MAKERS["list"]}
p = Pool(1)
{later if use == "later()" else ""}
print({use}, Told.pickled)
p.terminate()
p.join()
"""
    assert run_with("pool", "", program, tmp_path) == "[120001] 0\n"


def test_workers_that_are_forked_anew_have_them(tmp_path: Path) -> None:
    """Whoever has forked the workers is killed; new ones have what the program has by then."""
    program = f"""{HEAD}
import signal
table = {MAKERS["list"]}

def look(n):
    return table[n], len(table)

def kill(n):
    # `os.getppid` gives the program, as in workers of the standard's.
    with open("/proc/self/stat") as file:
        os.kill(int(file.read().rpartition(")")[2].split()[1]), signal.SIGKILL)
    signal.pause()  # this worker ends with it

p = Pool(2)
first = table
print(p.map(look, [5] * 4)[0])
try:
    p.apply(kill, (0,))
except multiprocessing.ProcessError:
    print("ended")
print(p.map(look, [6] * 4)[0], Told.pickled)
table = ["other"] * MANY
print(p.map(look, [7] * 4)[0])
del first
p.close()
p.join()
"""
    done = run_program(
        "import pool as multiprocessing\nPool = multiprocessing.Pool\n" + program, tmp_path
    ).succeeded()
    assert done == "(5, 120001)\nended\n(6, 120001) 0\n('other', 120000)\n"


def test_memory_of_a_table_that_is_gone_is_free(tmp_path: Path) -> None:
    program = """
import gc, weakref

class Item:
    pass

def fill():
    return [Item() for _ in range(110_000)]

table = fill()
watched = weakref.ref(table[5])

def look(n):
    return len(table)

with Pool(1) as p:
    print(p.map(look, [1]))
    table = [1]
    print(p.map(look, [1]))
    gc.collect()
    print(watched() is None)
table = fill()
watched = weakref.ref(table[5])
with Pool(1) as p:
    print(p.map(look, [1]))
p.join()
del table
gc.collect()
print(watched() is None)
"""
    done = run_with("pool", "", program, tmp_path)
    assert done == "[110000]\n[1]\nTrue\n[110000]\nTrue\n"
