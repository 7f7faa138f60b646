"""What workers write, by whatever means, is printed by the program, line by line."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rayprograms import run_program
from raytasks import pid_of_worker

import pool
from pool import Pool


@pool.remote
def write_in_many_ways() -> int:
    import ctypes
    import faulthandler

    print("python")
    os.write(1, b"system call\n")
    print("python again")
    ctypes.CDLL(None).printf(b"C library\n")
    subprocess.run(["sh", "-c", "echo child; echo child too >&2"], check=True)
    os.write(1, b"half ")
    print("line")
    faulthandler.dump_traceback()
    os.write(1, b"no end")
    return os.getpid()


def test_all_ways_of_writing_keep_their_order(ray: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pid = ray.get(write_in_many_ways.remote())
    seen = capsys.readouterr()
    prefix = f"(write_in_many_ways pid={pid}) "
    texts = ["python", "system call", "python again", "C library", "child", "half line", "no end"]
    assert seen.out.splitlines() == [prefix + text for text in texts]
    first, second, *_ = seen.err.splitlines()
    assert first == prefix + "child too"
    assert second.startswith(prefix + "Current thread")


@pool.remote
def raw(text: str) -> None:
    os.write(1, text.encode())


@pool.remote
class Author:
    def __init__(self) -> None:
        os.write(1, b"made\n")
        self.named = True

    def __repr__(self) -> str:
        return f"Author\n{self.named}"

    def raw(self) -> None:
        os.write(1, b"called\n")


def test_an_author_is_named_without_the_function_that_defines_it(
    ray: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    @ray.remote
    def local() -> Any:
        print("a line")
        return pool.get_runtime_context().get_task_name()

    @ray.remote
    class Local:
        def speak(self) -> None:
            print("another line")

    assert ray.get(local.remote()) == "local"
    actor = Local.remote()
    ray.get(actor.speak.remote())
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" pid=")[0] for line in lines] == ["(local", "(Local"]
    assert repr(actor).startswith("Actor(Local, ")


def test_each_line_names_its_author(ray: Any, capsys: pytest.CaptureFixture[str]) -> None:
    ray.get(raw.remote("1\n"))
    ray.get(raw.options(name="other").remote("2\n"))
    ray.get(raw.remote("3\n"))
    author = Author.remote()
    ray.get(author.raw.remote())
    lines = capsys.readouterr().out.splitlines()
    texts = [re.sub(r"^\((.*) pid=\d+\)", r"\1:", line) for line in lines]
    assert texts == ["raw: 1", "other: 2", "raw: 3", "Author: made", "Author True: called"]


def test_nothing_is_lost_with_a_worker_that_is_killed(
    ray: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    @ray.remote(max_retries=0)
    def last_words() -> None:
        os.write(1, b"many\n" * 20_000)  # more than a pipe holds
        print("python")
        os.write(1, b"the very last")
        os.kill(os.getpid(), signal.SIGKILL)

    @ray.remote
    class Frail:
        def crash(self) -> None:
            os.write(2, b"aborting\n")  # faulthandler may say more
            os.abort()

    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(last_words.remote())
    frail = Frail.remote()
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(frail.crash.remote())
    seen = capsys.readouterr()
    lines = seen.out.splitlines()
    assert len(lines) == 20_002
    assert lines[-2].endswith(") python") and lines[-1].endswith(") the very last")
    assert seen.err.splitlines()[0].endswith(") aborting")


def test_no_worker_waits_for_a_program_that_does_not_wait(ray: Any, tmp_path: Path) -> None:
    # A thread of an idle actor fills its pipes while the program knows of no work at all.
    os.mkfifo(tmp_path / "done")

    @ray.remote
    class Chatty:
        def talk(self, path: str) -> None:
            import threading

            def run() -> None:
                for _ in range(50):
                    os.write(1, b"x" * 9_999 + b"\n")
                    print("y" * 9_999)
                with open(path, "w") as fifo:
                    fifo.write("done")

            threading.Thread(target=run, daemon=True).start()

    chatty = Chatty.remote()
    ray.get(chatty.talk.remote(str(tmp_path / "done")))
    assert (tmp_path / "done").read_text() == "done"
    ray.shutdown()  # while this test's output is captured: it is long


def test_what_is_written_until_the_end_is_shown(
    start: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ray = start(num_cpus=1)
    os.mkfifo(tmp_path / "written")

    @ray.remote
    def hold(path: str) -> None:
        os.write(1, b"begun")
        with open(path, "w") as fifo:
            fifo.write("written")
        signal.pause()

    ref = hold.remote(str(tmp_path / "written"))
    assert (tmp_path / "written").read_text() == "written"
    ray.shutdown()
    del ref
    assert capsys.readouterr().out.splitlines()[-1].endswith(") begun")


def test_raw_output_can_be_turned_off(start: Any, capfd: pytest.CaptureFixture[str]) -> None:
    ray = start(num_cpus=1, log_to_driver=False)
    ray.get(write_in_many_ways.remote())
    seen = capfd.readouterr()
    assert (seen.out, seen.err) == ("", "")


def test_workers_of_a_pool_write_where_the_program_writes(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with Pool(1) as p:
        p.apply(os.write, (1, b"as it is\n"))
    assert capfd.readouterr().out == "as it is\n"


def test_a_program_without_standard_streams(ray: Any) -> None:
    saved = [os.dup(fd) for fd in (1, 2)]
    os.close(1)
    os.close(2)
    try:
        pool.shutdown()
        pool.init(num_cpus=1)
        assert pool.get(pid_of_worker.remote()) != os.getpid()
    finally:
        for fd, copy in enumerate(saved, 1):
            os.dup2(copy, fd)
            os.close(copy)


def test_what_is_written_before_an_ordinary_exit_is_shown(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "written")
    done = run_program(
        """
        import os, signal
        import pool as ray

        @ray.remote
        def hold():
            os.write(1, b"begun")
            with open("written", "w") as fifo:
                fifo.write("written")
            signal.pause()

        ref = hold.remote()
        open("written").read()
        """,
        tmp_path,
    )
    assert done.returncode == 0 and done.stdout.endswith(") begun\n"), done
