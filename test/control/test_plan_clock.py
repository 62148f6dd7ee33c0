"""The clock of plans: even between the readings of a coarse clock, true to it in the long run, and frank when set."""

import numpy as np
import pytest

from maskact_ros.control.plan_clock import PlanClock

MS = 1_000_000
S = 1000 * MS


def run(readings, *, period_ns=2 * MS, seconds=5.0):
    """The times that the clock gives, a period apart, when `readings(steady_ns)` is what the node's clock says."""
    clock = PlanClock()
    steady_ns = np.arange(0, round(seconds * S), period_ns)
    return clock, steady_ns, np.array([clock.read(readings(int(at)), int(at)) for at in steady_ns])


@pytest.mark.parametrize("tick_ms", [1, 10, 50, 100])
@pytest.mark.parametrize("pace", [0.3, 1.0, 1.7])
def test_a_coarse_clock_at_any_pace_becomes_even_and_stays_true(tick_ms, pace):
    def readings(at):
        return 50 * S + int(at * pace) // (tick_ms * MS) * tick_ms * MS

    _, steady_ns, times = run(readings, seconds=20.0)
    steps = np.diff(times)
    assert (steps >= 0).all()
    settled = steps[len(steps) // 2 :]
    assert settled.max() < 1.5 * pace * 2 * MS  # and not a tick of the coarse clock at once
    true = 50 * S + steady_ns * pace
    assert np.abs(times - true)[len(times) // 2 :].max() <= 1.5 * tick_ms * MS


def test_the_times_of_a_fine_clock_are_its_own():
    _, steady_ns, times = run(lambda at: 7 * S + at)
    np.testing.assert_allclose(times, 7 * S + steady_ns, rtol=0, atol=1)


def test_a_clock_that_is_paused_stands_and_when_it_goes_on_is_believed_again():
    def readings(at):
        return 7 * S + min(at, 2 * S) + max(0, at - 4 * S)

    clock = PlanClock()
    stood = {}
    times = {}
    for at in range(0, 6 * S, 10 * MS):
        times[at] = clock.read(readings(at), at)
        stood[at] = clock.stands(at)
    assert not stood[2 * S + 490 * MS]
    assert stood[2 * S + 600 * MS]
    assert times[3 * S] == times[4 * S - 10 * MS] <= 7 * S + 2 * S + 600 * MS
    assert not stood[4 * S + 20 * MS]
    assert times[6 * S - 10 * MS] == pytest.approx(readings(6 * S - 10 * MS), abs=5 * MS)


@pytest.mark.parametrize("jump_s", [3600, 0.5, -0.001, -3600])
def test_a_clock_that_is_set_is_followed_at_once(jump_s):
    def readings(at):
        return 9000 * S + at + (round(jump_s * S) if at >= S else 0)

    _, steady_ns, times = run(readings, seconds=2.0)
    after = steady_ns >= S + 2 * MS
    np.testing.assert_allclose(times[after], [readings(int(at)) for at in steady_ns[after]], rtol=0, atol=MS)
