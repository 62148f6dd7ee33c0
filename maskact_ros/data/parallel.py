"""The same work on many things, in this process or in several, with one progress bar over all of them."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing.sharedctypes import SynchronizedArray
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")
Tick = Callable[[float], None]  # takes the share that is done, from 0 to 1
_LOOK_EVERY_S, _LINE_EVERY_S = 0.2, 10.0

_shares: SynchronizedArray[float]  # in a worker: how far each item is
_parent = 0


class _OrphanedError(Exception):
    """The process that wanted the work is gone."""


def in_parallel(work: Callable[[Item, Tick], None], items: Sequence[Item], what: str, *, jobs: int) -> None:
    """Call `work` on each item; the first exception ends all, and is raised."""
    with _shown(what, len(items)) as show:
        if jobs == 1 or len(items) <= 1:
            for number, item in enumerate(items):
                work(item, lambda share, before=number: show(before + share))  # type: ignore[misc]
                show(number + 1)
            return
        context = multiprocessing.get_context("spawn")
        shares = context.Array("d", len(items))
        arguments = (shares, os.getpid())
        with ProcessPoolExecutor(min(jobs, len(items)), context, _begin, arguments) as pool:
            waiting: set[Future[None]] = {pool.submit(_run, work, n, item) for n, item in enumerate(items)}
            try:
                while waiting:
                    done, waiting = wait(waiting, _LOOK_EVERY_S, FIRST_EXCEPTION)
                    for future in done:
                        future.result()
                    show(sum(shares[:]))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                shares[:] = [-1.0] * len(items)  # the workers see it, and stop
                raise


def _begin(shares: SynchronizedArray[float], parent: int) -> None:
    global _shares, _parent
    _shares, _parent = shares, parent


def _run(work: Callable[[Item, Tick], None], number: int, item: Item) -> None:
    def tick(share: float) -> None:
        if _shares[number] < 0 or os.getppid() != _parent:
            raise _OrphanedError
        _shares[number] = share

    work(item, tick)
    tick(1.0)


@contextmanager
def _shown(what: str, total: int) -> Iterator[Callable[[float], None]]:
    """A progress bar on a terminal, a line now and then elsewhere."""
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)
        return
    said_s = time.monotonic()

    def line(done: float) -> None:
        nonlocal said_s
        if time.monotonic() - said_s >= _LINE_EVERY_S:
            said_s = time.monotonic()
            print(f"{what}: {done / total:.0%}", file=sys.stderr)

    yield line
