"""Show how far a job is: by tqdm, by a plain line on the terminal, or by the user's own function.

A job that was given `progress=` reports each finished run of items here. Nothing that goes wrong
here reaches the job: a bar that cannot be drawn is worth less than the results. The calls come
from whichever thread drives the job, one at a time.
"""

from __future__ import annotations

import sys

from pool._clock import monotonic
from pool._unraisable import report
from store._interrupts import struck

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol, TextIO

    class Progress(Protocol):
        """What a job reports to."""

        def update(self, n: int = 1, errors: int = 0) -> None:
            """Note that `n` more items are done, of which `errors` failed."""

        def fail(self) -> None:
            """Note that the job is over because an item failed."""

        def close(self) -> None:
            """Note that the job is over; does nothing if that is known."""


# A plain line is drawn at most this often; terminals and notebooks are slow.
REDRAW_INTERVAL = 0.1
BAR_WIDTH = 30


class ProgressEvent:
    """Tell a user's `progress` function how far a job is.

    Attributes
    ----------
    done : int
        Items finished, failed ones included.
    total : int or None
        All items of the job; None while the input has no known length.
    elapsed : float
        Seconds since the job was submitted.
    label : str
        Name of the call, such as "map(render.tile)".
    errors : int
        Items that failed.
    """

    __module__ = "pool"

    __slots__ = ("done", "elapsed", "errors", "label", "total")

    def __init__(
        self, done: int, total: int | None, elapsed: float, label: str, errors: int
    ) -> None:
        self.done = done
        self.total = total
        self.elapsed = elapsed
        self.label = label
        self.errors = errors

    def __repr__(self) -> str:
        total = "?" if self.total is None else self.total
        return (
            f"<{self.label}: {self.done}/{total} done, {self.errors} failed, "
            f"{self.elapsed:.1f} s elapsed>"
        )


def make_progress(
    progress: bool | Callable[[ProgressEvent], object] | None, total: int | None, label: str
) -> Progress:
    """Return what a job reports its progress to.

    Parameters
    ----------
    progress : bool or callable
        True for a bar: tqdm's if that is installed, otherwise a plain line on the terminal or in
        the notebook, and nothing where stderr is neither. A callable is called with a
        `ProgressEvent` after each finished run of items and once more at the end; what it raises
        goes to `sys.unraisablehook`. A class with tqdm's interface is used in its place.
    total : int or None
        Number of items, if known.
    label : str
        Name of the call.
    """
    if not progress:
        return _Silent()
    if progress is True:
        return _bar(total, label)
    if isinstance(progress, type) and hasattr(progress, "update"):
        return _Tqdm(progress, total, label)
    if callable(progress):
        return _Callback(progress, total, label)
    raise TypeError(f"progress must be True, False or callable, not {progress!r}")


def _bar(total: int | None, label: str) -> Progress:
    try:
        import warnings

        with warnings.catch_warnings():
            # In a notebook without widgets tqdm says so, and draws text; that is what we want.
            warnings.simplefilter("ignore")
            from tqdm.auto import tqdm

            return _Tqdm(tqdm, total, label)
    except ImportError:
        return _Line(sys.stderr, total, label) if _is_shown(sys.stderr) else _Silent()
    except Exception as error:
        report(error, f"progress of {label} could not be shown")
        return _Silent()


def _is_shown(stream: TextIO | None) -> bool:
    """Tell whether somebody watches this stream: a terminal, or the output of a notebook cell."""
    if stream is None:
        return False
    if type(stream).__module__.partition(".")[0] == "ipykernel":
        return True
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False


class _Silent:
    """Show nothing."""

    def update(self, n: int = 1, errors: int = 0) -> None:
        """Do nothing."""

    def fail(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class _Counted:
    """Count, and leave the showing to a subclass; whatever that raises does no harm to the job."""

    def __init__(self, total: int | None, label: str) -> None:
        self.total = total
        self.label = label
        self.done = 0
        self.errors = 0
        self._started = monotonic()
        self._closed = False

    def update(self, n: int = 1, errors: int = 0) -> None:
        """Note that `n` more items are done, of which `errors` failed."""
        if self.total is not None:
            # The last chunk of a job may be shorter than whoever counts chunks assumes.
            n = min(n, self.total - self.done)
        self.done += n
        self.errors += errors
        self._guarded(self._show, n)

    def fail(self) -> None:
        """Count one error, and show the final state."""
        if not self._closed:
            self.errors += 1
            self.close()

    def close(self) -> None:
        """Show the final state."""
        if not self._closed:
            self._closed = True
            self._guarded(self._finish)

    def _elapsed(self) -> float:
        return monotonic() - self._started

    def _guarded(self, show: Callable[..., object], *args: int) -> None:
        try:
            show(*args)
        except Exception as error:
            if struck(error):
                raise
            report(error, f"progress of {self.label} could not be shown")

    def _show(self, n: int) -> None:
        raise AssertionError("a subclass shows")

    def _finish(self) -> None:
        raise AssertionError("a subclass finishes")


class _Callback(_Counted):
    """Call the user's function with an event."""

    def __init__(
        self, function: Callable[[ProgressEvent], object], total: int | None, label: str
    ) -> None:
        super().__init__(total, label)
        self._function = function
        self._reported = (-1, -1)

    def _show(self, n: int) -> None:
        self._reported = (self.done, self.errors)
        self._function(
            ProgressEvent(self.done, self.total, self._elapsed(), self.label, self.errors)
        )

    def _finish(self) -> None:
        # What was counted after the last update, and a job without items, are told once more.
        if self._reported != (self.done, self.errors):
            self._show(0)


class _Tqdm(_Counted):
    """Draw by tqdm, or by a class with its interface."""

    def __init__(self, bar_class: Callable[..., Any], total: int | None, label: str) -> None:
        super().__init__(total, label)
        self._shown_errors = 0
        self._bar = bar_class(total=total, desc=label)

    def _show(self, n: int) -> None:
        self._show_errors()
        self._bar.update(n)

    def _finish(self) -> None:
        self._show_errors()
        self._bar.close()

    def _show_errors(self) -> None:
        if self.errors != self._shown_errors:
            self._shown_errors = self.errors
            self._bar.set_postfix_str(f"{self.errors} failed", refresh=False)


class _Line(_Counted):
    """Redraw one line of text."""

    def __init__(self, stream: TextIO, total: int | None, label: str) -> None:
        super().__init__(total, label)
        self._stream = stream
        self._next_drawing = 0.0
        self._width = 0

    def _show(self, n: int) -> None:
        now = monotonic()
        if now >= self._next_drawing:
            self._next_drawing = now + REDRAW_INTERVAL
            self._draw("")

    def _finish(self) -> None:
        self._draw("\n")

    def _draw(self, end: str) -> None:
        line = line_of_text(self.done, self.total, self._elapsed(), self.label, self.errors)
        # A shorter line leaves the end of a longer one standing.
        padding = " " * (self._width - len(line))
        self._width = len(line)
        self._stream.write(f"\r{line}{padding}{end}")
        self._stream.flush()


def line_of_text(done: int, total: int | None, elapsed: float, label: str, errors: int) -> str:
    """Return the state of a job in one line, such as ``map f:  50% |###   | 5/10 [2.0s<2.0s]``."""
    failed = f", {errors} failed" if errors else ""
    if not total:
        return f"{label}: {done} [{elapsed:.1f}s{failed}]"
    share = min(done / total, 1.0)
    bar = ("#" * int(share * BAR_WIDTH)).ljust(BAR_WIDTH)
    left = f"<{elapsed / share - elapsed:.1f}s" if share else ""
    return f"{label}: {share:4.0%} |{bar}| {done}/{total} [{elapsed:.1f}s{left}{failed}]"
