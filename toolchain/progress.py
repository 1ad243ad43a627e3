"""Says on standard error how far a build is: a display on a terminal, else lines that a log can keep."""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, Self

LINE_INTERVAL_S = 15
NAMED_AT_MOST = 4
BAR_COLUMNS = 40


class Progress:
    """Counts the pieces that have to be built, and shows which are in work, for how long, and which are left.

    A message is kept in either case: it is a line of the log, and on a terminal it stays above the display.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._total = len(names)
        self._left = list(names)
        self._began_s: dict[str, float] = {}
        self._said_s = time.monotonic()
        self._lock = threading.Lock()
        self._display = _display(self) if names else None

    def __enter__(self) -> Self:
        if self._display:
            self._display.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._display:
            self._display.stop()

    def begin(self, name: str) -> None:
        """The piece is in work from now on."""
        with self._lock:
            self._left.remove(name)
            self._began_s[name] = time.monotonic()
            self._say(f"{name}: building")

    def note(self, name: str, text: str) -> None:
        """Something about the piece that the user should know."""
        with self._lock:
            self._say(f"{name}: {text}")

    def end(self, name: str, outcome: str) -> None:
        """The piece is there."""
        with self._lock:
            seconds = time.monotonic() - self._began_s.pop(name)
            self._say(f"{name}: {outcome} in {seconds:.0f} s")

    def tick(self) -> None:
        """Time has passed; to be called about once a second."""
        with self._lock:
            if self._display:
                self._display.refresh()
            elif self._began_s and time.monotonic() - self._said_s >= LINE_INTERVAL_S:
                self._said_s = time.monotonic()
                self._say("; ".join(filter(None, (", ".join(self._in_work()), self._named_left()))))

    def __rich__(self) -> Any:
        """The display: a bar, a line for each piece in work, and what is left."""
        grid = _rich("table").Table.grid()
        grid.add_row(_rich("progress_bar").ProgressBar(self._total, self._done(), width=BAR_COLUMNS))
        for row in (*(f"{self._count()} {each}" for each in self._in_work()), self._named_left()):
            grid.add_row(_rich("text").Text(row))
        return grid

    def _done(self) -> int:
        return self._total - len(self._left) - len(self._began_s)

    def _count(self) -> str:
        return f"[{self._done()}/{self._total}]"

    def _in_work(self) -> list[str]:
        now_s = time.monotonic()
        return [f"{name}, {now_s - began_s:.0f} s" for name, began_s in self._began_s.items()]

    def _named_left(self) -> str:
        if not self._left:
            return ""
        more = len(self._left) - NAMED_AT_MOST
        return "left: " + ", ".join(self._left[:NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")

    def _say(self, text: str) -> None:
        line = f"{self._count()} {text}"
        if self._display:
            self._display.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=sys.stderr, flush=True)


def _display(progress: Progress) -> Any:
    """rich's display, None where standard error is no terminal or there is no rich."""
    if not sys.stderr.isatty():
        return None
    try:
        console = _rich("console").Console(stderr=True)
        display = _rich("live").Live(progress, console=console, auto_refresh=False, transient=True)
    except ImportError:
        return None
    return None if console.is_dumb_terminal else display


def _rich(module: str) -> Any:
    """A module of the library rich: the copy in pip, which comes with Python, as nothing is installed before a build.

    Raises:
        ImportError: this Python's pip has none.
    """
    return importlib.import_module(f"pip._vendor.rich.{module}")
