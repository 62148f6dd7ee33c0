"""Curves and their hand-overs: smooth, where they should be, and at rest when they say so."""

from dataclasses import replace

import numpy as np
import pytest
from support.arms import ARM, random_robot

from maskact_ros.control.curves import ChunkCurve, Moment, MotionState, Rest, ToRest
from maskact_ros.control.plan import Plan
from maskact_ros.core.chunk import Chunk

MS = 1_000_000
POINT_NS = 50 * MS
NO_GRIPPERS = np.array([False, False])


def moments(seconds, step_ns=MS, begin_ns=0):
    return [Moment(at, at) for at in range(begin_ns, begin_ns + round(seconds * 1e9), step_ns)]


def samples(curve, at):
    return np.array([curve.sample(moment) for moment in at])


def test_the_curve_of_points_on_a_line_is_the_line_also_before_its_first():
    curve = ChunkCurve(Chunk(0, POINT_NS, np.arange(1, 21)[:, None] * [0.1, -0.2]), NO_GRIPPERS)
    at = moments(1.0)
    times = np.array([moment.now_ns for moment in at]) / POINT_NS
    np.testing.assert_allclose(samples(curve, at), times[:, None] * [0.1, -0.2], rtol=0, atol=1e-12)


def test_beyond_its_last_point_the_curve_runs_out_without_a_kink_and_comes_to_rest():
    curve = ChunkCurve(Chunk(0, POINT_NS, np.arange(1, 21)[:, None] * [0.1, -0.2]), NO_GRIPPERS)
    positions = samples(curve, moments(6.0))
    velocities = np.diff(positions, axis=0) / 1e-3
    assert np.abs(np.diff(velocities, axis=0)).max() < 0.02
    assert np.abs(velocities[-1]).max() < 1e-6
    assert positions[-1] == pytest.approx([2.0 + 2.0 * 0.3, -4.0 - 4.0 * 0.3], abs=1e-6)


@pytest.mark.parametrize("points", [1, 2, 3, 30])
def test_the_curve_stays_within_its_points_and_ends_at_the_last(points):
    actions = np.random.default_rng(points).normal(size=(points, 2))
    curve = ChunkCurve(Chunk(0, POINT_NS, actions), NO_GRIPPERS)
    inside = samples(curve, moments((points - 1) * 0.05, begin_ns=POINT_NS))
    if len(inside):
        assert (inside <= actions.max(axis=0) + 1e-12).all()
        assert (inside >= actions.min(axis=0) - 1e-12).all()
    last = Moment(points * POINT_NS, 0)
    np.testing.assert_allclose(curve.sample(last), actions[-1], rtol=0, atol=1e-12)


def test_the_curve_has_no_kinks():
    actions = np.random.default_rng(0).normal(size=(30, 2))
    positions = samples(ChunkCurve(Chunk(0, POINT_NS, actions), NO_GRIPPERS), moments(1.4, begin_ns=POINT_NS))
    accelerations = np.diff(positions, n=2, axis=0) / 1e-3**2
    third = np.abs(np.diff(actions, n=3, axis=0)).max() / 0.05**3  # the largest jerk that a cubic of these can have
    assert np.abs(np.diff(accelerations, axis=0)).max() <= 1.01 * third * 1e-3


def test_a_gripper_goes_straight_from_point_to_point():
    actions = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    curve = ChunkCurve(Chunk(0, POINT_NS, actions), np.array([False, True]))
    half_way = curve.sample(Moment(round(2.25 * POINT_NS), 0))
    assert half_way[1] == pytest.approx(0.25)
    assert half_way[0] != pytest.approx(0.25)


@pytest.mark.parametrize("seed", range(10))
def test_the_way_to_rest_is_within_limits_and_ends(seed):
    random = np.random.default_rng(seed)
    arm = random_robot(random)
    limits = arm.limits
    joints = len(arm.joints)
    state = MotionState(
        random.normal(size=joints),
        random.uniform(-1, 1, joints) * limits.velocity,
        random.uniform(-1, 1, joints) * limits.acceleration * 0.5,
    )
    target = None if seed % 2 else state.position + random.normal(size=joints) * 0.1
    way = ToRest(state, Moment(0, 0), limits, target)
    end_s = next(s for s in np.arange(0, 1000, 0.01) if way.ended(Moment(0, round(s * 1e9))))
    positions = samples(way, moments(min(end_s, 20.0) + 0.1))
    np.testing.assert_allclose(positions[0], state.position, rtol=0, atol=1e-9)
    jerks = np.diff(positions, n=3, axis=0) / 1e-3**3
    rounding = 1e-15 * np.abs(positions).max() * 8 / 1e-3**3
    assert (np.abs(jerks) <= limits.jerk * 1.001 + rounding).all()
    resting = way.sample(Moment(0, round((end_s + 5) * 1e9)))
    if target is not None:
        np.testing.assert_allclose(resting, target, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(resting, way.sample(Moment(0, round((end_s + 9) * 1e9))))


def test_hand_overs_in_quick_succession_keep_acceleration_continuous():
    random = np.random.default_rng(3)
    plan = Plan(Rest(np.zeros(2)), NO_GRIPPERS)
    positions = []
    for moment in moments(3.0):
        if moment.now_ns % (70 * MS) == 0:
            curve = ChunkCurve(
                Chunk(moment.now_ns, POINT_NS, np.tile(random.normal(size=2), (40, 1)) * 0.02), NO_GRIPPERS
            )
            plan.hand_over(curve, moment, 0.2, ARM.limits)
        plan.settle(moment)
        positions.append(plan.sample(moment))
    accelerations = np.diff(np.array(positions), n=2, axis=0) / 1e-3**2
    assert np.abs(accelerations).max() > 1.0
    steepest = 60.0 / 0.2**3 * 0.15 * 1e-3  # of the blend's weight, for the largest disagreement, in a millisecond
    assert np.abs(np.diff(accelerations, axis=0)).max() < steepest < 0.2 * np.abs(accelerations).max()


@pytest.mark.parametrize("gap", [0.01, 0.3, 3.0])
def test_a_hand_over_takes_longer_where_the_limits_need_it(gap):
    plan = Plan(Rest(np.zeros(2)), NO_GRIPPERS)
    plan.hand_over(Rest(np.array([gap, -gap])), Moment(0, 0), 0.1, ARM.limits)
    positions = samples(plan, moments(20.0))
    velocities = np.diff(positions, axis=0) / 1e-3
    assert (np.abs(velocities) <= 0.5 * ARM.velocity * 1.001).all()
    assert (np.abs(np.diff(velocities, axis=0)) / 1e-3 <= 0.5 * ARM.acceleration * 1.001).all()
    np.testing.assert_allclose(positions[-1], [gap, -gap], rtol=0, atol=1e-12)


def test_what_has_been_handed_over_is_forgotten():
    plan = Plan(Rest(np.zeros(2)), NO_GRIPPERS)
    for i in range(5):
        plan.hand_over(Rest(np.full(2, 0.001 * i)), Moment(0, i * 10 * MS), 0.1, ARM.limits)
    plan.settle(Moment(0, 10**9))
    assert plan._layers == []
    np.testing.assert_allclose(plan.sample(Moment(0, 0)), 0.004)


def test_limits_without_end_stops_are_no_hindrance():
    limits = replace(ARM.limits, upper=np.full(2, np.inf), lower=np.full(2, -np.inf))
    assert (
        ToRest(MotionState(np.zeros(2), np.ones(2), np.zeros(2)), Moment(0, 0), limits).sample(Moment(0, 0)).size == 2
    )
