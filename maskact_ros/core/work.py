"""One item's work, wherever it is done: in this process, in another one, or on another machine.

In: a function, its item, and a `Tick` to say how far it is. Out: bytes, which hold the result or the exception.
"""

from __future__ import annotations

import pickle
import time
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from maskact_ros.core.errors import MaskACTError

Item = TypeVar("Item")
Result = TypeVar("Result")
Tick = Callable[[float], None]  # takes the share that is done, from 0 to 1
Work = Callable[[Item, Tick], Result]
LOOK_EVERY_S = 0.2  # how often a worker tells how far it is, and looks whether its work is still wanted


class StoppedError(Exception):
    """A `Tick` raises it in a worker whose result nobody wants any more."""


def attempt(work: Work[Item, Result], item: Item, tick: Tick) -> bytes:
    """Do the work; what came of it, for `result_of`."""
    try:
        return pickle.dumps((work(item, tick), None))
    except Exception as error:  # noqa: BLE001 raised again by result_of
        return pickle.dumps((None, _portable(error)))


def result_of(outcome: bytes) -> Any:
    """The result of an `attempt`; raises what the work has raised."""
    result, error = pickle.loads(outcome)  # noqa: S301 our own worker's
    if error is not None:
        raise error
    return result


def rarely(tick: Tick) -> Tick:
    """The same, for work that ticks often: called every LOOK_EVERY_S at most."""
    next_s = time.monotonic() + LOOK_EVERY_S

    def seldom(share: float) -> None:
        nonlocal next_s
        if (now_s := time.monotonic()) >= next_s:
            next_s = now_s + LOOK_EVERY_S
            tick(share)

    return seldom


def _portable(error: Exception) -> Exception:
    """The error as it can be sent; that of a bug with the stack that is lost on the way."""
    if not isinstance(error, MaskACTError):
        error.add_note("".join(traceback.format_exception(error)).rstrip())
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 some can be written and not read
    except Exception:  # noqa: BLE001 whatever its class does when it is pickled
        return RuntimeError("".join(traceback.format_exception(error)).rstrip())
    return error
