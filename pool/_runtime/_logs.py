"""Print in the program what workers print: whole lines, each with the name of its task."""

from __future__ import annotations

import sys
import threading
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Logs:
    """Lines that wait to be printed; the driver calls `call_back` without holding its lock."""

    def __init__(self) -> None:
        self._lines: deque[tuple[int, str]] = deque()

    def add(self, name: str, pid: int, stream: int, text: str) -> None:
        """Take whole lines."""
        prefix = f"({name} pid={pid}) "
        lines = text.removesuffix("\n").split("\n")
        self._lines.append((stream, "".join(f"{prefix}{line}\n" for line in lines)))

    def tell(self, text: str) -> None:
        """Print a message of the runtime itself to standard error, at once."""
        self._lines.append((2, text.rstrip("\n") + "\n"))
        self.call_back()

    def call_back(self) -> None:
        """Print what has come, through `sys.stdout` and `sys.stderr` as they are now."""
        ipython = sys.modules.get("IPython")
        shell = None if ipython is None else ipython.get_ipython()
        if shell is None or threading.current_thread() is threading.main_thread():
            self._print()
        else:
            from contextvars import copy_context

            # In a copied context, so that what this thread itself prints keeps its cell.
            copy_context().run(self._print_in_latest_cell, shell)

    def _print_in_latest_cell(self, shell: Any) -> None:
        """Print where the user looks: below the cell that runs, or was the last to run.

        Otherwise a kernel shows what a thread prints below the cell that started the thread.
        """
        for target in (sys.stdout, sys.stderr):
            choose = getattr(target, "set_thread_parent", getattr(target, "set_parent", None))
            if choose is not None:
                choose(shell.get_parent())
        self._print()

    def _print(self) -> None:
        written: set[Any] = set()
        while self._lines:
            try:
                stream, text = self._lines.popleft()
            except IndexError:
                break  # another thread took the last one
            target = sys.stdout if stream == 1 else sys.stderr
            try:
                target.write(text)
                written.add(target)
            except Exception:
                continue  # replaced by something odd, closed, or its reader is gone
        for target in written:
            try:
                target.flush()
            except Exception:
                continue
