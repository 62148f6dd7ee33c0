"""The command loop keeps its rate, never bursts, counts what it missed and keeps what ended it."""

import signal
import threading
import time

import pytest

from maskact_ros.control.realtime import RateLoop, sleep_until_ns

MS = 1_000_000
LONG_S = 20.0  # more than a loaded machine needs


class Ticks:
    """Notes its deadlines, and says when there were enough of them."""

    def __init__(self, wanted: int):
        self.deadlines_ns: list[int] = []
        self.called_ns: list[int] = []
        self.enough = threading.Event()
        self._wanted = wanted

    def __call__(self, deadline_ns: int) -> None:
        self.called_ns.append(time.monotonic_ns())
        self.deadlines_ns.append(deadline_ns)
        if len(self.deadlines_ns) == self._wanted:
            self.enough.set()


def test_the_deadlines_are_a_grid_at_the_rate_and_each_is_met_or_missed():
    ticks = Ticks(100)
    loop = RateLoop(100.0, ticks, name="test")
    began_ns = time.monotonic_ns()
    loop.start()
    assert ticks.enough.wait(LONG_S)
    loop.stop()
    steps = [(deadline_ns - ticks.deadlines_ns[0]) / (10 * MS) for deadline_ns in ticks.deadlines_ns]
    assert all(step.is_integer() for step in steps)
    assert steps == sorted(set(steps)), "two calls for one deadline"
    assert len(steps) + loop.misses == pytest.approx(steps[-1] + 1, abs=1)  # abs: a miss after the last call
    lasted_s = (ticks.called_ns[-1] - began_ns) / 1e9
    assert (steps[-1] + 1) / lasted_s == pytest.approx(100.0, rel=0.02)
    assert all(called >= deadline for called, deadline in zip(ticks.called_ns, ticks.deadlines_ns, strict=True))
    assert len(loop.lateness_us) == len(steps)
    assert min(loop.lateness_us) >= 0.0


@pytest.mark.parametrize(("periods", "missed"), [(0.5, 0), (1.5, 1), (3.5, 3)])
def test_a_tick_that_overruns_misses_exactly_the_deadlines_that_passed(periods, missed):
    period_ns = 400 * MS  # so long that the machine's own delays do not matter
    ticks = Ticks(2)

    def tick(deadline_ns):
        if not ticks.deadlines_ns:
            sleep_until_ns(deadline_ns + round(periods * period_ns))
        ticks(deadline_ns)

    loop = RateLoop(1e9 / period_ns, tick, name="test")
    loop.start()
    assert ticks.enough.wait(LONG_S)
    misses = loop.misses  # before the second call's own, should it be late
    loop.stop()
    assert misses == missed
    first, second = ticks.deadlines_ns
    assert second - first == (missed + 1) * period_ns


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


def test_after_stop_there_is_no_further_call():
    ticks = Ticks(3)
    loop = RateLoop(1000.0, ticks, name="test")
    loop.start()
    assert ticks.enough.wait(LONG_S)
    loop.stop()
    assert not loop._thread.is_alive()
    assert loop.failure is None


def test_a_loop_that_never_started_can_be_stopped():
    RateLoop(1000.0, Ticks(1), name="test").stop()


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
