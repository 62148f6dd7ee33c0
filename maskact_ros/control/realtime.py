"""The command loop: a thread that calls a function at absolute deadlines on the steady clock.

In: a rate and a function. Out: its calls, never two for one deadline, with missed periods skipped and counted.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
import time
from collections import deque
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_TIMER_ABSTIME = 1
LOOP_PRIORITY = 50  # the kernel's own interrupt threads have this, too
SERVING_PRIORITY = (
    40  # of the thread that fills the loop's inbox: it must not be kept waiting with the GIL in its hands
)
SWITCH_S = 2e-4  # after which a thread that wants the GIL is given it; Python's own 5 ms is half of a period
_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def sleep_until_ns(deadline_ns: int) -> None:
    """Sleep until `time.monotonic_ns()` reaches the deadline; other threads run meanwhile."""
    at = _Timespec(deadline_ns // 1_000_000_000, deadline_ns % 1_000_000_000)
    while error := _libc.clock_nanosleep(_CLOCK_MONOTONIC, _TIMER_ABSTIME, ctypes.byref(at), None):
        if error != errno.EINTR:  # else a signal woke us; the deadline is absolute, so nothing drifts
            raise OSError(error, os.strerror(error))


def prefer_realtime(priority: int) -> str:
    """Put the calling thread under SCHED_FIFO where that is permitted; says which scheduler is in force."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except PermissionError:
        return "normal, as SCHED_FIFO is not permitted (an rtprio limit for the user would permit it)"
    return f"SCHED_FIFO, priority {priority}"


class RateLoop:
    """Calls `tick(deadline_ns)` at a fixed rate until it is stopped, or until tick raises.

    With `realtime` its thread goes before all normal ones, where permitted; `scheduler` says what came of it.
    """

    def __init__(self, rate_hz: float, tick: Callable[[int], None], *, name: str, realtime: bool = False):
        self._period_ns = round(1e9 / rate_hz)
        self._tick = tick
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._realtime = realtime
        self.scheduler = "normal"
        self.misses = 0  # periods that were skipped because their deadline had passed
        self.lateness_us: deque[float] = deque(maxlen=4096)  # of each wake-up
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Begin, one period from now."""
        self._thread.start()

    def stop(self) -> None:
        """End after the call in progress, and wait for that."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        if self._realtime:
            self.scheduler = prefer_realtime(LOOP_PRIORITY)
        deadline_ns = time.monotonic_ns() + self._period_ns
        try:
            sleep_until_ns(deadline_ns)
            while not self._stop.is_set():
                late_ns = time.monotonic_ns() - deadline_ns
                self.lateness_us.append(late_ns / 1e3)
                self._tick(deadline_ns)
                deadline_ns += self._period_ns
                behind = (time.monotonic_ns() - deadline_ns) // self._period_ns
                if behind >= 0:
                    # Never caught up in a burst: the next call is at the next deadline that lies ahead.
                    self.misses += behind + 1
                    deadline_ns += (behind + 1) * self._period_ns
                sleep_until_ns(deadline_ns)
        except BaseException as failure:  # noqa: BLE001 - kept for the thread that owns the loop to raise
            self.failure = failure
