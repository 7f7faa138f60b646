"""Ends of programs: quiet with views alive, and nothing left after a kill of everything."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from poolscripts import mapped_files

from store import _forks
from store._settings import MODES

ROOT = Path(__file__).parents[2]

ALIVE = """
import sys
import numpy as np
import store
from pool import Pool

def double(array):
    kept.append(array)
    return array * 2

kept = []
pool = Pool(2)
results = pool.map(double, [np.ones(50_000)] * 4, 1)
refs = [store.put(result) for result in results]
view = store.get(refs[0])[10:]
canvas = store.empty(50_000)
canvas[:] = 1
disk = [store.put(np.ones(500_000)) for _ in range(8)]
print("ready", flush=True)
"""

#: Names of modules and their attributes go in any order as the interpreter ends.
ENDINGS = {
    "falls off the end": "",
    "keeps cycles": "me = [view, results]; me.append(me); del view, results",
    "closes the pool": "pool.close(); pool.join()",
    "raises": "sys.exit(0)",
    "forgets the modules": "sys.modules.clear()",
}


def environment(mode: str, folder: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "POOL_STORE": mode,
        "POOL_STORE_MAX": "10M",
        "POOL_STORE_SPILL": str(folder),
        "TMPDIR": str(folder),
    }


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ending", ENDINGS)
def test_end_with_views_alive_is_quiet(mode: str, ending: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "ignore", "-c", ALIVE + ENDINGS[ending]],
        capture_output=True,
        text=True,
        timeout=150,
        env=environment(mode, tmp_path),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ready\n", "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_left_when_everybody_is_killed(mode: str, tmp_path: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", ALIVE + "sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(mode, tmp_path),
    )
    assert program.stdout is not None and program.stdin is not None
    assert program.stdout.readline() == b"ready\n"
    everybody = [*psutil.Process(program.pid).children(recursive=True), psutil.Process(program.pid)]
    for process in everybody:
        process.send_signal(signal.SIGSTOP)
    # Other programs of this machine may come and go in /dev/shm; ours has nothing there.
    files = [file for process in everybody for file in mapped_files(process.pid)]
    for process in everybody:
        process.kill()
    program.wait()
    _, alive = psutil.wait_procs(everybody, timeout=30)
    program.stdin.close()
    program.stdout.close()
    assert not alive
    assert any(file.endswith(" (deleted)") for file in files)  # it has memory, without a name
    assert not [file for file in files if file.startswith("/dev/shm/")]
    assert not list(tmp_path.iterdir())


ORPHAN = """
import os
import signal
import numpy as np
import store

ref = store.put(np.full(500_000, 3.0))
view = store.get(store.put(np.full(500_000, 4.0)))
shared = store.share(np.full(500_000, 5.0))
if os.fork():
    print("ready", flush=True)
    signal.pause()
os.read(0, 1)
store.put(np.zeros(3_000_000))
sums = [array.sum() for array in (store.get(ref), view, shared, store.get(ref))]
print(sums == [1.5e6, 2e6, 2.5e6, 1.5e6], flush=True)
"""


@pytest.mark.parametrize("mode", MODES)
def test_what_a_child_inherited_outlives_the_owner(mode: str, tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", ORPHAN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(mode, tmp_path),
    )
    assert owner.stdout is not None and owner.stdin is not None
    with owner.stdin, owner.stdout:
        assert owner.stdout.readline() == b"ready\n"
        owner.kill()
        owner.wait()
        owner.stdin.write(b"x")
        owner.stdin.flush()
        assert owner.stdout.read() == b"True\n"


def test_a_child_that_nobody_can_watch_is_taken_for_alive() -> None:
    assert not _forks.Pin(-1, 1).is_over()
