"""Work on the workers of a dask cluster, as `parallel` does it in processes of this machine.

In: the scheduler's address, a function and its items. Out: the results, as they come. dask runs an item again when its
worker dies; here is what it does not do: compare the machines, show progress within an item, stop what is in work.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import logging
import pickle
import queue
import sys
import time
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from maskact_ros import __version__
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.folders import FolderError
from maskact_ros.core.work import LOOK_EVERY_S, Item, Result, StoppedError, Work, attempt, rarely, result_of

CONNECT_S = 10.0  # for a scheduler to answer
PATIENCE_S = 30.0  # without any worker, and at the end for items that are in work
# What computes, or writes what is kept. Who lacks one of them may still have all that a command needs.
_LIBRARIES = ("av", "mujoco", "numpy", "onnxruntime", "opencv-python-headless", "pyarrow", "rosbags", "torch")
_ENDED = -1.0  # told by a worker in the place of a share


def check_address(address: str) -> None:
    """Raise MaskACTError on what is not the address of a scheduler."""
    try:
        parts = urlsplit(address)
        sound = parts.scheme in ("tcp", "tls") and parts.hostname and parts.port
        if sound and f"{parts.scheme}://{parts.netloc}" == address and "@" not in address:
            return
    except ValueError:
        pass
    raise MaskACTError(
        f"--cluster is {address!r}; allowed: tcp://HOST:PORT or tls://HOST:PORT, such as tcp://host:8786"
    )


def on_cluster(
    address: str,
    work: Work[Item, Result],
    items: Sequence[Item],
    *,
    name: Callable[[Item], str],
    reach: Callable[[float], None],
    into: Path | None,
) -> Generator[Result, None, None]:
    """As `parallel.in_parallel`, which says what the arguments are."""
    with _connected(address) as client, _mark(into) as mark:
        tasks = _Tasks(client, address, work, mark)
        waiting = deque(range(len(items)))
        try:
            while waiting or tasks.open:
                for _ in range(min(len(waiting), tasks.room())):
                    number = waiting.popleft()
                    tasks.begin(number, items[number])
                for number, outcome in tasks.ended(lambda number: name(items[number])):
                    if outcome is None:
                        waiting.appendleft(number)
                    else:
                        yield result_of(outcome)
                reach(tasks.done)
        finally:
            tasks.stop()


class _Tasks:
    """The items that the cluster has in work: one for each worker, so that none is blamed for the death of another's.

    To dask, a task is a call of `pickle.loads`: unpickling makes the call. The scheduler, which looks into all that it
    passes on, so needs neither this package nor what the work imports.
    """

    def __init__(self, client: Any, address: str, work: Work[Any, Any], mark: Path | None) -> None:
        self.open: dict[Any, int] = {}  # futures, and the numbers of their items
        self._client, self._address, self._work, self._mark = client, address, work, mark
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._results = 0
        self._begun = itertools.count()  # for keys that are new each time
        self._shares: dict[int, tuple[str, float]] = {}  # of the items in work: on which worker, and how far
        self._topic = f"maskact-{uuid.uuid4().hex[:12]}"
        self._alone_s: float | None = None  # since when there is no worker
        client.subscribe_topic(self._topic, self._told)

    @property
    def done(self) -> float:
        """How many items are done, with the shares of those in work."""
        return self._results + sum(share for _, share in tuple(self._shares.values()))

    def room(self) -> int:
        """How many more items can begin; raises MaskACTError when the cluster is gone."""
        try:
            workers = len(self._client.nthreads())
        except (OSError, TimeoutError):
            raise self._lost() from None
        now_s = time.monotonic()
        if workers:
            self._alone_s = None
        elif self._alone_s is None:
            self._alone_s = now_s
        elif now_s >= self._alone_s + PATIENCE_S:
            raise MaskACTError(
                f"--cluster {self._address}: it has had no worker for {PATIENCE_S:.0f} s; "
                f"start some: dask worker {self._address} --nthreads 1"
            )
        return max(0, workers - len(self.open))

    def begin(self, number: int, item: object) -> None:
        """Hand an item to the cluster."""
        order = _Order(self._topic, number, pickle.dumps((self._work, item)), self._mark, versions())
        key = f"{self._topic}-{number}-{next(self._begun)}"
        future = self._client.submit(pickle.loads, pickle.dumps(order), key=key, pure=False)
        self.open[future] = number
        future.add_done_callback(self._ended.put)

    def ended(self, name: Callable[[int], str]) -> Iterator[tuple[int, bytes | None]]:
        """Items that have ended, after a short wait: what came of them; None for those to begin anew."""
        with contextlib.suppress(queue.Empty):
            future = self._ended.get(timeout=LOOK_EVERY_S)
            while True:
                number = self.open.pop(future)
                self._shares.pop(number, None)
                outcome = self._outcome(future, name, number)
                self._results += outcome is not None
                yield number, outcome
                future = self._ended.get_nowait()

    def _outcome(self, future: Any, name: Callable[[int], str], number: int) -> bytes | None:
        from distributed.scheduler import KilledWorker

        if future.status == "finished":
            try:
                outcome: bytes = future.result(timeout=CONNECT_S)
            except TimeoutError:  # its worker died before it could hand over the result
                return None
            except (asyncio.CancelledError, concurrent.futures.CancelledError):
                raise self._lost() from None
            return outcome
        if future.status != "error":
            raise self._lost()
        error = future.exception()
        if isinstance(error, KilledWorker):
            raise MaskACTError(
                f"{name(number)}: {error.allowed_failures + 1} workers have died over it, the last one "
                f"{error.last_worker.address}; perhaps there is too little memory"
            )
        if isinstance(error, ImportError | AttributeError):
            raise MaskACTError(
                f"--cluster {self._address}: a worker cannot load maskact_ros as it is here ({error}); "
                f"install maskact_ros {__version__} where the workers are, and start them anew"
            )
        raise error

    def stop(self) -> None:
        """Cancel what has not ended, and wait for items that are in work: at a tick or their end, they notice."""
        if self._client.status != "running":
            return
        until_s = time.monotonic() + PATIENCE_S
        with contextlib.suppress(OSError, TimeoutError):  # of a scheduler that is gone
            self._client.cancel(list(self.open))
            while self._workers_of_items() & self._client.nthreads().keys() and time.monotonic() < until_s:
                time.sleep(0.02)

    def _workers_of_items(self) -> set[str]:
        return {worker for worker, _ in tuple(self._shares.values())}

    def _told(self, event: tuple[float, tuple[int, str, float]]) -> None:
        """From a worker, in a thread of the client."""
        _, (number, worker, share) = event
        if share == _ENDED:
            self._shares.pop(number, None)
        else:
            self._shares[number] = worker, share

    def _lost(self) -> MaskACTError:
        return MaskACTError(f"--cluster {self._address}: the scheduler is gone")


@dataclass(frozen=True)
class _Order:
    """What a worker is sent; it is carried out where it is unpickled, and its outcome's bytes are what one gets."""

    topic: str
    number: int
    call: bytes  # work and item
    mark: Path | None
    versions: Mapping[str, str]

    def __reduce__(self) -> tuple[Any, ...]:
        return _carry_out, (self.topic, self.number, self.call, self.mark, self.versions)


def _carry_out(topic: str, number: int, call: bytes, mark: Path | None, versions_there: Mapping[str, str]) -> bytes:
    """In a worker: one item."""
    from distributed import get_worker

    worker = get_worker()
    task = worker.get_current_task()

    def tell(share: float) -> None:
        state = worker.state.tasks.get(task)
        if state is None or state.state == "cancelled":  # by who wanted it, or because that one is gone
            raise StoppedError
        worker.log_event(topic, (number, worker.address, share))

    def work(call: bytes, tick: Callable[[float], None]) -> Any:
        _check_worker(worker, mark, versions_there)
        try:
            function, item = pickle.loads(call)  # noqa: S301 dask runs what it is sent anyway
            return function(item, tick)
        except MaskACTError as error:
            error.lines += (f"on the worker {worker.address}, which must see the same files as this machine",)
            raise
        except ImportError as error:
            raise MaskACTError(
                f"the worker {worker.address} cannot import {error.name}; install maskact_ros there as it is here"
            ) from None

    worker.log_event(topic, (number, worker.address, 0.0))
    try:
        return attempt(work, call, rarely(tell))
    finally:
        worker.log_event(topic, (number, worker.address, _ENDED))


def _check_worker(worker: Any, mark: Path | None, versions_there: Mapping[str, str]) -> None:
    """Raise MaskACTError when this worker would not do what the machine of the command does."""
    found = versions()
    differ = [
        f"{name} {found[name]}, not {version}"
        for name, version in versions_there.items()
        if found.get(name, version) != version
    ]
    if differ:
        raise MaskACTError(
            f"the worker {worker.address} has other versions than this machine: {'; '.join(differ)}; install the same "
            "and start it anew"
        )
    if worker.state.nthreads != 1:
        raise MaskACTError(
            f"the worker {worker.address} has {worker.state.nthreads} threads, and our work needs a process for each "
            "item; start it with --nthreads 1, and with --nworkers for more processes"
        )
    if mark is not None and not mark.exists():
        raise MaskACTError(
            f"the worker {worker.address} does not see {mark.parent} of this machine; it must be on a file system that "
            "all share, under the same path"
        )


@cache
def versions() -> dict[str, str]:
    """Of what results depend on; builds of one version, such as +cpu, count as the same."""
    found = {"maskact_ros": __version__, "Python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for name in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name).partition("+")[0]
    return found


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Any]:
    """A client of the scheduler; raises MaskACTError when none answers."""
    try:
        from distributed import Client
    except ImportError:
        raise MaskACTError('--cluster needs dask.distributed: pip install "maskact_ros[cluster]"') from None
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == "distributed":  # what matters, we say ourselves
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        asyncio.run(_greet(address))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about versions, which workers compare themselves
            client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except Exception as error:  # noqa: BLE001 whatever someone who is no scheduler has answered
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MaskACTError(
            f"--cluster {address}: no dask scheduler answered within {CONNECT_S:.0f} s ({reason})"
        ) from None
    try:
        yield client
    finally:
        client.close(timeout=CONNECT_S)


async def _greet(address: str) -> None:
    """Ask the scheduler who it is; the client itself would wait for ever for one that accepts and is silent."""
    from distributed.core import rpc

    async with asyncio.timeout(CONNECT_S), rpc(address, timeout=CONNECT_S) as scheduler:
        await scheduler.identity()


@contextlib.contextmanager
def _mark(folder: Path | None) -> Iterator[Path | None]:
    """A file in the folder, by which a worker knows that it sees the same one; raises FolderError."""
    if folder is None:
        yield None
        return
    mark = folder / f"seen-by-workers-{uuid.uuid4().hex}"
    try:
        mark.touch(exist_ok=False)
    except OSError as error:
        raise FolderError(f"{folder}: cannot be written ({error.strerror})") from None
    try:
        yield mark
    finally:
        mark.unlink(missing_ok=True)
