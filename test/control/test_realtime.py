"""The command loop keeps its rate, never bursts, counts what it missed and keeps what ended it."""

import ctypes
import gc
import itertools
import os
import resource
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from maskact_ros.control import realtime
from maskact_ros.control.realtime import KEEP_S, SWITCH_S, WARM_UP_TICKS, LoopSettings, RateLoop, sleep_until_ns

MS = 1_000_000
LONG_S = 20.0  # more than a loaded machine needs


class Clock:
    """In the place of the steady clock: it goes on only when the loop sleeps or a tick takes time."""

    def __init__(self):
        self.now_ns = 100 * 10**9
        self.oversleeps_ns = itertools.repeat(0)

    def monotonic_ns(self) -> int:
        return self.now_ns

    def sleep_until_ns(self, deadline_ns: int) -> None:
        self.now_ns = max(self.now_ns, deadline_ns + next(self.oversleeps_ns))


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(realtime, "time", clock)
    monkeypatch.setattr(realtime, "sleep_until_ns", clock.sleep_until_ns)
    return clock


class Ticks:
    """A loop that notes as many calls as are wanted, and says when there were so many."""

    def __init__(self, rate_hz: float, wanted: int, overruns_ns: tuple[int, ...] = (), clock: Clock | None = None):
        self.loop = RateLoop(rate_hz, self._tick, name="test")
        self.deadlines_ns: list[int] = []
        self.called_ns: list[int] = []
        self.missed_before: list[int] = []
        self._wanted, self._overruns_ns = wanted, overruns_ns
        self._now_ns = clock.monotonic_ns if clock else time.monotonic_ns
        self._sleep_until_ns = clock.sleep_until_ns if clock else sleep_until_ns
        self._enough = threading.Event()

    def run(self) -> None:
        self.loop.start()
        assert self._enough.wait(LONG_S)
        self.loop.stop()

    def _tick(self, deadline_ns: int) -> None:
        if len(self.deadlines_ns) == self._wanted:
            return
        self.called_ns.append(self._now_ns())
        self.missed_before.append(self.loop.misses)
        self.deadlines_ns.append(deadline_ns)
        if len(self.deadlines_ns) <= len(self._overruns_ns):
            self._sleep_until_ns(deadline_ns + self._overruns_ns[len(self.deadlines_ns) - 1])
        if len(self.deadlines_ns) == self._wanted:
            self._enough.set()


def test_the_deadlines_are_a_grid_at_the_rate_and_each_is_met_or_missed(clock):
    late_ns = np.random.default_rng(0).exponential(8 * MS, 2000).astype(int).tolist()
    clock.oversleeps_ns = itertools.cycle(late_ns)
    ticks = Ticks(100.0, wanted=1000, clock=clock)
    began_ns = clock.now_ns
    ticks.run()
    first_ns = ticks.deadlines_ns[0]
    assert began_ns + 10 * MS == first_ns <= ticks.called_ns[0]
    assert ticks.missed_before[-1] > 10
    met = range(len(ticks.deadlines_ns))
    places = [i + missed for i, missed in zip(met, ticks.missed_before, strict=True)]
    assert ticks.deadlines_ns == [first_ns + place * 10 * MS for place in places]


def test_a_call_comes_after_its_deadline_and_its_lateness_is_noted():
    # In real time, and true under any load: how late a call comes is for `maskact bench control`.
    ticks = Ticks(100.0, wanted=30)
    ticks.run()
    late_ns = [called - deadline for called, deadline in zip(ticks.called_ns, ticks.deadlines_ns, strict=True)]
    assert min(late_ns) >= 0
    noted_us = list(ticks.loop.lateness_us)[: len(late_ns)]  # another call may come before the loop stops
    assert all(us * 1e3 <= ns for us, ns in zip(noted_us, late_ns, strict=True))


@pytest.mark.parametrize(("periods", "missed"), [(0.5, 0), (1.5, 0), (3.5, 2)])
def test_after_a_tick_that_overruns_the_newest_deadline_is_met_at_once_and_those_before_are_missed(
    clock, periods, missed
):
    period_ns = 10 * MS
    ticks = Ticks(1e9 / period_ns, wanted=2, overruns_ns=(round(periods * period_ns),), clock=clock)
    ticks.run()
    assert ticks.missed_before == [0, missed]
    first_ns, second_ns = ticks.deadlines_ns
    assert second_ns - first_ns == (missed + 1) * period_ns
    assert ticks.called_ns[1] == first_ns + max(1.0, periods) * period_ns


@pytest.mark.parametrize(("periods", "missed"), [(1.5, 1), (3.5, 3)])
def test_after_a_late_tick_that_overruns_too_the_next_one_waits_for_its_deadline(clock, periods, missed):
    period_ns = 10 * MS
    overruns_ns = (round(1.2 * period_ns), round(periods * period_ns))
    ticks = Ticks(1e9 / period_ns, wanted=3, overruns_ns=overruns_ns, clock=clock)
    ticks.run()
    assert ticks.missed_before == [0, 0, missed]
    assert ticks.deadlines_ns[2] - ticks.deadlines_ns[1] == (missed + 1) * period_ns
    assert ticks.called_ns[2] == ticks.deadlines_ns[2]


def test_what_a_tick_raises_ends_the_loop_and_is_kept():
    ended = RuntimeError("a joint came off")

    def tick(_):
        raise ended

    loop = RateLoop(1000.0, tick, name="test")
    loop.start()
    loop._thread.join(LONG_S)
    assert not loop._thread.is_alive()
    assert loop.failure is ended
    loop.stop()


def test_once_stopped_it_makes_no_further_call():
    ticks = Ticks(4.0, wanted=1)
    ticks.run()  # stops it while it waits for its second deadline
    assert len(ticks.called_ns) == 1
    assert not ticks.loop._thread.is_alive()
    assert ticks.loop.failure is None


def test_a_loop_that_never_started_can_be_stopped():
    Ticks(1000.0, wanted=1).loop.stop()


def test_a_sleep_that_signals_interrupt_still_ends_at_its_deadline():
    woken = []
    before = signal.signal(signal.SIGALRM, lambda *_: woken.append(time.monotonic_ns()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
        deadline_ns = time.monotonic_ns() + 100 * MS
        sleep_until_ns(deadline_ns)
        assert time.monotonic_ns() >= deadline_ns
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    assert min(woken) < deadline_ns


def test_a_deadline_that_has_passed_does_not_wait():
    began_s = time.monotonic()
    sleep_until_ns(0)
    assert time.monotonic() - began_s < LONG_S


def test_a_deadline_that_is_no_time_raises_instead_of_waiting_for_ever():
    with pytest.raises(OSError, match="Invalid argument"):
        sleep_until_ns(-1_000_000_000)


class Seen:
    """What holds inside the thread of a loop, at its tick number `at`."""

    def __init__(self, look, *, at=1, **options):
        self.loop = RateLoop(1000.0, self._tick, name="test", **options)
        self._look, self._at, self._ticks = look, at, 0
        self._seen = threading.Event()

    def __enter__(self):
        self.loop.start()
        assert self._seen.wait(LONG_S)
        return self

    def __exit__(self, *_):
        self.loop.stop()

    def _tick(self, _):
        self._ticks += 1
        if self._ticks == self._at:
            self.value = self._look()
            self._seen.set()


def test_a_realtime_loop_says_which_scheduler_is_in_force():
    with Seen(lambda: os.sched_getscheduler(0), realtime=True) as seen:
        scheduler = seen.loop.settings.scheduler
    assert seen.value == (os.SCHED_FIFO if scheduler.startswith("SCHED_FIFO") else os.SCHED_OTHER)
    assert scheduler.startswith(("SCHED_FIFO, priority", "normal, as SCHED_FIFO is not permitted"))


def test_the_other_threads_go_behind_the_loop_but_before_other_processes_until_it_stops():
    def look():
        return os.sched_getscheduler(os.getpid()), os.sched_getparam(os.getpid()).sched_priority

    with Seen(look, realtime=True) as seen:
        if not seen.loop.settings.scheduler.startswith("SCHED_FIFO"):
            pytest.skip("SCHED_FIFO is not permitted here")
    assert seen.value == (os.SCHED_FIFO, 40)
    assert os.sched_getscheduler(os.getpid()) == os.SCHED_OTHER


def test_a_plain_loop_leaves_the_process_as_it_is():
    with Seen(lambda: (os.sched_getscheduler(0), gc.isenabled()), at=WARM_UP_TICKS + 2) as seen:
        assert seen.loop.settings == LoopSettings(timer_slack="1 ns")
    assert seen.value == (os.SCHED_OTHER, True)


def test_a_realtime_loop_takes_over_the_garbage_and_gives_it_back():
    with Seen(gc.isenabled, at=WARM_UP_TICKS + 2, realtime=True) as seen:
        assert seen.loop.settings.garbage == "collected after ticks with time to spare"
    assert seen.value is False
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_a_realtime_loop_keeps_the_gil_while_it_runs_and_gives_way_while_it_sleeps():
    before_s = sys.getswitchinterval()
    with Seen(sys.getswitchinterval, realtime=True) as seen:
        while sys.getswitchinterval() != pytest.approx(SWITCH_S):
            assert seen.loop.failure is None
    assert seen.value == pytest.approx(KEEP_S)
    assert sys.getswitchinterval() == before_s


def test_garbage_of_a_realtime_loop_does_not_grow():
    class Knot:
        """Refers to itself, so that only the collector frees it."""

        alive = 0

        def __init__(self):
            Knot.alive += 1
            self.itself = self

        def __del__(self):
            Knot.alive -= 1

    made, many = 0, threading.Event()

    def tick(_):
        nonlocal made
        Knot()
        made += 1
        if made > WARM_UP_TICKS + 500 and Knot.alive < 400:
            many.set()

    loop = RateLoop(500.0, tick, name="test", realtime=True)
    loop.start()
    assert many.wait(LONG_S), f"{Knot.alive} of {made} objects are still there"
    loop.stop()


def test_the_timer_of_the_loop_is_sharp():
    prctl = ctypes.CDLL(None).prctl
    with Seen(lambda: prctl(30), realtime=False) as seen:  # PR_GET_TIMERSLACK
        assert seen.loop.settings.timer_slack == "1 ns"
    assert seen.value == 1


def test_a_loop_can_be_pinned_to_one_cpu():
    cpu = max(os.sched_getaffinity(0))
    with Seen(lambda: os.sched_getaffinity(0), cpu=cpu) as seen:
        assert seen.loop.settings.affinity == f"CPU {cpu}"
    assert seen.value == {cpu}


@pytest.mark.parametrize("cpu", [1023, 10**9, -1])
def test_a_cpu_that_is_not_there_is_said_and_does_no_harm(cpu):
    allowed = os.sched_getaffinity(0)
    with Seen(lambda: os.sched_getaffinity(0), cpu=cpu) as seen:
        assert seen.loop.settings.affinity.startswith(f"any CPU, as there is no CPU {cpu} for this process")
    assert seen.value == allowed


def test_without_any_right_the_loop_runs_and_says_what_it_lacks(tmp_path):
    script = """
import threading
from maskact_ros.control.realtime import RateLoop
ticked = threading.Event()
loop = RateLoop(200.0, lambda _: ticked.set(), name="test", realtime=True)
loop.start()
assert ticked.wait(20)
print(loop.settings.text)
loop.stop()
"""

    def without_rights():
        resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
        for capability in (14, 23):  # CAP_IPC_LOCK, CAP_SYS_NICE
            ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, preexec_fn=without_rights
    )
    assert done.returncode == 0, done.stderr
    assert "scheduler: normal, as SCHED_FIFO is not permitted" in done.stdout
    assert "short slices of 0.7 ms asked for" in done.stdout or os.uname().machine not in ("x86_64", "aarch64")
    assert "memory: not locked, as at most 64 KiB are permitted" in done.stdout
    assert "timer slack: 1 ns" in done.stdout


@pytest.mark.parametrize(("before_hz", "after_hz"), [(20.0, 200.0), (200.0, 20.0), (100.0, 150.0)])
def test_the_rate_changes_between_two_calls_without_a_burst_or_a_gap(before_hz, after_hz):
    deadlines_ns, changed_at, enough = [], None, threading.Event()

    def tick(deadline_ns):
        nonlocal changed_at
        deadlines_ns.append((deadline_ns, loop.misses))
        if len(deadlines_ns) == 10:
            changed_at = len(deadlines_ns)
            loop.rate_hz = after_hz
        if len(deadlines_ns) == 20:
            enough.set()

    loop = RateLoop(before_hz, tick, name="test")
    loop.start()
    assert enough.wait(LONG_S)
    loop.stop()
    assert changed_at == 10
    for i in range(1, 20):
        (before_ns, missed_before), (after_ns, missed) = deadlines_ns[i - 1 : i + 1]
        period_ns = round(1e9 / (before_hz if i < 10 else after_hz))
        assert after_ns - before_ns == (1 + missed - missed_before) * period_ns


def test_a_change_from_another_thread_waits_for_no_more_than_the_old_period():
    called, changed = threading.Event(), threading.Event()
    deadlines_ns = []

    def tick(deadline_ns):
        deadlines_ns.append(deadline_ns)
        called.set()
        if len(deadlines_ns) > 50:
            changed.set()

    loop = RateLoop(2.0, tick, name="test")
    loop.start()
    assert called.wait(LONG_S)
    loop.rate_hz = 1000.0
    assert changed.wait(LONG_S)
    loop.stop()
    # The deadline that it slept for when the rate changed may be of the old rate; none after it.
    assert sum(after - before >= 500 * MS for before, after in itertools.pairwise(deadlines_ns)) <= 1


@pytest.mark.parametrize("rate_hz", [0.0, -1.0, float("nan"), float("inf"), 1e6])
def test_a_rate_that_is_none_is_refused_and_the_old_one_stays(rate_hz):
    with pytest.raises(ValueError, match="the loop's rate is"):
        RateLoop(rate_hz, lambda _: None, name="test")
    loop = RateLoop(100.0, lambda _: None, name="test")
    with pytest.raises(ValueError, match="the loop's rate is"):
        loop.rate_hz = rate_hz
    assert loop.rate_hz == 100.0
