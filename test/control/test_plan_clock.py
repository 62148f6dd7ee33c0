"""The clock of plans: even between the readings of a coarse clock, true to it in the long run, and frank when set."""

import numpy as np
import pytest
from support.simulated_time import Simulation, loop_of

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


def followed(simulation, random, rate_hz=100):
    """By the plan clock, at the begin of each period: its times, how far off they may be, and the truth (T,) each."""
    clock = PlanClock()
    rows = []
    for due_ns, woken_ns in loop_of(simulation, random, rate_hz):
        time_ns = clock.read(simulation.reading(woken_ns), woken_ns, due_ns)
        assert not clock.stands(woken_ns) or due_ns < 3 * S  # until it is known how rare the ticks are
        rows.append((time_ns, clock.off_ns, simulation.true(due_ns)))
    return np.array(rows).T


@pytest.mark.parametrize("own_time", [False, True], ids=["by the steady clock", "by its own time"])
@pytest.mark.parametrize("pace", [0.1, 0.3, 1.0, 2.7])
@pytest.mark.parametrize("rate_hz", [10, 14, 50, 1000])
def test_whatever_the_rate_and_the_pace_time_is_even_never_goes_back_and_is_within_a_tick_of_the_truth(
    rate_hz, pace, own_time
):
    random = np.random.default_rng(rate_hz)
    simulation = Simulation(random, rate_hz=rate_hz, paces=[pace], own_time=own_time, seconds=12.0)
    times_ns, off_ns, true_ns = followed(simulation, random)
    steps_ns, half = np.diff(times_ns), len(times_ns) // 2
    assert (steps_ns >= 0).all()
    assert np.ptp(steps_ns[half:]) < 0.35 * pace * 10 * MS
    # A tick is noticed late, by its transport and by up to a period.
    assert np.abs(times_ns - true_ns)[half:].max() < simulation.tick_ns + pace * 20 * MS
    assert (np.abs(times_ns - true_ns) < off_ns)[half:].all()
    assert off_ns[half:].max() < simulation.tick_ns + pace * 60 * MS


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("own_time", [False, True], ids=["by the steady clock", "by its own time"])
@pytest.mark.parametrize("paces", [(1.0, 0.2, 1.5), (1.0, 0.0), (0.3, 2.2)], ids=["slows down", "pauses", "speeds up"])
@pytest.mark.parametrize("rate_hz", [10, 200])
def test_a_pace_that_changes_and_ticks_in_bursts_are_followed_and_are_no_jump(rate_hz, paces, own_time, seed):
    random = np.random.default_rng(seed)
    simulation = Simulation(
        random, rate_hz=rate_hz, paces=paces, change_s=random.uniform(0.2, 0.35), own_time=own_time, bursts=0.06
    )
    times_ns, off_ns, true_ns = followed(simulation, random)
    steps_ns = np.diff(times_ns)
    assert (steps_ns >= 0).all()
    assert (steps_ns < 200 * MS + off_ns[1:]).all()  # what the follower takes for a jump
    known = true_ns > 50 * S + 4 * simulation.tick_ns
    within_ns = simulation.tick_ns + max(paces) * 80 * MS
    assert np.abs(times_ns - true_ns)[known].max() < within_ns
    assert np.abs(times_ns - true_ns)[-50:].max() < within_ns


@pytest.mark.parametrize("rate_hz", [10, 30, 500])
@pytest.mark.parametrize("to_s", [-50.0, -0.3, 1.5, 30.0])
def test_a_reset_or_a_leap_of_a_simulation_is_passed_on_at_the_next_tick(rate_hz, to_s):
    random = np.random.default_rng(1)
    simulation = Simulation(random, rate_hz=rate_hz, paces=[0.8])
    clock, times_ns = PlanClock(), {}
    for due_ns, woken_ns in loop_of(simulation, random, 100):
        reading_ns = simulation.reading(woken_ns) + (round(to_s * S) if due_ns > 4 * S else 0)
        times_ns[due_ns] = clock.read(reading_ns, woken_ns, due_ns)
    steps_ns = np.diff(list(times_ns.values()))
    jumps_ns = steps_ns[(steps_ns < 0) | (steps_ns > 250 * MS + simulation.tick_ns)]
    assert len(jumps_ns) == 1
    assert jumps_ns[0] == pytest.approx(to_s * S, abs=simulation.tick_ns + 50 * MS)
    true_ns = simulation.true(np.array(list(times_ns))) + round(to_s * S)
    assert np.abs(np.array(list(times_ns.values())) - true_ns)[-200:].max() < simulation.tick_ns + 20 * MS


def test_a_node_that_has_not_heard_of_its_clock_yet_begins_with_its_first_reading():
    clock = PlanClock()
    assert clock.read(0, 5 * S) == 0
    assert clock.read(0, 6 * S) == 0
    assert clock.stands(6 * S)
    assert clock.read(9000 * S, 7 * S) == 9000 * S
    assert clock.off_ns < S
