"""Interrupt code at each of its lines in turn."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any


def interrupted_at(moment: int, action: Callable[[], object], *modules: ModuleType) -> bool:
    """Send an interrupt at some line of these modules; return whether it was raised."""
    files = {module.__file__ for module in modules}
    lines = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":  # at the end of a function Python looks for no signals
            lines += 1
            if lines == moment + 1:
                signal.raise_signal(signal.SIGINT)
        return trace

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    tracing = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(tracing)
        signal.signal(signal.SIGINT, before)
    return False
