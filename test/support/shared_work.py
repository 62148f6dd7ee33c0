"""Work for the tests of `core.parallel`: functions that a worker process, or a worker of a cluster, imports."""

import os
import signal
import time
from pathlib import Path

from maskact_ros.core.errors import MaskACTError


def square(item, tick):
    tick(0.5)
    return item * item


def pid(item, tick):
    return os.getpid()


def die(notes, often, item, tick):
    """Write down that item 1 was begun, and die of it `often` times; the others are squared."""
    if item == 1:
        note(notes, "begun")
        if len(list(notes.iterdir())) <= often:
            os.kill(os.getpid(), signal.SIGKILL)
    return item * item


def refuse(notes, item, tick):
    if item == 1:
        note(notes, "begun")
        raise MaskACTError("bag 1 is empty", lines=["really"])
    return item


def stumble(item, tick):
    return [][item]


class UnreadableError(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def raise_unreadable(item, tick):
    raise UnreadableError("what cannot be unpickled", 2)


def go_on(notes, item, tick):
    """Tick until that ends it, and write down that it did."""
    note(notes, "begun")
    try:
        for _ in range(6000):
            tick(0.5)
            time.sleep(0.01)
    finally:
        note(notes, "ended")


def lacks_a_library(item, tick):
    import no_such_library  # noqa: F401


def in_parallel_twice(work, items, **_):
    """In the place of `in_parallel`: each item's worker dies when all is done, and before it can say so."""
    for item in items:
        work(item, lambda share: None)
        yield work(item, lambda share: None)


def note(folder: Path, what: str) -> None:
    (folder / f"{what}-{time.monotonic_ns()}-{os.getpid()}").touch()


def noted(folder: Path, what: str) -> int:
    return len(list(folder.glob(f"{what}-*")))
