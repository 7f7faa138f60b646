"""Run notebooks in a real kernel: functions of cells, redefined ones, and the stop button."""

from __future__ import annotations

import json
import os
import re
import textwrap
from typing import TYPE_CHECKING

import pytest
from poolscripts import TIME_LIMIT, run_program

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytestmark = pytest.mark.watchdog(450)

DATACLASS = """
import dataclasses
@dataclasses.dataclass
class D:
    x: int
    def twice(self):
        return D(2 * self.x)
got = p.map(D.twice, [D(1), D(2)])
[type(d) is D for d in got], got
"""
SAME_NAME = """
class D:
    def __init__(self, x):
        self.x = x
    def twice(self):
        return D(3 * self.x)
[(type(d) is D, d.x) for d in p.map(D.twice, [D(1)])]
"""
KERNEL = """
    import sys
    from jupyter_client.kernelspec import KernelSpec

    class HereMixin:
        "Start this very interpreter, whatever kernels are installed."
        @property
        def kernel_spec(self):
            return KernelSpec(
                argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                display_name="here", language="python",
            )
"""
# Runs as a program of its own: a kernel brings threads, sockets and an event loop along.
DRIVER = (
    KERNEL
    + """
    import asyncio, json, threading
    import nbformat
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    class Manager(HereMixin, AsyncKernelManager):
        pass

    cells = json.loads(open("cells.json").read())
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    client = NotebookClient(
        notebook, timeout=180, allow_errors=True, kernel_manager_class=Manager, resources={}
    )

    async def watch():
        # Presses stop once a task says, by its file, that it runs.
        import os
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, lambda: open("began").read())
        await client.km.interrupt_kernel()

    async def run():
        watcher = asyncio.ensure_future(watch()) if "--stop" in sys.argv else None
        await client.async_execute()
        if watcher:
            await watcher

    asyncio.run(run())
    for cell in notebook.cells:
        texts = []
        for out in cell.outputs:
            if out.output_type == "stream":
                texts.append(out.text.strip())
            elif out.output_type == "error":
                texts.append("error " + out.ename)
            else:
                texts.append(out.data["text/plain"])
        print(json.dumps(texts))
"""
)
# As a page in a browser does it: outputs go to the cell whose number they bear, whenever they come.
PAGE = (
    KERNEL
    + """
    import json
    from jupyter_client.manager import KernelManager

    class Manager(HereMixin, KernelManager):
        pass

    manager = Manager()
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    ids, texts = [], []

    def read(until):
        while True:
            message = client.get_iopub_msg(timeout=60)
            parent = message["parent_header"].get("msg_id")
            content = message["content"]
            if parent in ids and message["msg_type"] in ("stream", "error"):
                texts[ids.index(parent)] += content.get("text") or content["ename"]
            if until(message, parent):
                return

    for step in json.loads(open("cells.json").read()):
        if step.startswith("release "):
            _, path, expected = step.split()
            with open(path, "w") as fifo:
                fifo.write("go")
            read(lambda *_: any(expected in text for text in texts))
        else:
            # Known before the first output comes.
            texts.append("")
            ids.append(client.execute(step))
            read(
                lambda message, parent: parent == ids[-1]
                and message["content"].get("execution_state") == "idle"
            )
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    for text in texts:
        print(json.dumps([text]))
"""
)


def execute(
    cells: list[str], folder: Path, *arguments: str, driver: str = DRIVER
) -> list[list[str]]:
    """Run cells in a fresh kernel and return the texts that each put out."""
    (folder / "cells.json").write_text(json.dumps([textwrap.dedent(cell) for cell in cells]))
    env = {
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    outcome = run_program(driver, folder, arguments=arguments, env=env, limit=3 * TIME_LIMIT)
    assert outcome.returncode == 0, outcome
    return [json.loads(line) for line in outcome.out.splitlines() if line.startswith("[")]


def test_functions_of_cells(tmp_path: Path) -> None:
    outputs = execute(
        [
            "from pool import Pool\np = Pool(2)",
            "def f(x):\n    return x + 1\np.map(f, range(3))",
            # Redefined and run again on the same pool, as people do all day.
            "def f(x):\n    return x * 10\np.map(f, range(3))",
            "factor = 7\ndef g(x):\n    return f(x) * factor\np.map(g, range(3))",
            "factor = 8\nlist(p.imap(g, range(3)))",
            "p.map(lambda x: -x, range(3))",
            DATACLASS,
            SAME_NAME,
            "p.map(f, [None])",
            "p.map(f, [1])",
            "p.terminate(); p.join()",
        ],
        tmp_path,
    )
    assert outputs == [
        [],
        ["[1, 2, 3]"],
        ["[0, 10, 20]"],
        ["[0, 70, 140]"],
        ["[0, 80, 160]"],
        ["[0, -1, -2]"],
        ["([True, True], [D(x=2), D(x=4)])"],
        ["[(True, 3)]"],
        ["error TypeError"],
        ["[10]"],
        [],
    ]


@pytest.mark.parametrize(
    ("method", "error"), [(None, "EOFError"), ("fork", "StdinNotImplementedError")]
)
def test_a_task_that_asks_in_the_page_has_an_error(
    tmp_path: Path, method: str | None, error: str
) -> None:
    outputs = execute(
        [
            f"""
            import getpass as module, pool
            from getpass import getpass
            p = pool.get_context({method!r}).Pool(1)
            """,
            "p.apply(input)",
            "p.apply(lambda: input())",
            "p.apply(getpass)",
            "p.apply(lambda: getpass())",
            "p.apply(lambda: module.getpass())",
            # By name: no other workers were forked from the kernel to inherit its methods.
            "print(len(p._engines.all()), p.apply(abs, (-3,))); p.terminate()",
        ],
        tmp_path,
        driver=PAGE,
    )
    *asked, (last,) = outputs[1:]
    assert [text.splitlines()[-1].rpartition(" ")[2] for (text,) in asked] == [error] * 5
    assert last == "1 3\n"


def test_the_stop_button(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "began")
    outputs = execute(
        [
            "from pool import Pool\np = Pool(2)",
            """
            def hold(n):
                import signal
                if n == 0:
                    with open("began", "w") as fifo:
                        fifo.write("began")
                signal.pause()
            p.map(hold, range(8), chunksize=1)
            """,
            "p.map(abs, [-1, -2])",
            "p.close(); p.join()",
        ],
        tmp_path,
        "--stop",
    )
    assert outputs == [[], ["error KeyboardInterrupt"], ["[1, 2]"], []]


def test_a_notebook_that_forgets_its_pool(tmp_path: Path) -> None:
    outputs = execute(
        ["from pool import Pool\np = Pool(2)\np.map(abs, [-1])", "q = Pool(2)\nq.map(abs, [-2])"],
        tmp_path,
    )
    # That no process of it is left when the kernel ends is seen by the runner.
    assert outputs == [["[1]"], ["[2]"]]


def test_output_of_tasks_appears_below_the_latest_cell(tmp_path: Path) -> None:
    for name in ("first", "second", "third"):
        os.mkfifo(tmp_path / name)
    outputs = execute(
        [
            """
            import os
            import pool as ray

            @ray.remote
            def say(path, word):
                open(path).read()
                os.write(1, b"raw\\n")
                print(word)

            ray.init(num_cpus=2)
            """,
            "print(ray.get(say.remote(os.devnull, 'at once')))",
            "ref = say.remote('first', 'before-the-next-cell')",
            # Nobody waits now, and no cell runs.
            "release first before-the-next-cell",
            "ref = say.remote('second', 'after-the-next-cell')",
            "x = 1",
            "release second after-the-next-cell",
            "ref = say.remote('third', 'while-a-cell-runs')",
            """
            with open("third", "w") as fifo:
                fifo.write("go")
            ray.get(ref)
            print("got")
            """,
            "ray.shutdown()",
        ],
        tmp_path,
        driver=PAGE,
    )
    texts = [re.sub(r" pid=\d+", "", text).splitlines() for (text,) in outputs]
    assert texts == [
        [],
        ["(say) raw", "(say) at once", "None"],
        ["(say) raw", "(say) before-the-next-cell"],
        [],
        ["(say) raw", "(say) after-the-next-cell"],
        [],
        ["(say) raw", "(say) while-a-cell-runs", "got"],
        [],
    ]
