"""The command loop: a thread that calls a function at absolute deadlines on the steady clock.

In: a rate and a function. Out: its calls, never two for one deadline, with missed periods skipped and counted, and
`LoopSettings`, which say what the operating system permitted.
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

LOOP_PRIORITY = 50  # the kernel's own interrupt threads have this, too
SERVING_PRIORITY = (
    40  # of the thread that fills the loop's inbox: it must not be kept waiting with the GIL in its hands
)
DDS_PRIORITY = 30  # of DDS in the nodes that compute: its signs of life must not wait for a network
SWITCH_S = (
    1e-5  # after which a thread that wants the GIL is given it; with Python's own 5 ms a loop misses whole periods
)
KEEP_S = 2e-4  # the same while the loop runs: else whoever wants the GIL then takes it again and again
WARM_UP_TICKS = 50  # after which the garbage collector is taken over
COLLECT_EVERY_S = (0.1, 1.0, 10.0)  # for each generation of objects, the young ones first
SPARE_SHARE = 0.5  # of the time to the next deadline that a collection may take
MOST_HZ = 100_000.0  # beyond this a period is less than a wake-up takes anywhere
_libc = ctypes.CDLL(None, use_errno=True)


# Of a core at a time, asked for where SCHED_FIFO is not permitted: about what a call needs. Since Linux 6.12, who asks
# for less is served sooner after a wake-up.
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
    """Put the calling thread under SCHED_FIFO where that is permitted; says which scheduler is in force."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except PermissionError:
        return "normal, as SCHED_FIFO is not permitted (an rtprio limit for the user would permit it)"
    return f"SCHED_FIFO, priority {priority}"


@dataclass(frozen=True)
class LoopSettings:
    """What is in force for a loop, each in words that also say why it is no better."""

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

    After a call that took too long the next one comes at once, for the newest deadline that has passed; one more that
    takes too long, and the next comes at a deadline that lies ahead. Deadlines without a call are counted as missed.

    With `realtime` its thread goes before all normal ones, the process's memory stays in RAM, garbage is collected only
    right after a tick with time to spare, other threads get the GIL while it sleeps: where permitted; `settings` say
    what came of it. These are settings of the whole process, so it has one such loop at a time; `stop` undoes them.
    `cpu` pins the thread to that CPU.
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
        self.lateness_us: deque[float] = deque(maxlen=4096)  # of each wake-up
        self.failure: BaseException | None = None

    @property
    def rate_hz(self) -> float:
        """Calls a second. A change holds from the next call on: the deadline after that is a new period away."""
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
        """Begin, one period from now; `settings` hold when it returns."""
        ready = threading.Event()
        self._ready = ready
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        """End after the call in progress, and wait for that."""
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
        """Ask for all that is to be had; in the loop's thread."""
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
                # The newest deadline that has passed is met late, at once, but only after a call that was on time:
                # never caught up in a burst, and with calls that always take too long there is time left for others.
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
    """As `sleep_until_ns`; meanwhile who wants the GIL gets it soon, which includes this thread when it wakes up."""
    sys.setswitchinterval(SWITCH_S)
    sleep_until_ns(deadline_ns)
    sys.setswitchinterval(KEEP_S)


def prefer_other_threads(priority: int) -> list[int]:
    """Put the process's other threads of normal scheduling under SCHED_FIFO, where permitted; returns which."""
    raised = []
    for thread in map(int, os.listdir("/proc/self/task")):
        with contextlib.suppress(PermissionError, ProcessLookupError):  # one that has just ended
            if thread != threading.get_native_id() and os.sched_getscheduler(thread) == os.SCHED_OTHER:
                os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(priority))
                raised.append(thread)
    return raised


class _OtherThreads:
    """The process's other threads, such as those of DDS: they go before other processes, too, but behind the loop.

    Else one of them that holds a lock that the loop needs to publish waits for a core as long as others like: the loop
    stood still for a tenth of a second now and then on a busy machine.
    """

    def __init__(self) -> None:
        self._raised: list[int] = []

    def prefer(self) -> None:
        """Put those that are under normal scheduling under SCHED_FIFO, where permitted."""
        self._raised = prefer_other_threads(SERVING_PRIORITY)

    def give_back(self) -> None:
        """Put them back."""
        for thread in self._raised:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


class _Garbage:
    """Python's cyclic garbage, collected when the loop has time, because a collection stops all threads."""

    def __init__(self) -> None:
        self._taken_over = False
        self._due_ns = [0] * len(COLLECT_EVERY_S)
        self._took_ns = [0] * len(COLLECT_EVERY_S)  # the last time

    def take_over(self) -> None:
        """What there is now will be there as long as the process: never look at it again."""
        gc.disable()
        gc.freeze()
        self._taken_over = True

    def collect(self, now_ns: int, deadline_ns: int) -> None:
        """Collect one generation that is due, if it fits between now and the deadline as long as the last time."""
        for generation, due_ns in enumerate(self._due_ns):
            if now_ns >= due_ns and self._took_ns[generation] < SPARE_SHARE * (deadline_ns - now_ns):
                gc.collect(generation)
                self._took_ns[generation] = time.monotonic_ns() - now_ns
                self._due_ns[generation] = now_ns + round(COLLECT_EVERY_S[generation] * 1e9)
                return

    def give_back(self) -> None:
        """Let Python collect as it did before."""
        if self._taken_over:
            gc.unfreeze()
            gc.enable()


def _wish_for_short_slices() -> bool:
    """Ask for the calling thread to be served soon, for a short time each; older kernels agree and do nothing."""
    number = _SYS_SCHED_SETATTR.get(os.uname().machine)
    wish = _SchedulingAttributes(
        size=ctypes.sizeof(_SchedulingAttributes),
        policy=os.SCHED_OTHER,
        nice=os.getpriority(os.PRIO_PROCESS, 0),
        runtime=_SLICE_NS,
    )
    return number is not None and _libc.syscall(number, 0, ctypes.byref(wish), 0) == 0


def _pin(cpu: int | None) -> str:
    """Keep the calling thread on one CPU; says what is in force."""
    if cpu is None:
        return "any CPU"
    try:
        os.sched_setaffinity(0, {cpu})
    except (OSError, ValueError, OverflowError):
        allowed = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
        return f"any CPU, as there is no CPU {cpu} for this process (allowed: {allowed})"
    return f"CPU {cpu}"


def _lock_memory() -> str:
    """Keep what the process has touched, and will touch, in RAM; says what is in force."""
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit != resource.RLIM_INFINITY and not _may_lock_memory():
        # A finite limit would let allocations fail later, in the middle of a motion.
        return f"not locked, as at most {limit // 1024} KiB are permitted (memlock unlimited would permit it)"
    # On fault: else the unused stacks of all threads would become resident.
    if _libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT):
        return f"not locked ({os.strerror(ctypes.get_errno())})"
    return "locked"


def _may_lock_memory() -> bool:
    """Whether the process has the capability that no limit applies to."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name == "CapEff":
                return bool(int(value, 16) >> _CAP_IPC_LOCK & 1)
    return False


def _sharpen_timer() -> str:
    """Let the calling thread's sleeps end when they should, not up to 50 µs later to save power."""
    if _libc.prctl(_PR_SET_TIMERSLACK, 1):
        return f"as usual ({os.strerror(ctypes.get_errno())})"
    return "1 ns"
