"""Settings, limits and the rate change while the follower moves the arm."""

from dataclasses import replace

import numpy as np
import pytest
from support.arms import ARM, robot
from support.follower_rig import GRIPPER, HOME, POINT_NS, SETTINGS, Rig, sag
from support.motion import MotionWatch

from maskact_ros.control.curves import Moment
from maskact_ros.control.follower import PlanFollower
from maskact_ros.control.joint_watch import Measured
from maskact_ros.control.ladder import FollowerSettings, Rung
from maskact_ros.control.safety import SafetyFilter
from maskact_ros.core.chunk import Chunk

# -- Changes while it moves


def test_settings_limits_and_rate_change_without_a_jump():
    rig = Rig().enabled_and_following()
    rig.offer(to=rig.pose + 0.9, points=60)
    rig.tick(30)
    tight = replace(ARM.limits, velocity=ARM.limits.velocity * 0.1, upper=np.array([1.0, np.inf]))
    rig.follower.change(limits=tight)  # the watch goes on with the robot's own limits
    rig.tick(30)
    before = rig.pose
    after = rig.tick()
    assert (np.abs(after - before) <= 0.01 * tight.velocity + 1e-12).all()
    rig.follower.change(limits=ARM.limits, settings=FollowerSettings(**SETTINGS, blend_s=0.05))
    rig.tick(100)


def test_a_limit_that_is_tightened_past_the_set_point_brings_it_back_within():
    rig = Rig().enabled_and_following()
    rig.offer(to=[0.8, 0.0], points=200)
    rig.tick(600)
    rig.follower.change(limits=replace(ARM.limits, upper=np.array([0.6, np.inf])))
    assert rig.pose[0] > 0.6
    rig.tick(100)
    assert rig.pose[0] == pytest.approx(0.6)


def test_leaving_keeps_an_end_stop_that_was_tightened():
    rig = Rig(pose=[-0.5, 0.0])
    rig.follower.change(limits=replace(ARM.limits, upper=np.array([0.6, np.inf])))
    rig.follower.enable(rig.now_ns)
    rig.tick(5)
    rig.offer(to=[1.5, 0.0], points=60)
    while rig.tick()[0] < 0.49:
        pass
    rig.follower.leave("the node is leaving")
    while not rig.follower.at_rest:
        assert rig.tick()[0] <= 0.6
    assert rig.pose[0] > 0.599, "this stop was not one that the end stop must shorten"
    assert (rig.rung, rig.reason) == (Rung.DISABLED, "the node is leaving")


def test_leaving_brakes_as_hard_as_the_robot_may_also_while_a_tighter_limit_waits():
    rig = Rig().enabled_and_following()
    rig.follower.change(limits=replace(ARM.limits, acceleration=ARM.acceleration * 0.05))
    rig.offer(to=rig.pose + 1.0, points=60)
    rig.tick(30)
    rig.follower.change(limits=replace(ARM.limits, acceleration=ARM.acceleration * 0.05, upper=rig.pose - 0.1))
    rig.follower.leave("the node is leaving")
    rig.tick(round(ARM.stopping_s * 100) + 1)
    assert rig.follower.at_rest


def test_leaving_brakes_as_hard_also_when_the_arm_was_coming_to_rest_under_tighter_limits():
    rig = Rig().enabled_and_following()
    rig.follower.change(limits=replace(ARM.limits, acceleration=ARM.acceleration * 0.05))
    rig.offer(to=rig.pose + 1.0, points=60)
    rig.tick(60)
    rig.follower.disable("a pause")
    rig.tick(round(ARM.stopping_s * 100) + 1)
    assert not rig.follower.at_rest
    rig.follower.leave("the node is leaving")
    rig.tick(round(ARM.stopping_s * 100) + 1)
    assert rig.follower.at_rest
    held = rig.tick()
    rig.follower.leave("once more")
    np.testing.assert_array_equal(rig.tick(10), held)


def test_the_rate_changes_only_when_the_motion_can_still_stop_in_time():
    watched = MotionWatch(ARM, 0.01, np.array([1.9, 0.0]))
    safety = SafetyFilter(ARM.limits, 0.01)
    safety.start(np.array([1.0, 0.0]))
    target = np.array([3.0, 0.0])
    while safety.velocity[0] < 0.9 or safety.position[0] < 1.88:
        safety.follow(target, target)
    watched = MotionWatch(ARM, 0.01, safety.position)
    watched._velocity = safety.velocity
    safety.change(ARM.limits, 0.1)
    while safety.period_s < 0.1:
        watched.take(safety.follow(target, target))
    assert safety.position[0] > 1.9
    for _ in range(10):
        assert safety.follow(target, target)[0] <= 2.0


def lagging(rig, lag_s):
    """Let the arm follow its set points with a first-order lag."""
    pose = rig.pose.copy()

    def measured():
        nonlocal pose
        pose = pose + (rig.pose - pose) * (1.0 - np.exp(-0.01 / lag_s))
        return Measured(pose, rig.now_ns, rig.steady_ns)

    rig.measured = measured


@pytest.mark.parametrize("lag_s", [0.05, 0.1, 0.15])
def test_an_arm_that_lags_at_full_speed_follows_also_when_settings_change(lag_s):
    rig = Rig(pose=[0.5, 0.0])
    lagging(rig, lag_s)
    rig.follower.enable(rig.now_ns)
    rig.tick(5)
    way = np.stack([np.full(200, 0.5), 1.9 * 0.05 * np.arange(1, 201)], axis=1)
    rig.follower.offer(Chunk(rig.now_ns, POINT_NS, way), rig.now_ns)
    rig.tick(300)
    rig.follower.change(settings=replace(rig.follower.settings, blend_s=0.3), limits=ARM.limits)
    rig.tick(100)
    assert rig.rung is Rung.FOLLOWING, rig.reason
    assert abs(rig.measured().positions[1] - rig.pose[1]) > 0.5 * 1.9 * lag_s


def test_a_plan_that_starts_at_speed_is_caught_up_with_and_no_fault():
    rig = Rig()
    rig.follower.enable(rig.now_ns)
    rig.tick(5)
    way = np.stack([np.full(400, 0.5), 1.9 * 0.05 * np.arange(1, 401)], axis=1)
    rig.follower.offer(Chunk(rig.now_ns, POINT_NS, way), rig.now_ns)
    rig.tick(1000)
    assert rig.rung is Rung.FOLLOWING, rig.reason


def test_limits_that_are_tightened_past_the_arm_keep_it_from_engaging():
    rig = Rig()
    rig.follower.change(limits=replace(ARM.limits, upper=np.array([-0.5, np.inf])))
    rig.follower.enable(rig.now_ns)
    rig.tick(5)
    rig.offer()
    assert rig.tick() is None
    assert rig.reason == "lift is beyond its limits, -1 to -0.5; move it back by hand"


def test_limits_that_are_tightened_past_a_resting_arm_do_not_move_it():
    rig = Rig().enabled_and_following()
    rig.follower.disable("a pause")
    rig.tick(100)
    held = rig.tick()
    rig.follower.change(limits=replace(ARM.limits, upper=np.array([0.1, np.inf])))
    for _ in range(50):
        np.testing.assert_array_equal(rig.tick(), held)
        np.testing.assert_array_equal(rig.follower.preview(rig.moment, 0.25)[0], held)
    sag(rig, [0.06, 0.0])
    assert rig.rung is Rung.FAULT
    np.testing.assert_array_equal(rig.tick(100), held)


def test_a_gripper_keeps_its_grip_when_another_joint_is_blocked():
    rig = Rig(robot(ARM.joints[0], GRIPPER), [0.5, 0.02])
    rig.measured = lambda: Measured(np.array([0.5, 0.02]), rig.now_ns, rig.steady_ns)  # closed on something
    rig.follower.enable(rig.now_ns)
    rig.tick(5)
    way = np.stack([0.5 + 0.02 * np.arange(1, 41), np.zeros(40)], axis=1)
    rig.follower.offer(Chunk(rig.now_ns, POINT_NS, way), rig.now_ns)
    rig.tick(200)
    assert rig.rung is Rung.FAULT
    np.testing.assert_allclose(rig.tick(), [0.5, 0.0], rtol=0, atol=1e-6)


def test_a_rate_that_was_set_before_other_settings_is_not_forgotten():
    follower = Rig().follower
    follower.change(rate_hz=200.0)
    follower.change(limits=ARM.limits)
    assert follower.rate_hz == pytest.approx(200.0)


@pytest.mark.parametrize("rates_hz", [(1000.0, 10.0), (10.0, 1000.0), (500.0, 50.0)])
def test_a_change_of_rate_in_motion_moves_by_as_much_as_the_time_that_passed(rates_hz):
    before_hz, after_hz = rates_hz
    follower = PlanFollower(ARM, rate_hz=before_hz, settings=FollowerSettings(**SETTINGS, following_tolerance_s=0.0))
    moment = Moment(10**18, 10**12)
    follower.enable(moment.now_ns)
    way = np.stack([np.full(400, 0.5), 0.05 * np.arange(1, 401)], axis=1)
    last, rate_hz = None, before_hz
    for i in range(round(4 * before_hz + 2 * after_hz)):
        moment = moment.later(round(1e9 / rate_hz))
        follower.observe(Measured(HOME if last is None else last, moment.now_ns, moment.steady_ns))
        if i == 1:
            follower.offer(Chunk(moment.now_ns, POINT_NS, way), moment.now_ns)
        if i == round(4 * before_hz):
            follower.change(rate_hz=after_hz)
        set_point = follower.tick(moment)
        if last is not None and i > 3 * before_hz:
            assert (set_point[1] - last[1]) * rate_hz == pytest.approx(1.0, rel=1e-3)
        last, rate_hz = set_point, follower.rate_hz
    assert rate_hz == pytest.approx(after_hz)


def test_a_changed_lead_is_taken_up_without_a_leap():
    rig = Rig(pose=[0.5, 0.0])
    rig.follower.enable(rig.now_ns)
    rig.tick(5)
    way = np.stack([np.full(400, 0.5), 0.05 * np.arange(1, 401)], axis=1)
    rig.follower.offer(Chunk(rig.now_ns, POINT_NS, way), rig.now_ns)
    rig.tick(300)
    for lead_s in (0.3, 0.0):
        rig.follower.change(settings=replace(rig.follower.settings, lead_s=lead_s))
        path = np.array([rig.tick() for _ in range(400)])
        speeds = np.diff(path[:, 1]) * 100.0
        assert speeds.min() > 0.85
        assert speeds.max() < 1.15
