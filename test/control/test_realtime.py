"""The command loop keeps its rate, never bursts, counts what it missed and keeps what ended it."""

import os
import signal
import threading
import time

import pytest

from maskact_ros.control.realtime import RateLoop, sleep_until_ns

MS = 1_000_000
LONG_S = 20.0  # more than a loaded machine needs


class Ticks:
    """A loop that notes each call, and says when there were enough of them."""

    def __init__(self, rate_hz: float, wanted: int, overrun_ns: int = 0):
        self.loop = RateLoop(rate_hz, self._tick, name="test")
        self.deadlines_ns: list[int] = []
        self.called_ns: list[int] = []
        self.missed_before: list[int] = []
        self._wanted, self._overrun_ns = wanted, overrun_ns
        self._enough = threading.Event()

    def run(self) -> None:
        self.loop.start()
        assert self._enough.wait(LONG_S)
        self.loop.stop()

    def _tick(self, deadline_ns: int) -> None:
        self.called_ns.append(time.monotonic_ns())
        self.missed_before.append(self.loop.misses)
        self.deadlines_ns.append(deadline_ns)
        if len(self.deadlines_ns) == 1:
            sleep_until_ns(deadline_ns + self._overrun_ns)
        if len(self.deadlines_ns) == self._wanted:
            self._enough.set()


def test_the_deadlines_are_a_grid_at_the_rate_and_each_is_met_or_missed():
    ticks = Ticks(100.0, wanted=100)
    began_ns = time.monotonic_ns()
    ticks.run()
    first_ns = ticks.deadlines_ns[0]
    assert began_ns + 10 * MS <= first_ns <= ticks.called_ns[0]
    met = range(len(ticks.deadlines_ns))
    places = [i + missed for i, missed in zip(met, ticks.missed_before, strict=True)]
    assert ticks.deadlines_ns == [first_ns + place * 10 * MS for place in places]


def test_a_call_comes_after_its_deadline_and_mostly_at_once():
    ticks = Ticks(100.0, wanted=30)
    ticks.run()
    late_ns = [called - deadline for called, deadline in zip(ticks.called_ns, ticks.deadlines_ns, strict=True)]
    assert min(late_ns) >= 0
    assert sorted(late_ns)[len(late_ns) // 2] < 10 * MS
    assert len(ticks.loop.lateness_us) == len(late_ns)
    assert all(us * 1e3 <= ns for us, ns in zip(ticks.loop.lateness_us, late_ns, strict=True))


@pytest.mark.parametrize(("periods", "missed"), [(0.5, 0), (1.5, 1), (3.5, 3)])
def test_a_tick_that_overruns_misses_exactly_the_deadlines_that_passed(periods, missed):
    period_ns = 400 * MS  # so long that the machine's own delays do not matter
    ticks = Ticks(1e9 / period_ns, wanted=2, overrun_ns=round(periods * period_ns))
    ticks.run()
    assert ticks.missed_before == [0, missed]
    first_ns, second_ns = ticks.deadlines_ns
    assert second_ns - first_ns == (missed + 1) * period_ns


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


def test_a_realtime_loop_says_which_scheduler_is_in_force():
    called, seen = threading.Event(), []

    def tick(_):
        seen.append(os.sched_getscheduler(0))
        called.set()

    loop = RateLoop(100.0, tick, name="test", realtime=True)
    loop.start()
    assert called.wait(LONG_S)
    loop.stop()
    assert seen[0] == (os.SCHED_FIFO if loop.scheduler.startswith("SCHED_FIFO") else os.SCHED_OTHER)
    assert loop.scheduler.startswith(("SCHED_FIFO, priority", "normal, as SCHED_FIFO is not permitted"))
