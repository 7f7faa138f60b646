"""A parent and a worker in two real interpreters, joined by nothing but pickles.

`run_main` runs a script as the main module of a new interpreter; the script makes a `Worker`
and calls functions in it. What a pool adds to that (sockets, scheduling) is not here.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import textwrap
import traceback
from pathlib import Path
from typing import Any, BinaryIO

ROOT = Path(__file__).parents[2]
# A program that needs longer hangs.
TIME_LIMIT = 120.0

PREAMBLE = """
from picklingpeer import Worker
from pool._pickling import *
w = Worker()
"""


def run_main(script: str, folder: Path, preamble: str = PREAMBLE) -> str:
    """Run `script` as a file, without a main guard, and return what it prints."""
    file = folder / "program.py"
    file.write_text(preamble + textwrap.dedent(script), encoding="utf-8")
    return run([str(file)])


def run(arguments: list[str], **options: Any) -> str:
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        **options,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Worker:
    """Call functions in another interpreter, one after the other."""

    def __init__(self) -> None:
        environment = {**os.environ, "PICKLINGPEER_PATH": json.dumps(sys.path)}
        self._process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )

    def __call__(self, func: Any, *args: Any) -> Any:
        """Send function and arguments as a pool does: each in its own message."""
        from pool._pickling import dumps_function, dumps_to_worker, loads

        return loads(*self.raw(dumps_function(func).encoded, dumps_to_worker(args)))

    def raw(self, *messages: Any) -> tuple[Any, list[Any]]:
        """Send pickled function and arguments; return the pickled outcome."""
        assert self._process.stdin is not None and self._process.stdout is not None
        send(self._process.stdin, [portable(message) for message in messages])
        ok, outcome = receive(self._process.stdout)
        if not ok:
            raise RuntimeError(outcome)
        data, buffers = outcome
        return data, [bytearray(buffer) for buffer in buffers]

    def raises(self, func: Any, *args: Any) -> BaseException:
        """Return the exception that a call raises, as it arrives."""
        error = self(_catch, func, args)
        assert isinstance(error, BaseException), error
        return error

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Sent:
    """An exception that unpickles as the exception it was made of."""

    def __init__(self, error: BaseException) -> None:
        from pool._pickling import dumps_exception

        self.data = portable(dumps_exception(error))

    def __reduce__(self) -> Any:
        from pool._pickling import loads

        return loads, self.data


def _catch(func: Any, args: tuple[Any, ...]) -> Any:
    try:
        return func(*args)
    except BaseException as error:
        return _Sent(error)


def portable(message: Any) -> tuple[bytes, list[bytes]]:
    return bytes(message.data), [bytes(buffer) for buffer in message.buffers]


def send(file: BinaryIO, what: Any) -> None:
    data = pickle.dumps(what)
    file.write(len(data).to_bytes(8, "little") + data)
    file.flush()


def receive(file: BinaryIO) -> Any:
    header = file.read(8)
    if not header:
        raise EOFError("the other end is gone")
    return pickle.loads(file.read(int.from_bytes(header, "little")))


def serve() -> None:
    from pool._pickling import dumps_to_parent, install_main, loads

    sys.path[:] = json.loads(os.environ["PICKLINGPEER_PATH"])
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what tasks print is no message
    install_main(b"")
    while True:
        try:
            messages = receive(source)
        except EOFError:
            return
        try:
            func, args = [
                loads(data, [bytearray(buffer) for buffer in buffers]) for data, buffers in messages
            ]
            send(target, (True, portable(dumps_to_parent(func(*args)))))
        except BaseException:
            send(target, (False, traceback.format_exc()))


if __name__ == "__main__":
    # Under its own name, so that what is imported from here is the same on both sides.
    import picklingpeer

    picklingpeer.serve()
