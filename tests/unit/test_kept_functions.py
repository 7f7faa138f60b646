"""What the runtime keeps of remote functions, and how long."""

from __future__ import annotations

import gc
from itertools import count
from types import SimpleNamespace
from typing import Any

from pool._objects._codes import Code
from pool._runtime._tasks import Tasks


def work() -> None:
    """Do nothing."""


def test_nothing_is_kept_of_what_a_redefined_function_was() -> None:
    numbers = count(1)
    engine = SimpleNamespace(function=lambda payload: SimpleNamespace(function_id=next(numbers)))
    runtime: Any = SimpleNamespace(log_to_driver=True, namespace="here", engine=engine)
    tasks = Tasks(runtime)
    code = Code(work)
    first = tasks.payload(code)
    assert tasks.payload(code) is first
    code.let_go()  # as if it was redefined
    assert tasks.payload(code) is not first
    gc.collect()
    assert len(tasks._payloads) == 1
    assert list(tasks.codes.values()) == [code] * 2
    del code
    gc.collect()
    assert not tasks._payloads
    assert not tasks.codes
