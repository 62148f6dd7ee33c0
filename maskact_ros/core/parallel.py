"""The same work on many items: in this process, in several, or on the workers of a dask cluster.

In: a function, its items, and `Workers`. Out: the results, as they come. What an item gives depends on the item alone,
so that it is the same wherever it is done, and when it is done again because its worker has died.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from maskact_ros.core.cluster import check_address, on_cluster
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.work import LOOK_EVERY_S, Item, Result, StoppedError, Work, attempt, rarely, result_of

Reach = Callable[[float], None]  # takes how many items are done, with the shares of those in work
_MOST_JOBS = 1024
_MOST_RUNS = 3  # of an item whose process dies


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Who does the work: processes of this machine or, where an address is given, a dask cluster.

    Raises:
        MaskACTError: there are no such workers.
    """

    jobs: int = 1
    cluster: str | None = None  # the scheduler's address

    def __post_init__(self) -> None:
        if not 1 <= self.jobs <= _MOST_JOBS:
            raise MaskACTError(f"--jobs is {self.jobs}; allowed: 1 to {_MOST_JOBS}")
        if self.cluster is not None:
            check_address(self.cluster)


HERE = Workers()  # this process


def add_workers(parser: argparse.ArgumentParser, items: str) -> None:
    """Declare --jobs and --cluster, of which one can be given."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--jobs", type=int, default=1, metavar="N", help=f"{items} at the same time; default: 1")
    either.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="instead of --jobs: the workers of the dask scheduler at ADDRESS, such as tcp://host:8786; they must see "
        "the same files (docs/cluster.md)",
    )


def workers_of(arguments: argparse.Namespace) -> Workers:
    """What `add_workers` has declared and the user has given; raises MaskACTError."""
    return Workers(jobs=arguments.jobs, cluster=arguments.cluster)


def in_parallel(
    work: Work[Item, Result],
    items: Sequence[Item],
    *,
    workers: Workers = HERE,
    name: Callable[[Item], str] = str,
    reach: Reach = lambda done: None,
    into: Path | None = None,
) -> Generator[Result, None, None]:
    """Call `work` on each item, and give the results in any order.

    `work`, items and results must be picklable and small; `work` is a function of a module, or a `partial` of one.
    `name` is what a user calls an item. `into` is the folder into which the work writes, and which a cluster must see.
    When the caller stops early, no more items begin; those in work stop at their next tick or end. Then this returns.

    Raises:
        MaskACTError: the worker of one item died again and again, or the cluster cannot be used.
        Exception: what `work` has raised. It ends all, and is not tried again.
    """
    if workers.cluster is not None and items:
        return on_cluster(workers.cluster, work, items, name=name, reach=reach, into=into)
    if workers.jobs == 1 or len(items) <= 1:
        return _here(work, items, reach)
    return _in_processes(work, items, min(workers.jobs, len(items)), name, reach)


def _here(work: Work[Item, Result], items: Sequence[Item], reach: Reach) -> Generator[Result, None, None]:
    for number, item in enumerate(items):
        result = work(item, lambda share, before=number: reach(before + share))  # type: ignore[misc]
        reach(number + 1)
        yield result


def _in_processes(
    work: Work[Item, Result], items: Sequence[Item], jobs: int, name: Callable[[Item], str], reach: Reach
) -> Generator[Result, None, None]:
    waiting, runs, shares = deque(range(len(items))), Counter[int](), [0.0] * len(items)
    processes: list[_Process] = []
    try:
        while len(processes) < jobs:
            processes.append(_Process(work))
        while waiting or any(process.number is not None for process in processes):
            for process in processes:
                if process.number is None and waiting:
                    process.begin(number := waiting.popleft(), items[number])
                    runs[number] += 1
            ready = wait([process.connection for process in processes if process.number is not None], LOOK_EVERY_S)
            for place, process in enumerate(processes):
                if process.connection not in ready or (at := process.number) is None:
                    continue
                try:
                    told = process.connection.recv()
                except (EOFError, OSError):
                    if runs[at] == _MOST_RUNS:
                        raise MaskACTError(
                            f"{name(items[at])}: its process {process.end()}; it was tried {_MOST_RUNS} times. Perhaps "
                            "there is too little memory: fewer --jobs need less"
                        ) from None
                    waiting.appendleft(at)
                    told = 0.0
                    processes[place] = _Process(work)
                if isinstance(told, bytes):
                    process.number, shares[at] = None, 1.0
                    yield result_of(told)
                else:
                    shares[at] = told
            reach(sum(shares))
    finally:
        for process in processes:
            process.connection.close()
        for process in processes:
            process.end()


class _Process:
    """A process that works on one item after the other, and ends when its connection is closed."""

    def __init__(self, work: Work[Any, Any]) -> None:
        context = get_context("spawn")  # graphics and torch's threads do not survive a fork
        self.number: int | None = None  # of the item in work
        self.connection: Connection[Any, Any]
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, work), daemon=True)
        with _interrupts_held():
            self._process.start()
        theirs.close()

    def begin(self, number: int, item: object) -> None:
        """Work on an item; that the process has died is found out when it is to answer."""
        self.number = number
        with contextlib.suppress(OSError):
            self.connection.send(item)

    def end(self) -> str:
        """Wait for the end of the process, and say what it was."""
        self._process.join()
        code = self._process.exitcode or 0
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"has ended with exit code {code}"


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """A process that begins meanwhile never gets Ctrl-C, which reaches all: this one sees to the end of the others."""
    resource_tracker.ensure_running()  # whose start would release what is held
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection[Any, Any], work: Work[Any, Any]) -> None:
    """In a worker process: work until the other end of the connection is closed, or its process is gone."""

    def tell(share: float) -> None:
        if connection.poll():  # nothing is sent to who works: it is closed
            raise StoppedError
        connection.send(share)

    with contextlib.suppress(EOFError, OSError):
        while True:
            item = connection.recv()
            connection.send(attempt(work, item, rarely(tell)))
