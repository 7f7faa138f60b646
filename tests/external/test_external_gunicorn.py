"""Run the service that the guide shows under gunicorn, preloaded and not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from poolscripts import run_program

pytest.importorskip("flask")
pytest.importorskip("gunicorn")
pytestmark = pytest.mark.watchdog(360)

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "web.md"
PROCESSES = 2

# Starts the server, asks it from several threads, kills one of its processes, asks again, ends it.
DRIVER = """
    import http.client, json, os, re, signal, socket, subprocess, sys
    from concurrent.futures import ThreadPoolExecutor

    server = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--workers", "{processes}", "--threads", "8",
         "--bind", "unix:socket", *sys.argv[1:], "service:app"],
        stderr=subprocess.PIPE, text=True,
    )

    def booted(count):
        pids = []
        while len(pids) < count:
            line = server.stderr.readline()
            assert line, "the server ended"
            if found := re.search(r"Booting worker with pid: (\\d+)", line):
                pids.append(int(found[1]))
        return pids

    class Connection(http.client.HTTPConnection):
        def connect(self):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect("socket")

    def ask(text):
        connection = Connection("localhost")
        try:
            connection.request("POST", "/count", text)
            return json.load(connection.getresponse())["words"]
        finally:
            connection.close()

    texts = ["word " * n for n in range(1, 41)]
    pids = booted({processes})
    with ThreadPoolExecutor(8) as clients:
        print(list(clients.map(ask, texts)) == list(range(1, 41)))
        os.kill(pids[0], signal.SIGKILL)
        booted(1)
        print(list(clients.map(ask, texts)) == list(range(1, 41)))
    server.send_signal(signal.SIGTERM)
    server.stderr.read()
    print(server.wait())
    server.stderr.close()
"""


@pytest.mark.parametrize("arguments", [[], ["--preload"]], ids=["imported", "preloaded"])
def test_the_service_of_the_guide(tmp_path: Path, arguments: list[str]) -> None:
    block = re.search(r"^```python\n(.*?)^```", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert block is not None
    (tmp_path / "service.py").write_text(block[1], encoding="utf-8")
    # That neither gunicorn's processes nor those of their pools are left is seen by the runner.
    source = DRIVER.replace("{processes}", str(PROCESSES))
    assert run_program(source, tmp_path, arguments=arguments).succeeded() == "True\nTrue\n0\n"
