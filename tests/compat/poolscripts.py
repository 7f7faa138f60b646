"""Run programs as users do, as processes of their own, and see that they leave nothing behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[2]
HELPERS = Path(__file__).parent
# A program that needs longer hangs: it is made to dump its stacks, and the test fails.
TIME_LIMIT = 120.0
# How long orphans may take to notice that their parent is gone; only a failing test waits so long.
END_LIMIT = 30.0
PR_SET_CHILD_SUBREAPER = 36
# Makes the terminal on standard input the controlling one, so that its keys send signals.
ON_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


class Outcome:
    """What a program did: how it ended, and what it wrote."""

    def __init__(self, returncode: int, out: str, err: str) -> None:
        self.returncode = returncode
        self.out = out
        self.err = err

    def __repr__(self) -> str:
        return f"exit {self.returncode}\n--- out\n{self.out}\n--- err\n{self.err}"

    def succeeded(self) -> str:
        """Check that the program ended well and wrote no error; return what it printed."""
        assert self.returncode == 0, self
        assert self.err == "", self
        return self.out


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """Give a program this checkout, and nothing of the test run but that."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    path = os.pathsep.join([str(ROOT), str(HELPERS)])
    return kept | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"} | (extra or {})


@contextlib.contextmanager
def orphans_come_here() -> Iterator[None]:
    """Make this process the parent of whatever a program leaves, and see that it ends.

    Without this, init would adopt what is left, and no test could find it. The kernel re-parents
    before the program's own end can be seen, so nothing is missed.
    """
    before = set(psutil.Process().children(recursive=True))
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
        left = set(psutil.Process().children(recursive=True)) - before
        described = {process: describe(process) for process in left}
        _, alive = psutil.wait_procs(left, timeout=END_LIMIT)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=END_LIMIT)
        assert not alive, f"left behind: {[described[process] for process in alive]}"
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def describe(process: psutil.Process) -> str:
    """Say what a process is, for the message of a failing test."""
    try:
        return f"{process.pid} {process.status()} {' '.join(process.cmdline())[:150]}"
    except psutil.Error:
        return f"{process.pid} gone"


def python(*arguments: str) -> list[str]:
    """Return a command line that runs this interpreter and dumps all stacks on SIGABRT."""
    return [sys.executable, "-X", "faulthandler", *arguments]


def command_for(source: str, how: str, folder: Path) -> tuple[list[str], str | None]:
    """Return the command line and the standard input that run a source in one of four ways."""
    if how == "-c":
        return python("-c", source), None
    if how == "stdin":
        return python("-"), source
    path = folder / "program.py"
    path.write_text(source)
    return python(*(["-m", "program"] if how == "-m" else [str(path)])), None


def run_program(
    source: str,
    folder: Path,
    how: str = "file",
    arguments: Sequence[str] = (),
    env: dict[str, str] | None = None,
    limit: float = TIME_LIMIT,
    as_before: bool = True,
) -> Outcome:
    """Run a program to its end in a session of its own.

    Parameters
    ----------
    source : str
        The program; common indentation is removed.
    folder : Path
        Where it runs, and where its file is written.
    how : {"file", "stdin", "-c", "-m"}
        How the interpreter gets it.
    as_before : bool
        Whether the standard library forks by default, with Python 3.14 and later ones too.
    """
    source = textwrap.dedent(source)
    if as_before:
        from forking import forking_as_before  # programs import this module, too, without that one

        source = forking_as_before(source)
    command, text = command_for(source, how, folder)
    return run_command([*command, *arguments], folder, env, text, limit)


def run_with(library: str, method: str, body: str, folder: Path) -> str:
    """Run a program that has `Pool`, and see that it ends well; return what it printed.

    Parameters
    ----------
    library : str
        Imported as `multiprocessing`.
    method : str
        Start method that is set; if empty, none is.
    body : str
        The program; common indentation is removed.
    folder : Path
        Where it runs, and finds its modules.
    """
    head = f"""
import os, sys
import {library} as multiprocessing
if {method!r}:
    multiprocessing.set_start_method({method!r})
Pool = multiprocessing.Pool
"""
    return run_program(head + textwrap.dedent(body), folder).succeeded()


def run_as_fork(library: str, folder: Path, **modules: str) -> str:
    """Run a program, ``main``, beside its other modules; return what it prints.

    Under the standard's ``fork``, or with our pool as it is where nobody chose a start method.
    """
    main = modules.pop("main")
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    return run_with(library, "fork" if library == "multiprocessing" else "", main, folder)


def run_command(
    command: list[str],
    folder: Path,
    env: dict[str, str] | None = None,
    text: str | None = None,
    limit: float = TIME_LIMIT,
) -> Outcome:
    """Run a command to its end in a session of its own, with a text as its standard input."""
    with orphans_come_here():
        process = start(command, folder, env)
        return finish(process, text, limit)


def start(
    command: list[str], folder: Path, env: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start a command in a session of its own, with pipes to all three streams."""
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment(env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(
    process: subprocess.Popen[str], text: str | None = None, limit: float = TIME_LIMIT
) -> Outcome:
    """Wait for the end of a program and of all that holds its streams; dump stacks if it hangs."""
    try:
        out, err = process.communicate(text, timeout=limit)
    except subprocess.TimeoutExpired:
        out, err = dump_stacks(process)
        raise AssertionError(f"hangs\n{Outcome(-1, out, err)}") from None
    return Outcome(process.returncode, out, err)


def dump_stacks(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Make every process of a session write its stacks and end; return what was written."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGABRT)
    try:
        return process.communicate(timeout=END_LIMIT)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        return process.communicate(timeout=END_LIMIT)


def read_line(process: subprocess.Popen[str], limit: float = TIME_LIMIT) -> str:
    """Read one line that a running program prints."""
    assert process.stdout is not None
    descriptor, line = process.stdout.fileno(), b""
    # Byte by byte: what a buffer took from the pipe, `select` would not see any more.
    while not line.endswith(b"\n"):
        if not select.select([descriptor], [], [], limit)[0]:
            raise AssertionError(f"prints nothing after {line!r}\n{dump_stacks(process)}")
        byte = os.read(descriptor, 1)
        if not byte:
            raise AssertionError(f"ended early after {line!r}\n{finish(process)}")
        line += byte
    return line.decode().rstrip("\n")


def mapped_files(pid: int) -> list[str]:
    """Return the files that a process maps or has open."""
    folder = Path(f"/proc/{pid}")
    lines = (folder / "maps").read_text().splitlines()
    opened = []
    for entry in (folder / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one by which the folder is read
            opened.append(os.readlink(entry))
    return [*(line.split(maxsplit=5)[5] for line in lines if line.count("/")), *opened]


class Terminal:
    """A program on a pseudo-terminal of its own, as in a user's shell."""

    def __init__(
        self, arguments: list[str], folder: Path, env: dict[str, str] | None = None
    ) -> None:
        self.master, slave = os.openpty()
        self.text = ""
        try:
            self.process = subprocess.Popen(
                python("-c", ON_TERMINAL, "-X", "faulthandler", *arguments),
                cwd=folder,
                # Colours and line editing would garble what is compared.
                env=environment({"TERM": "dumb", "PYTHON_BASIC_REPL": "1"} | (env or {})),
                stdin=slave,
                stdout=slave,
                stderr=slave,
                start_new_session=True,
            )
        finally:
            os.close(slave)

    def type(self, text: str) -> None:
        """Send keys."""
        os.write(self.master, text.encode())

    def expect(self, wanted: str, limit: float = TIME_LIMIT) -> str:
        """Wait until the program has written this; return what came with it, and forget it."""
        deadline = time.monotonic() + limit
        while wanted not in self.text:
            ready, _, _ = select.select([self.master], [], [], deadline - time.monotonic())
            if not ready:
                self.fail(f"waits in vain for {wanted!r}")
            if not self.read():
                raise AssertionError(f"ended before {wanted!r}; wrote {self.text!r}")
        before, self.text = self.text.split(wanted, 1)
        return before

    def read(self) -> bool:
        """Add what the program has written; tell whether the terminal is still open."""
        try:
            data = os.read(self.master, 65536)
        except OSError:
            # What Linux answers once no process has the other side open.
            return False
        self.text += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)

    def fail(self, why: str) -> None:
        """Dump the stacks of the whole session and fail."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGABRT)
        while select.select([self.master], [], [], 2)[0] and self.read():
            pass
        self.process.kill()
        raise AssertionError(f"{why}; wrote\n{self.text}")

    def end(self, limit: float = TIME_LIMIT) -> int:
        """Read to the end and return the exit status."""
        deadline = time.monotonic() + limit
        while select.select([self.master], [], [], max(0, deadline - time.monotonic()))[0]:
            if not self.read():
                return self.process.wait(END_LIMIT)
        self.fail("does not end")
        return -1

    def close(self) -> None:
        """Kill the program if it runs and give the terminal back."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)


@contextlib.contextmanager
def on_terminal(
    arguments: list[str], folder: Path, env: dict[str, str] | None = None
) -> Iterator[Terminal]:
    """Run a program on a pseudo-terminal; after the block nothing of it may be left."""
    with orphans_come_here():
        terminal = Terminal(arguments, folder, env)
        try:
            yield terminal
        finally:
            terminal.close()
