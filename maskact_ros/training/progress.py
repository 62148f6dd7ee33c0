"""`Progress` of long work: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

import rich.progress

_LINE_EVERY_S = 15.0


class Progress:
    """A context manager; `advance` as work is done, `say` what is worth a line that stays."""

    def __init__(self, title: str, total: int, *, done: int = 0, quiet: bool = False) -> None:
        self._title, self._total, self._done, self._quiet = title, total, done, quiet
        self._bar: rich.progress.Progress | None = None
        self._next_line_s = time.monotonic() + _LINE_EVERY_S

    def __enter__(self) -> Self:
        if sys.stdout.isatty() and not self._quiet:
            self._bar = rich.progress.Progress(
                "{task.description}",
                rich.progress.BarColumn(),
                rich.progress.MofNCompleteColumn(),
                rich.progress.TimeRemainingColumn(),
                "{task.fields[remark]}",
            )
            self._task = self._bar.add_task(self._title, total=self._total, completed=self._done, remark="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, amount: int, remark: str = "") -> None:
        """`amount` more is done."""
        self._done += amount
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, remark=remark)
        elif not self._quiet and time.monotonic() >= self._next_line_s:
            self._next_line_s = time.monotonic() + _LINE_EVERY_S
            self.say(f"{self._title}: {self._done} of {self._total} {remark}".rstrip())

    def say(self, line: str) -> None:
        """Print a line; the bar stays below it."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        elif not self._quiet:
            print(line, flush=True)
