"""Use a pool that a web application makes when its module is imported."""

from __future__ import annotations

import json
import os
import textwrap
from typing import TYPE_CHECKING

import pytest
from forking import forking_as_before
from poolscripts import run_program

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("flask")

SERVICE = """
import os
from flask import Flask, jsonify
import {library} as library

def square(n):
    return n * n

def where(_):
    return os.getpid()

def fail(n):
    return 1 / n

def leave(n):
    os._exit(n)

app = Flask(__name__)
pool = library.Pool(2)

@app.get("/squares/<int:n>")
def squares(n):
    return jsonify(pool.map(square, range(n)))

@app.get("/sum/<int:n>")
def total(n):
    return jsonify(sum(pool.imap_unordered(square, range(n))))

@app.get("/fail")
def failing():
    try:
        pool.apply(fail, (0,))
    except ZeroDivisionError as error:
        return jsonify(str(error)), 500

@app.get("/die")
def dying():
    try:
        pool.apply(leave, (3,))
    except library.ProcessError as error:
        return jsonify(type(error).__name__), 500
"""
# The standard's workers are forked when the pool is made, so there the pool must come last.
LIBRARIES = ["multiprocessing", "pool"]


def write_service(folder: Path, library: str) -> None:
    """Write the application's module."""
    (folder / "service.py").write_text(forking_as_before(SERVICE.format(library=library)))


@pytest.mark.parametrize("library", LIBRARIES)
def test_under_the_test_client(tmp_path: Path, library: str) -> None:
    write_service(tmp_path, library)
    source = """
        import service
        client = service.app.test_client()
        print(client.get("/squares/5").json)
        print(client.get("/sum/100").json)
        print(client.get("/fail").json, client.get("/fail").status_code)
        print(client.get("/squares/3").json)
        service.pool.terminate()
        service.pool.join()
    """
    assert run_program(source, tmp_path).succeeded() == textwrap.dedent(
        """\
        [0, 1, 4, 9, 16]
        328350
        division by zero 500
        [0, 1, 4]
        """
    )


SERVER = """
    import json, threading, urllib.request
    from werkzeug.serving import make_server
    import service

    server = make_server("127.0.0.1", 0, service.app, threaded=True)
    import logging
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()

    def ask(path):
        request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}")
        try:
            with urllib.request.urlopen(request, timeout=90) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return json.load(error)

    got = {}
    def visit(n):
        for k in range(5):
            got[n, k] = ask(f"/squares/{n + k}"), ask(f"/sum/{n}"), ask("/fail")

    visitors = [threading.Thread(target=visit, args=(n,)) for n in range(6)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    right = all(
        answer == [[i * i for i in range(n + k)], sum(i * i for i in range(n)), "division by zero"]
        for (n, k), answer in ((key, list(value)) for key, value in got.items())
    )
    print(len(got), right)
    DIE
    server.shutdown()
    serving.join()
    server.server_close()
"""


@pytest.mark.parametrize("library", LIBRARIES)
def test_under_a_server_with_threads(tmp_path: Path, library: str) -> None:
    write_service(tmp_path, library)
    # A worker that dies in a request is that request's error, and nothing else; the standard hangs.
    die = 'print(ask("/die"), ask("/squares/3"))' if library == "pool" else "pass"
    source = SERVER.replace("DIE", die)
    outcome = run_program(source, tmp_path)
    assert outcome.returncode == 0, outcome
    expected = "30 True\n" + ("WorkerDied [0, 1, 4]\n" if library == "pool" else "")
    assert outcome.out == expected, outcome


def test_under_forked_servers(tmp_path: Path) -> None:
    # As gunicorn does with a preloaded application: import once, then fork.
    write_service(tmp_path, "pool")
    source = """
        import os, json, sys
        import service
        client = service.app.test_client()
        print(client.get("/squares/3").json, flush=True)
        children = []
        for n in range(3):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    answer = service.app.test_client().get(f"/squares/{n + 2}").json
                    with open(f"answer{n}", "w") as file:
                        json.dump(answer, file)
                    service.pool.terminate()
                    service.pool.join()
                    code = 0
                finally:
                    os._exit(code)
            children.append(child)
        print([os.waitpid(child, 0)[1] for child in children])
        print(client.get("/squares/4").json)
    """
    outcome = run_program(source, tmp_path)
    assert outcome.succeeded() == "[0, 1, 4]\n[0, 0, 0]\n[0, 1, 4, 9]\n"
    for n in range(3):
        with open(os.path.join(tmp_path, f"answer{n}")) as file:
            assert json.load(file) == [k * k for k in range(n + 2)]
