"""Interrupts that Python drops: an exception in a finalizer is reported, and then forgotten.

If a KeyboardInterrupt strikes there, the task that was meant would go on, and the parent, which has
seen that it was struck, would not interrupt it again.
"""

from __future__ import annotations

import _signal
import _thread
import os
import sys
from time import sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: Seconds until the next attempt: raised within the hook, it would be dropped like the first one.
PAUSE = 1e-3


def raise_again(is_wanted: Callable[[], bool]) -> None:
    """Have a dropped KeyboardInterrupt raised once more.

    Parameters
    ----------
    is_wanted : callable
        ``is_wanted()`` returns whether the interrupt was meant for the call that runs now.
    """
    report = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt and is_wanted():
            _thread.start_new_thread(_signal_soon, ())
        else:
            report(unraisable)

    sys.unraisablehook = hook


def _signal_soon() -> None:
    sleep(PAUSE)
    os.kill(os.getpid(), _signal.SIGINT)
