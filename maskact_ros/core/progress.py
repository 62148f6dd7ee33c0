"""`Progress` of long work, on stderr: a bar on a terminal, a plain line now and then elsewhere.

Both say how much is done and how long the rest will take.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

import rich.progress
from rich.console import Console

_LINE_EVERY_S = 15.0


class Progress:
    """A context manager; `advance` as work is done, `say` what is worth a line that stays."""

    def __init__(self, title: str, total: float | None, *, done: float = 0, quiet: bool = False) -> None:
        self._title, self._total, self._done, self._quiet = title, total, done, quiet
        self._console = Console(stderr=True, highlight=False, markup=False)
        self._bar: rich.progress.Progress | None = None
        self._begun, self._begin_s = done, time.monotonic()
        self._next_line_s = self._begin_s + _LINE_EVERY_S

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._quiet:
            self._bar = rich.progress.Progress(
                "{task.description}",
                rich.progress.BarColumn(),
                "{task.fields[count]}",
                rich.progress.TimeRemainingColumn(),
                "{task.fields[remark]}",
                console=self._console,
            )
            self._task = self._bar.add_task(self._title, total=self._total, count="", remark="")
            self._bar.update(self._task, completed=self._done, count=self._count)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def _count(self) -> str:
        return f"{self._done:.0f}" if self._total is None else f"{self._done:.0f} of {self._total:.0f}"

    def advance(self, amount: float, remark: str = "") -> None:
        """`amount` more is done."""
        self.reach(self._done + amount, remark)

    def reach(self, done: float, remark: str = "") -> None:
        """So much is done in all."""
        self._done = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done, count=self._count, remark=remark)
        elif not self._quiet and (now_s := time.monotonic()) >= self._next_line_s:
            self._next_line_s = now_s + _LINE_EVERY_S
            parts = (f"{self._title}: {self._count}", self._time_left(now_s), remark)
            self.say(", ".join(part for part in parts if part))

    def _time_left(self, now_s: float) -> str:
        """At the mean speed since the begin; nothing where that is unknown."""
        if self._total is None or self._done <= self._begun:
            return ""
        left_s = (self._total - self._done) * (now_s - self._begin_s) / (self._done - self._begun)
        return f"about {_duration(max(0.0, left_s))} left"

    def say(self, line: str) -> None:
        """Print a line; the bar stays below it."""
        if not self._quiet:
            self._console.print(line, soft_wrap=True)


def _duration(seconds: float) -> str:
    """As a person says it: 40 s, 12 min, 3 h 5 min."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
