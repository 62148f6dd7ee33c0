"""An arm that does not follow, and the other ends of a motion."""

import numpy as np
import pytest
from support.arms import ARM
from support.follower_rig import HOME, POINT_NS, Rig, sag

from maskact_ros.control.joint_watch import Measured
from maskact_ros.control.ladder import Rung
from maskact_ros.core.chunk import Chunk

# -- An arm that does not follow


def test_a_blocked_arm_is_not_pushed_and_does_not_lurch_when_released():
    rig = Rig(following_tolerance_s=0.2).enabled_and_following()
    rig.offer(to=rig.pose + np.array([0.9, 0.9]), points=100)
    rig.tick(50)
    rig.blocked = rig.pose.copy()
    rig.tick(100)
    assert rig.rung is Rung.FAULT
    assert "does not follow: it is 0." in rig.reason
    assert rig.reason.endswith("from its set point; blocked, or its drive is off")
    rig.tick(250)
    np.testing.assert_allclose(rig.tick(), rig.blocked, rtol=0, atol=1e-9)
    held, rig.blocked = rig.tick(), None
    np.testing.assert_array_equal(rig.tick(100), held)
    assert rig.follower.fault_persists is None


def test_one_odd_measurement_is_no_fault():
    rig = Rig(following_tolerance_s=0.2).enabled_and_following()
    rig.offer(points=100)
    for _ in range(10):
        rig.blocked = rig.pose + 3.0
        rig.tick(2)
        rig.blocked = None
        rig.tick(2)
    assert rig.rung is Rung.FOLLOWING


@pytest.mark.parametrize("by", [[0.0, -0.4], [-0.3, 0.0], [0.2, 0.7]])
def test_an_arm_that_sags_in_a_fault_is_held_where_it_came_to_stand(by):
    rig = Rig(following_tolerance_s=0.2).enabled_and_following()
    rig.follower.fail("something else")
    rig.tick(50)
    sag(rig, by)
    rig.tick(500)
    assert rig.reason == "something else"
    np.testing.assert_allclose(rig.tick(), rig.blocked, rtol=0, atol=ARM.velocity.max() * 0.2 * 0.25)


def test_no_measurement_moves_a_disabled_arm():
    rig = Rig(following_tolerance_s=0.2).enabled_and_following()
    rig.follower.disable("a pause")
    rig.tick(50)
    held = rig.tick()
    sag(rig, [0.0, -0.4])
    np.testing.assert_array_equal(rig.tick(500), held)
    assert "turn does not follow" in rig.reason
    assert rig.rung is Rung.FAULT


def test_the_way_back_is_slow_and_ends_when_the_arm_does_not_stand_any_more():
    rig = Rig(following_tolerance_s=0.2).enabled_and_following()
    rig.follower.fail("something else")
    rig.tick(50)
    sag(rig, [0.0, -1.0])
    rig.tick(45)
    before = rig.tick(20)
    np.testing.assert_allclose(rig.tick() - before, [0.0, -0.2 * ARM.velocity[1] * 0.01], atol=1e-9)
    sag(rig, [0.3, 0.0], ticks=60)
    rig.tick(10)
    assert rig.follower.at_rest


def test_reset_where_the_arm_is_elsewhere_falls_silent_and_enabling_begins_where_it_is_measured():
    rig = Rig(following_tolerance_s=0.2).enabled_and_following()
    rig.follower.disable("a pause")
    rig.tick(50)
    sag(rig, [-0.5, 0.0])
    assert rig.rung is Rung.FAULT
    assert rig.follower.fault_persists is None
    said = rig.follower.reset(rig.now_ns)
    assert "released, as lift is not where its set point is: enabling begins where the arm is measured" in said
    rig.may_fall_silent = True
    assert rig.tick(10) is None
    assert rig.rung is Rung.IDLE
    rig.pose, rig.blocked = rig.blocked, None
    rig.follower.enable(rig.now_ns)
    rig.tick(5)
    rig.offer()
    np.testing.assert_allclose(rig.tick(), rig.pose, rtol=0, atol=1e-9)


# -- Other ends


def test_the_maximum_run_time_ends_the_motion():
    rig = Rig(max_run_s=0.5).enabled_and_following()
    rig.offer(to=rig.pose + 0.5, points=60)
    rig.tick(50)
    assert (rig.rung, rig.reason) == (Rung.DISABLED, "the maximum run time of 0.5 s is over")
    rig.tick(50)
    assert rig.follower.at_rest
    rig.follower.enable(rig.now_ns)
    rig.tick(5)
    rig.offer()
    rig.tick(10)
    assert rig.rung is Rung.FOLLOWING


def test_a_plan_that_begins_too_far_from_the_arm_does_not_engage_it():
    rig = Rig(engage_tolerance_s=0.25)
    rig.follower.enable(rig.now_ns)
    rig.tick(5)
    rig.follower.offer(Chunk(rig.now_ns, POINT_NS, np.tile(rig.pose + np.array([0.3, 0.0]), (40, 1))), rig.now_ns)
    assert rig.tick() is None
    assert rig.reason == "the plan begins too far from where lift is; a larger engage_tolerance_s would allow it"
    rig.follower.offer(Chunk(rig.now_ns, POINT_NS, np.tile(rig.pose + np.array([0.2, 0.0]), (40, 1))), rig.now_ns)
    assert rig.tick() is not None
    rig.tick(200)
    np.testing.assert_allclose(rig.pose, HOME + np.array([0.2, 0.0]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("turns", [-3, -1, 0, 1, 2])
def test_a_continuous_joint_goes_the_short_way_whatever_turn_the_plan_is_on(turns):
    rig = Rig(pose=[0.5, 3.0])
    rig.follower.enable(rig.now_ns)
    rig.tick(5)
    angles = np.linspace(3.0, 3.5, 40)
    wrapped = (angles + np.pi) % (2 * np.pi) - np.pi + 2 * np.pi * turns  # as a policy trained on wrapped angles says
    actions = np.stack([np.full(40, 0.5), wrapped], axis=1)
    rig.follower.offer(Chunk(rig.now_ns, POINT_NS, actions), rig.now_ns)
    rig.tick(199)
    np.testing.assert_allclose(rig.pose, [0.5, 3.5], rtol=0, atol=1e-2)


def test_a_continuous_joint_that_is_measured_on_another_turn_follows():
    rig = Rig(pose=[0.5, 3.0], following_tolerance_s=0.2)
    rig.measured = lambda: Measured((rig.pose + np.pi) % (2 * np.pi) - np.pi, rig.now_ns, rig.steady_ns)
    rig.follower.enable(rig.now_ns)
    rig.tick(5)
    rig.offer(to=[0.5, 4.0], points=40)
    rig.tick(190)
    assert rig.rung is Rung.FOLLOWING
