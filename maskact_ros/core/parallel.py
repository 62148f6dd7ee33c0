"""The same work on many things, in this process or in several, with one progress bar over all of them."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.progress import Progress

Item = TypeVar("Item")
Shares = ctypes.Array[ctypes.c_double]
Tick = Callable[[float], None]  # takes the share that is done, from 0 to 1
_LOOK_EVERY_S, _LINE_EVERY_S = 0.2, 10.0

_shares: Shares  # in a worker: how far each item is
_parent = 0


class _OrphanedError(Exception):
    """The process that wanted the work is gone."""


def in_parallel(work: Callable[[Item, Tick], None], items: Sequence[Item], what: str, *, jobs: int) -> None:
    """Call `work` on each item; the first exception ends all, and is raised; MaskACTError when a worker is killed."""
    with Progress(what, len(items)) as progress:
        if jobs == 1 or len(items) <= 1:
            for number, item in enumerate(items):
                work(item, lambda share, before=number: progress.reach(before + share))  # type: ignore[misc]
                progress.reach(number + 1)
            return
        context = multiprocessing.get_context("spawn")
        shares: Shares = context.RawArray(ctypes.c_double, len(items))  # no lock for a killed worker to hold
        arguments = (shares, os.getpid())
        with ProcessPoolExecutor(min(jobs, len(items)), context, _begin, arguments) as pool:
            waiting: set[Future[None]] = {pool.submit(_run, work, n, item) for n, item in enumerate(items)}
            try:
                while waiting:
                    done, waiting = wait(waiting, _LOOK_EVERY_S, FIRST_EXCEPTION)
                    for future in done:
                        future.result()
                    progress.reach(sum(shares[:]))
            except BaseException as error:
                pool.shutdown(wait=False, cancel_futures=True)
                shares[:] = [-1.0] * len(items)  # the workers see it, and stop
                if isinstance(error, BrokenProcessPool):
                    raise MaskACTError(
                        f"{what}: one of its processes was killed, maybe for want of memory; fewer --jobs need less, "
                        "and the same command goes on where it was"
                    ) from None
                raise


def _begin(shares: Shares, parent: int) -> None:
    global _shares, _parent
    _shares, _parent = shares, parent


def _run(work: Callable[[Item, Tick], None], number: int, item: Item) -> None:
    def tick(share: float) -> None:
        if _shares[number] < 0 or os.getppid() != _parent:
            raise _OrphanedError
        _shares[number] = share

    work(item, tick)
    tick(1.0)
