"""`Progress` of long work, on stderr: a bar on a terminal, a plain line now and then elsewhere."""

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
        self._next_line_s = time.monotonic() + _LINE_EVERY_S

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
        elif not self._quiet and time.monotonic() >= self._next_line_s:
            self._next_line_s = time.monotonic() + _LINE_EVERY_S
            self.say(f"{self._title}: {self._count} {remark}".rstrip())

    def say(self, line: str) -> None:
        """Print a line; the bar stays below it."""
        if not self._quiet:
            self._console.print(line, soft_wrap=True)
