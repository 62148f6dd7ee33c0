"""Lateness and missed periods of a record of wake-ups."""

import numpy as np

from maskact_ros.tools.bench.wakes import WakeRecord, Wakes

PERIOD_NS = 2_000_000
RATE_HZ = 500.0


def recorded(tmp_path, places, late_ns=100_000):
    """A file of calls at these places of the grid."""
    record = WakeRecord()
    for place in places:
        record.note(place * PERIOD_NS, place * PERIOD_NS + late_ns)
    record.save(tmp_path / "wakes")
    return tmp_path / "wakes"


def test_a_loop_that_keeps_every_deadline_misses_nothing(tmp_path):
    wakes = Wakes.within(recorded(tmp_path, range(100)), 10 * PERIOD_NS, 60 * PERIOD_NS, RATE_HZ)
    assert (wakes.periods, wakes.missed) == (50, 0)
    assert (wakes.lateness_us == 100.0).all()


def test_each_deadline_without_a_call_is_a_missed_period(tmp_path):
    places = [place for place in range(100) if place not in (20, 21, 40)]
    wakes = Wakes.within(recorded(tmp_path, places), 10 * PERIOD_NS, 60 * PERIOD_NS, RATE_HZ)
    assert (wakes.periods, wakes.missed) == (50, 3)


def test_a_stall_over_the_end_of_the_stretch_is_counted(tmp_path):
    places = [*range(50), *range(70, 100)]
    wakes = Wakes.within(recorded(tmp_path, places), 10 * PERIOD_NS, 60 * PERIOD_NS, RATE_HZ)
    assert (wakes.periods, wakes.missed) == (60, 20)


def test_a_stretch_without_a_call_has_no_periods(tmp_path):
    wakes = Wakes.within(recorded(tmp_path, range(5)), 10 * PERIOD_NS, 60 * PERIOD_NS, RATE_HZ)
    assert (wakes.periods, wakes.missed) == (0, 0)


def test_stretches_joined_add_up(tmp_path):
    one = Wakes.within(recorded(tmp_path, range(100)), 0, 10 * PERIOD_NS, RATE_HZ)
    two = Wakes.within(recorded(tmp_path, [p for p in range(100) if p != 5]), 0, 10 * PERIOD_NS, RATE_HZ)
    both = Wakes.joined([one, two])
    assert (both.periods, both.missed) == (20, 1)
    assert np.isfinite(both.lateness_us).all()
