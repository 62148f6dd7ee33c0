"""Whatever the plan wants, the set points are those of a motion that the joints can follow."""

import math
from itertools import pairwise

import numpy as np
import pytest
from support.arms import ARM, random_robot, robot
from support.motion import MotionWatch

from maskact_ros.control.safety import SafetyFilter
from maskact_ros.core.robot import Joint, RobotSpec


class Watched:
    """A filter whose every set point is checked as it comes out."""

    def __init__(self, arm: RobotSpec, period_s: float, start: np.ndarray):
        self.filter = SafetyFilter(arm.limits, period_s)
        self.filter.start(start)
        self._watch = MotionWatch(arm, period_s, self.filter.position)

    def follow(self, target: np.ndarray, previous: np.ndarray) -> np.ndarray:
        return self._watch.take(self.filter.follow(target, previous))

    def brake(self) -> np.ndarray:
        return self._watch.take(self.filter.brake())


def reach(arm: RobotSpec) -> tuple[np.ndarray, np.ndarray]:
    """A range of positions somewhat larger than the robot's, also where that is unlimited."""
    lower = np.where(np.isinf(arm.lower), -5.0, arm.lower)
    upper = np.where(np.isinf(arm.upper), 5.0, arm.upper)
    return lower - 0.3 * (upper - lower), upper + 0.3 * (upper - lower)


@pytest.mark.parametrize("seed", range(25))
def test_random_targets_never_lead_out_of_the_limits(seed):
    random = np.random.default_rng(seed)
    arm = random_robot(random)
    period_s = 1.0 / random.choice([10, 50, 100, 250, 1000])
    low, high = reach(arm)
    watched = Watched(arm, period_s, random.uniform(low, high))
    target = random.uniform(low, high)
    for _ in range(400):
        what = random.random()
        previous = target
        if what < 0.02:
            target = random.uniform(low, high)  # a jump
        elif what < 0.03:
            previous = target = random.uniform(low, high)  # another plan
        elif what < 0.04:
            target = target + random.choice([-1e6, 1e6, 1e300, -1e300, 1e-300], size=len(target))
        elif what < 0.05:
            target = np.clip(target, arm.lower, arm.upper)
        elif what < 0.9:
            target = target + random.normal(size=len(target)) * arm.velocity * period_s
        if what < 0.95:
            watched.follow(target, previous)
        else:
            watched.brake()


@pytest.mark.parametrize("seed", range(10))
def test_a_target_beyond_a_limit_leads_to_the_limit_and_stays_there(seed):
    random = np.random.default_rng(seed)
    arm = robot(ARM.joints[0], *(joint for joint in random_robot(random).joints if joint.type != "continuous"))
    watched = Watched(arm, 0.01, random.uniform(arm.lower, arm.upper))
    target = np.where(random.random(len(arm.joints)) < 0.5, arm.lower - 1.0, arm.upper + 1.0)
    quickest_s = (arm.upper - arm.lower) / arm.velocity + arm.velocity / arm.acceleration
    still_s = 2.0 * np.sqrt((arm.upper - arm.lower) / arm.acceleration)
    for _ in range(math.ceil((quickest_s + still_s).max() / 0.01) + 10):
        position = watched.follow(target, target)
    np.testing.assert_allclose(position, np.clip(target, arm.lower, arm.upper), rtol=0, atol=1e-9)
    assert watched.filter.clamped > 0


def test_a_feasible_trajectory_is_followed_exactly():
    period_s = 0.01
    times = np.arange(0, 10, period_s)[:, None]
    frequency = np.array([1.5, 0.6])
    trajectory = np.array([0.5, 0.0]) + np.array([0.4, 3.0]) * np.sin(frequency * times) ** 2  # starts at rest
    watched = Watched(ARM, period_s, trajectory[0])
    for previous, target in pairwise(trajectory):
        position = watched.follow(target, previous)
        np.testing.assert_allclose(position, target, rtol=0, atol=1e-9)
    assert watched.filter.clamped == 0


def test_a_gap_to_a_moving_target_is_closed_and_stays_closed():
    watched = Watched(ARM, 0.01, np.array([-0.9, 0.0]))
    target = np.array([-0.4, 1.0])
    for i in range(300):
        previous, target = target, target + np.array([0.001, 0.002])
        position = watched.follow(target, previous)
        if i > 150:
            np.testing.assert_allclose(position, target, rtol=0, atol=1e-9)


def test_a_resting_target_is_reached_without_overshoot_and_then_nothing_moves():
    watched = Watched(ARM, 0.01, np.array([0.0, 0.0]))
    target = np.array([1.0, -3.0])
    path = [watched.follow(target, target) for _ in range(300)]
    assert max(position[0] for position in path) <= 1.0 + 1e-12
    assert min(position[1] for position in path) >= -3.0 - 1e-12
    np.testing.assert_allclose(path[-1], target, rtol=0, atol=1e-12)
    assert watched.filter.at_rest
    np.testing.assert_array_equal(path[-1], path[-2])
    # As fast as the limits allow: 1 m at 1 m/s, and 0.2 s each to speed up and to slow down.
    assert next(i for i, position in enumerate(path) if abs(position[0] - 1.0) < 1e-9) in range(117, 122)


@pytest.mark.parametrize("seed", range(10))
def test_braking_comes_to_rest_in_as_few_periods_as_the_acceleration_allows(seed):
    random = np.random.default_rng(seed)
    arm = random_robot(random)
    period_s = 0.01
    watched = Watched(arm, period_s, random.uniform(*reach(arm)))
    for _ in range(40):
        target = random.uniform(*reach(arm))
        for _ in range(random.integers(1, 20)):
            watched.follow(target, target)
    needed = np.ceil(np.abs(watched.filter.velocity) / (arm.acceleration * period_s) - 1e-9).max()
    taken = 0
    while (np.abs(watched.filter.velocity) > 1e-12).any():
        watched.brake()
        taken += 1
    assert taken == needed
    watched.brake()
    assert watched.filter.at_rest  # exactly
    resting = watched.filter.position.copy()
    for _ in range(5):
        np.testing.assert_array_equal(watched.brake(), resting)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_a_target_that_is_not_finite_raises_and_changes_nothing(wrong, place):
    safety = SafetyFilter(ARM.limits, 0.01)
    safety.start(np.array([0.1, 0.2]))
    safety.follow(np.array([0.5, 0.5]), np.array([0.5, 0.5]))
    position, velocity = safety.position.copy(), safety.velocity.copy()
    good = np.array([0.5, 0.5])
    bad = good.copy()
    bad[place] = wrong
    for targets in ((bad, good), (good, bad)):
        with pytest.raises(ValueError, match="not finite"):
            safety.follow(*targets)
    np.testing.assert_array_equal(safety.position, position)
    np.testing.assert_array_equal(safety.velocity, velocity)
    assert safety.clamped == 0


def test_what_was_handed_out_does_not_change_later():
    safety = SafetyFilter(ARM.limits, 0.01)
    start = np.array([0.0, 0.0])
    safety.start(start)
    first = safety.follow(np.array([1.0, 1.0]), np.array([1.0, 1.0]))
    kept = first.copy()
    safety.follow(np.array([1.0, 1.0]), np.array([1.0, 1.0]))
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(start, [0.0, 0.0])


def test_what_is_done_to_a_set_point_that_was_handed_out_does_not_matter():
    safety = SafetyFilter(ARM.limits, 0.01)
    safety.start(np.array([0.0, 0.0]))
    for _ in range(3):
        safety.follow(np.array([1.0, 1.0]), np.array([1.0, 1.0]))[:] = np.nan
    assert np.isfinite(safety.brake()).all()


def test_a_continuous_joint_turns_on_without_end():
    turn = robot(Joint(name="turn", type="continuous", velocity=2.0, acceleration=5.0))
    watched = Watched(turn, 0.01, np.array([0.0]))
    target = np.array([0.0])
    for _ in range(1500):
        previous, target = target, target + 0.02
        position = watched.follow(target, previous)
    assert position[0] > 29.0
    assert watched.filter.clamped == 0
