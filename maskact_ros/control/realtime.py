"""The command loop: a thread that calls a function at absolute deadlines on the steady clock.

In: a rate and a function. Out: calls of the function, at most one for each deadline; missed periods are skipped and
counted. `LoopSettings` say which settings the operating system permitted.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import os
import resource
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_CLOCK_MONOTONIC = 1
_TIMER_ABSTIME = 1
_PR_SET_TIMERSLACK = 29
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_CAP_IPC_LOCK = 14

LOOP_PRIORITY = 50  # as the kernel's own interrupt threads
SERVING_PRIORITY = 40  # of the thread that fills the loop's inbox: it must not wait for a core while it holds the GIL
DDS_PRIORITY = 30  # of DDS in the nodes that compute: its signs of life must not wait for a network's computation
SWITCH_S = (
    1e-5  # a thread that waits for the GIL gets it after this time; with Python's default of 5 ms periods are missed
)
KEEP_S = 2e-4  # the same while the loop's function runs: else other threads take the GIL from it again and again
WARM_UP_TICKS = 50  # after this many ticks the loop controls the garbage collector
COLLECT_EVERY_S = (0.1, 1.0, 10.0)  # for each generation of objects, the young ones first
SPARE_SHARE = 0.5  # largest share of the time to the next deadline for a collection
MOST_HZ = 100_000.0  # beyond this a period is shorter than any machine's wake-up takes
_libc = ctypes.CDLL(None, use_errno=True)


# Time slice to ask for where SCHED_FIFO is not permitted: about the duration of a call. Since Linux 6.12, a thread with
# a shorter slice runs sooner after its wake-up.
_SLICE_NS = 700_000
_SYS_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}


class _SchedulingAttributes(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def sleep_until_ns(deadline_ns: int) -> None:
    """Sleep until `time.monotonic_ns()` reaches the deadline; other threads run meanwhile."""
    at = _Timespec(deadline_ns // 1_000_000_000, deadline_ns % 1_000_000_000)
    while error := _libc.clock_nanosleep(_CLOCK_MONOTONIC, _TIMER_ABSTIME, ctypes.byref(at), None):
        if error != errno.EINTR:  # else a signal woke us; the deadline is absolute, so nothing drifts
            raise OSError(error, os.strerror(error))


def prefer_realtime(priority: int) -> str:
    """Put the calling thread under SCHED_FIFO if that is permitted; return in words which scheduler is in force."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except PermissionError:
        return "normal, as SCHED_FIFO is not permitted (an rtprio limit for the user would permit it)"
    return f"SCHED_FIFO, priority {priority}"


@dataclass(frozen=True)
class LoopSettings:
    """The settings in force for a loop, in words, with the reason if a better one was not permitted."""

    scheduler: str = "normal"
    affinity: str = "any CPU"
    memory: str = "not locked"
    timer_slack: str = "as usual"
    garbage: str = "collected at any time"

    @property
    def text(self) -> str:
        """One line for the log."""
        return (
            f"scheduler: {self.scheduler}; affinity: {self.affinity}; memory: {self.memory}; "
            f"timer slack: {self.timer_slack}; garbage: {self.garbage}"
        )


class RateLoop:
    """Calls `tick(deadline_ns)` at a fixed rate until it is stopped, or until tick raises.

    After a call that took too long the next call comes at once, for the newest deadline that has passed. If that call
    takes too long, too, the next one waits for a future deadline. Deadlines without a call are counted as missed.

    With `realtime`, where permitted, the thread has priority over all normal ones, and the process's memory stays in
    RAM. Garbage is collected only after a tick with time to spare, and other threads get the GIL while the loop sleeps.
    `settings` say what was permitted. These settings are the whole process's, so a process has one such loop at a time;
    `stop` undoes them. `cpu` pins the thread to that CPU.
    """

    def __init__(
        self,
        rate_hz: float,
        tick: Callable[[int], None],
        *,
        name: str,
        realtime: bool = False,
        cpu: int | None = None,
    ):
        self.rate_hz = rate_hz
        self._tick = tick
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._realtime = realtime
        self._cpu = cpu
        self.settings = LoopSettings()
        self.misses = 0  # periods that were skipped because their deadline had passed
        self.lateness_us: deque[float] = deque(maxlen=4096)  # delay of each wake-up
        self.failure: BaseException | None = None

    @property
    def rate_hz(self) -> float:
        """Calls per second. After a change the next call keeps its deadline; the one after it is a new period later."""
        return self._rate_hz

    @rate_hz.setter
    def rate_hz(self, rate_hz: float) -> None:
        if not 0 < rate_hz <= MOST_HZ:
            raise ValueError(f"the loop's rate is {rate_hz} Hz; allowed: > 0 and <= {MOST_HZ:g}")
        self._rate_hz = rate_hz
        self._period_ns = round(1e9 / rate_hz)

    @property
    def scheduler(self) -> str:
        """Which scheduler is in force."""
        return self.settings.scheduler

    def start(self) -> None:
        """Begin, with the first call one period from now; `settings` are valid when this returns."""
        ready = threading.Event()
        self._ready = ready
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        """End after the present call, and wait for the end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        garbage, others, switch_s = _Garbage(), _OtherThreads(), sys.getswitchinterval()
        try:
            self.settings = self._prepare()
            if self._realtime:
                others.prefer()
            self._ready.set()
            self._loop(garbage)
        except BaseException as failure:  # noqa: BLE001 - kept for the thread that owns the loop to raise
            self.failure = failure
        finally:
            self._ready.set()
            if self._realtime:
                garbage.give_back()
                others.give_back()
                sys.setswitchinterval(switch_s)
                _libc.munlockall()

    def _prepare(self) -> LoopSettings:
        """Ask the operating system for all real-time settings; in the loop's thread."""
        scheduler = prefer_realtime(LOOP_PRIORITY) if self._realtime else "normal"
        if self._realtime and os.sched_getscheduler(0) != os.SCHED_FIFO and _wish_for_short_slices():
            scheduler += f"; short slices of {_SLICE_NS / 1e6:g} ms asked for"
        return LoopSettings(
            scheduler=scheduler,
            affinity=_pin(self._cpu),
            memory=_lock_memory() if self._realtime else "not locked",
            timer_slack=_sharpen_timer(),
            garbage="collected after ticks with time to spare" if self._realtime else "collected at any time",
        )

    def _loop(self, garbage: _Garbage) -> None:
        ticks, on_time = 0, True
        sleep = _sleep_and_give_way if self._realtime else sleep_until_ns
        deadline_ns = time.monotonic_ns() + self._period_ns
        sleep(deadline_ns)
        while not self._stop.is_set():
            late_ns = time.monotonic_ns() - deadline_ns
            self.lateness_us.append(late_ns / 1e3)
            self._tick(deadline_ns)
            period_ns = self._period_ns  # read once, as any thread may change it
            deadline_ns += period_ns
            now_ns = time.monotonic_ns()
            if now_ns >= deadline_ns:
                # After a call that was on time, the newest deadline that has passed is served late, at once. Else it is
                # skipped. So missed calls never come in a burst, and slow calls leave time to other threads.
                passed = (now_ns - deadline_ns) // period_ns + (0 if on_time else 1)
                self.misses += passed
                deadline_ns += passed * period_ns
            on_time = now_ns < deadline_ns
            if self._realtime:
                ticks += 1
                if ticks == WARM_UP_TICKS:
                    garbage.take_over()
                elif ticks > WARM_UP_TICKS:
                    garbage.collect(now_ns, deadline_ns)
            sleep(deadline_ns)


def _sleep_and_give_way(deadline_ns: int) -> None:
    """As `sleep_until_ns`, with a short switch interval: all threads get the GIL soon, this one, too, on wake-up."""
    sys.setswitchinterval(SWITCH_S)
    sleep_until_ns(deadline_ns)
    sys.setswitchinterval(KEEP_S)


def prefer_other_threads(priority: int) -> list[int]:
    """Put the process's other normal threads under SCHED_FIFO, if permitted; return their ids."""
    raised = []
    for thread in map(int, os.listdir("/proc/self/task")):
        with contextlib.suppress(PermissionError, ProcessLookupError):  # one that has just ended
            if thread != threading.get_native_id() and os.sched_getscheduler(thread) == os.SCHED_OTHER:
                os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(priority))
                raised.append(thread)
    return raised


class _OtherThreads:
    """The process's other threads, such as those of DDS: they get priority over other processes, but below the loop.

    One of them may hold a lock that the loop needs to publish. At normal priority it may have to wait for a core: on a
    busy machine the loop sometimes stood still for 0.1 s.
    """

    def __init__(self) -> None:
        self._raised: list[int] = []

    def prefer(self) -> None:
        """Put the threads of normal scheduling under SCHED_FIFO, if permitted."""
        self._raised = prefer_other_threads(SERVING_PRIORITY)

    def give_back(self) -> None:
        """Put these threads back under normal scheduling."""
        for thread in self._raised:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


class _Garbage:
    """Collects Python's cyclic garbage when the loop has time, because a collection stops all threads."""

    def __init__(self) -> None:
        self._taken_over = False
        self._due_ns = [0] * len(COLLECT_EVERY_S)
        self._took_ns = [0] * len(COLLECT_EVERY_S)  # duration of the last collection

    def take_over(self) -> None:
        """Stop automatic collection. Exclude all present objects from it: they live as long as the process."""
        gc.disable()
        gc.freeze()
        self._taken_over = True

    def collect(self, now_ns: int, deadline_ns: int) -> None:
        """Collect one generation that is due, if it fits before the deadline, judged by its last duration."""
        for generation, due_ns in enumerate(self._due_ns):
            if now_ns >= due_ns and self._took_ns[generation] < SPARE_SHARE * (deadline_ns - now_ns):
                gc.collect(generation)
                self._took_ns[generation] = time.monotonic_ns() - now_ns
                self._due_ns[generation] = now_ns + round(COLLECT_EVERY_S[generation] * 1e9)
                return

    def give_back(self) -> None:
        """Return to Python's automatic collection."""
        if self._taken_over:
            gc.unfreeze()
            gc.enable()


def _wish_for_short_slices() -> bool:
    """Ask for short time slices for the calling thread, so that it runs sooner; older kernels ignore this."""
    number = _SYS_SCHED_SETATTR.get(os.uname().machine)
    wish = _SchedulingAttributes(
        size=ctypes.sizeof(_SchedulingAttributes),
        policy=os.SCHED_OTHER,
        nice=os.getpriority(os.PRIO_PROCESS, 0),
        runtime=_SLICE_NS,
    )
    return number is not None and _libc.syscall(number, 0, ctypes.byref(wish), 0) == 0


def _pin(cpu: int | None) -> str:
    """Pin the calling thread to one CPU; return in words what is in force."""
    if cpu is None:
        return "any CPU"
    try:
        os.sched_setaffinity(0, {cpu})
    except (OSError, ValueError, OverflowError):
        allowed = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
        return f"any CPU, as there is no CPU {cpu} for this process (allowed: {allowed})"
    return f"CPU {cpu}"


def _lock_memory() -> str:
    """Keep the process's present and future memory in RAM; return in words what is in force."""
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit != resource.RLIM_INFINITY and not _may_lock_memory():
        # A finite limit would let allocations fail later, in the middle of a motion.
        return f"not locked, as at most {limit // 1024} KiB are permitted (memlock unlimited would permit it)"
    # MCL_ONFAULT, because else the unused stacks of all threads would become resident.
    if _libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT):
        return f"not locked ({os.strerror(ctypes.get_errno())})"
    return "locked"


def _may_lock_memory() -> bool:
    """Whether the process has the capability CAP_IPC_LOCK, to which no limit applies."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name == "CapEff":
                return bool(int(value, 16) >> _CAP_IPC_LOCK & 1)
    return False


def _sharpen_timer() -> str:
    """Set the calling thread's timer slack to its minimum: by default sleeps may end 50 µs late, to save power."""
    if _libc.prctl(_PR_SET_TIMERSLACK, 1):
        return f"as usual ({os.strerror(ctypes.get_errno())})"
    return "1 ns"
