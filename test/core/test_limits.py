"""`Limits`: the tightest of two, and whether it leaves a joint room."""

import dataclasses

import numpy as np
import pytest

from maskact_ros.core.limits import Limits, LimitsError


def limits(lower=-1.0, upper=1.0, velocity=2.0, acceleration=10.0, jerk=100.0):
    """Of two joints, the second of which is as given by default."""
    default = (-1.0, 1.0, 2.0, 10.0, 100.0)
    return Limits(*map(np.array, zip((lower, upper, velocity, acceleration, jerk), default, strict=True)))


def test_of_two_limits_the_tightest_wins_entry_by_entry_whoever_tightens_whom():
    mine = limits(lower=-1.0, upper=0.5, velocity=2.0, acceleration=3.0, jerk=50.0)
    theirs = limits(lower=-np.inf, upper=1.0, velocity=1.0, acceleration=10.0, jerk=40.0)
    for both in (mine.tightened(theirs), theirs.tightened(mine)):
        first = [vector[0] for vector in dataclasses.astuple(both)]
        assert first == [-1.0, 0.5, 1.0, 3.0, 40.0]
        assert [vector[1] for vector in dataclasses.astuple(both)] == [-1.0, 1.0, 2.0, 10.0, 100.0]
        both.check_ranges(["lift", "turn"])


@pytest.mark.parametrize("upper", [-1.0, -2.0])
def test_a_joint_that_is_left_no_room_is_named(upper):
    both = limits(lower=-1.0).tightened(limits(lower=-5.0, upper=upper))
    with pytest.raises(
        LimitsError, match=rf"^joint lift: .* lower = -1 and upper = {upper:g}; allowed: lower < upper$"
    ):
        both.check_ranges(["lift", "turn"])
