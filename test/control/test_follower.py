"""The follower engages, follows plans, hands over between them, and holds when they end."""

import numpy as np
import pytest
from support.arms import ARM, robot
from support.follower_rig import GRIPPER, HOME, MS, POINT_NS, Rig

from maskact_ros.control.joint_watch import Measured
from maskact_ros.control.ladder import FollowerState, Rung
from maskact_ros.core.chunk import Chunk

# -- Silence


def test_before_it_is_enabled_it_is_silent_whatever_comes():
    rig = Rig()
    for _ in range(50):
        rig.offer(to=rig.pose + 0.1)
        assert rig.tick() is None
    rig.follower.reset(rig.now_ns)
    rig.follower.disable("the user says so")
    assert rig.tick() is None
    assert (rig.rung, rig.reason, rig.follower.state.enabled) == (Rung.IDLE, "not enabled yet", False)
    assert rig.follower.chunks_refused == 50


def test_enabled_it_stays_silent_until_the_first_chunk():
    rig = Rig()
    rig.follower.enable(rig.now_ns)
    assert rig.tick(100) is None
    assert (rig.rung, rig.reason) == (Rung.ENGAGING, "waiting for a chunk captured after enabling")
    assert rig.follower.state == FollowerState(Rung.ENGAGING, 1, rig.reason)
    assert rig.follower.state.enabled


def test_disabled_before_it_ever_moved_it_is_idle_again():
    rig = Rig()
    rig.follower.enable(rig.now_ns)
    rig.tick()
    rig.follower.disable("changed my mind")
    rig.offer()
    assert rig.tick(5) is None
    assert (rig.rung, rig.reason) == (Rung.IDLE, "changed my mind")


# -- Engaging


@pytest.mark.parametrize("age_ns", [0, 1, 500 * MS])
def test_a_chunk_captured_before_enabling_is_never_followed(age_ns):
    rig = Rig()
    rig.tick()
    rig.follower.enable(rig.now_ns)
    rig.offer(to=[1.0, 1.0], age_ns=age_ns)
    assert rig.tick(10) is None
    assert rig.rung is Rung.ENGAGING
    assert rig.follower.chunks_refused == 1


def test_the_first_command_starts_at_the_measured_pose():
    rig = Rig(pose=[-0.73, 12.0])
    rig.follower.enable(rig.now_ns)
    rig.tick(5)
    rig.follower.offer(Chunk(rig.now_ns, POINT_NS, np.full((20, 2), 1.5)), rig.now_ns)  # far from the pose
    first = rig.tick()
    assert np.abs(first - [-0.73, 12.0]).max() <= 5.0 * 0.01**2 + 1e-12  # one period of acceleration away
    assert rig.rung is Rung.FOLLOWING


def test_it_does_not_engage_without_fresh_joint_states():
    rig = Rig()
    rig.joints_alive = False
    rig.follower.enable(rig.now_ns)
    rig.tick(5)
    rig.offer()
    assert rig.tick(2) is None
    assert (rig.rung, rig.reason) == (Rung.ENGAGING, "no joint states for 0.2 s")
    rig.joints_alive = True
    assert rig.tick() is not None
    assert rig.rung is Rung.FOLLOWING


def test_the_reason_is_true_again_once_joint_states_are_back():
    rig = Rig()
    rig.joints_alive = False
    rig.follower.enable(rig.now_ns)
    rig.tick()
    assert rig.reason == "no joint states for 0.2 s"
    rig.joints_alive = True
    rig.tick()
    assert rig.reason == "waiting for a chunk captured after enabling"


@pytest.mark.parametrize("position", [-1.1, 2.05])
def test_it_does_not_engage_while_a_joint_is_outside_of_its_limits(position):
    rig = Rig(pose=[position, 0.0])
    rig.follower.enable(rig.now_ns)
    rig.tick(5)
    rig.offer(to=HOME)
    assert rig.tick(3) is None
    assert rig.rung is Rung.ENGAGING
    assert rig.reason == "lift is beyond its limits, -1 to 2; move it back by hand"
    said = rig.follower.state
    rig.pose = rig.pose + 0.001
    rig.tick()
    assert rig.follower.state == said  # sensor noise is no news
    rig.pose = np.array([1.9, 0.0])
    assert rig.tick(60) is not None
    assert rig.rung is Rung.FOLLOWING


def test_it_engages_when_sensor_noise_puts_a_joint_just_outside_of_its_limits():
    rig = Rig(pose=[2.015, 0.0])
    rig.follower.enable(rig.now_ns)
    rig.tick(5)
    rig.offer(to=HOME)
    assert rig.tick()[0] <= 2.0


# -- Following


def test_it_is_where_the_plan_says_now():
    rig = Rig()
    rig.follower.enable(rig.now_ns)
    rig.tick(5)
    plan = rig.offer(to=[0.8, -0.4], points=80)
    rig.tick(40)
    for _ in range(100):
        position = rig.tick()
        np.testing.assert_allclose(position, plan.sample(np.array([rig.now_ns]))[0], rtol=0, atol=1e-9)


def test_a_newer_chunk_takes_over_and_an_older_or_equal_one_is_refused():
    rig = Rig().enabled_and_following()
    rig.offer(to=[1.0, 1.0], points=60, age_ns=30 * MS)
    refused = rig.follower.chunks_refused
    rig.offer(to=[-1.0, -1.0], age_ns=30 * MS)
    rig.offer(to=[-1.0, -1.0], age_ns=31 * MS)
    assert rig.follower.chunks_refused == refused + 2
    rig.tick(250)
    np.testing.assert_allclose(rig.tick(), [1.0, 1.0], rtol=0, atol=1e-6)


def test_a_chunk_from_the_future_is_refused():
    rig = Rig().enabled_and_following()
    refused = rig.follower.chunks_refused
    rig.offer(to=[-1.0, -1.0], age_ns=-1)
    assert rig.follower.chunks_refused == refused + 1
    rig.offer(age_ns=0)
    assert rig.follower.chunks_refused == refused + 1


def test_a_plan_that_leaves_the_limits_a_little_is_followed_to_the_limit_and_counted():
    rig = Rig().enabled_and_following()
    rig.offer(to=[2.04, 0.0], points=100)
    for _ in range(400):
        position = rig.tick()
    np.testing.assert_allclose(position[0], 2.0, rtol=0, atol=1e-9)
    assert rig.follower.clamped > 0
    assert rig.rung is Rung.FOLLOWING


def test_a_plan_that_keeps_asking_for_more_than_the_limits_is_a_fault():
    rig = Rig(clamp_timeout_s=0.5).enabled_and_following()
    rig.offer(to=[5.0, 0.0], points=100)
    rig.tick(500)
    assert rig.rung is Rung.FAULT
    assert rig.reason == "for 0.5 s the plan has asked more of lift than its limits allow"
    assert rig.follower.at_rest


def test_the_time_from_image_to_command_is_that_of_each_chunks_first_set_point():
    rig = Rig().enabled_and_following()
    rig.offer(age_ns=120 * MS)
    rig.follower.image_to_command_ms.clear()
    rig.tick(3)
    assert list(rig.follower.image_to_command_ms) == pytest.approx([130.0])


@pytest.mark.parametrize("joints", [1, 3])
def test_a_chunk_or_a_pose_of_other_joints_raises_and_changes_nothing(joints):
    rig = Rig().enabled_and_following()
    state = rig.follower.state
    with pytest.raises(ValueError, match=f"the chunk has {joints} joints, the robot 2"):
        rig.follower.offer(Chunk(rig.now_ns, POINT_NS, np.zeros((5, joints))), rig.now_ns)
    for wrong in (np.zeros(joints), np.zeros((2, 1)), np.array([0.0, np.nan]), np.array([np.inf, 0.0])):
        with pytest.raises(ValueError, match="a finite number for each joint"):
            rig.follower.observe(Measured(wrong, rig.now_ns, rig.steady_ns))
    rig.tick(3)
    assert rig.follower.state == state


# -- Holding


def test_a_used_up_chunk_is_braked_from_and_held_for_ever_never_replayed():
    rig = Rig().enabled_and_following()
    rig.tick(100)
    assert (rig.rung, rig.reason) == (Rung.HOLDING, "the chunk is used up and no new one has come")
    assert rig.follower.at_rest
    held = rig.tick()
    for _ in range(1000):
        np.testing.assert_array_equal(rig.tick(), held)
    assert (rig.rung, rig.reason) == (Rung.FAULT, "held for 5 s: the chunk is used up and no new one has come")


def test_a_plan_that_ends_at_speed_is_braked_from_within_limits():
    rig = Rig().enabled_and_following()
    actions = rig.pose + np.linspace(0.0, 0.8, 21)[1:, None]
    rig.follower.offer(Chunk(rig.now_ns, POINT_NS, actions), rig.now_ns)
    rig.tick(101)
    assert not rig.follower.at_rest
    rig.tick(30)
    assert rig.follower.at_rest
    assert rig.rung is Rung.HOLDING


def test_from_holding_a_new_chunk_is_followed():
    rig = Rig().enabled_and_following()
    rig.tick(200)
    epoch = rig.follower.state.epoch
    rig.offer(to=[1.0, 1.0], points=60)
    rig.tick(250)
    assert (rig.rung, rig.follower.state.epoch) == (Rung.FOLLOWING, epoch)
    np.testing.assert_allclose(rig.tick(), [1.0, 1.0], rtol=0, atol=1e-6)


def test_held_for_too_long_it_moves_again_only_when_reset_and_enabled():
    rig = Rig(hold_timeout_s=0.5).enabled_and_following()
    rig.tick(200)
    assert rig.rung is Rung.FAULT
    held = rig.tick()
    rig.offer(to=[1.0, 1.0])
    np.testing.assert_array_equal(rig.tick(10), held)
    rig.follower.enable(rig.now_ns)
    rig.tick()
    assert rig.rung is Rung.FAULT
    rig.follower.reset(rig.now_ns)
    rig.offer(to=[1.0, 1.0], age_ns=-1)
    np.testing.assert_array_equal(rig.tick(10), held)
    assert rig.rung is Rung.DISABLED
    rig.follower.enable(rig.now_ns)
    rig.tick(5)
    rig.offer(to=[1.0, 1.0])
    rig.tick()
    assert rig.rung is Rung.FOLLOWING


def test_an_arm_that_was_enabled_and_got_no_plan_is_not_enabled_for_ever():
    rig = Rig(hold_timeout_s=0.5)
    rig.follower.enable(rig.now_ns)
    assert rig.tick(60) is None
    assert rig.rung is Rung.IDLE
    assert rig.reason == "did not engage within 0.5 s: waiting for a chunk captured after enabling"
    rig.offer(to=[1.0, 1.0])
    assert rig.tick(5) is None


def test_a_stale_plan_is_followed_for_so_long_and_then_the_arm_decelerates():
    rig = Rig(fresh_s=0.5, remaining_timeout_s=0.3).enabled_and_following()
    rig.offer(to=rig.pose + 0.5, points=60, age_ns=0)
    rig.tick(50)
    assert rig.rung is Rung.FOLLOWING
    rig.tick(1)
    assert (rig.rung, rig.reason) == (Rung.REMAINING, "no new chunk; following what remains of the last one")
    rig.tick(29)
    assert rig.rung is Rung.REMAINING
    rig.tick(1)
    assert (rig.rung, rig.reason) == (Rung.DECELERATING, "no new chunk has come for too long")
    assert not rig.follower.at_rest
    rig.tick(round(ARM.stopping_s * 100) + 1)
    assert rig.rung is Rung.HOLDING


def test_while_a_stale_plan_is_followed_a_new_one_is_taken():
    rig = Rig(fresh_s=0.5).enabled_and_following()
    rig.offer(points=60, age_ns=0)
    rig.tick(60)
    assert rig.rung is Rung.REMAINING
    rig.offer(points=60)
    rig.tick()
    assert rig.rung is Rung.FOLLOWING


@pytest.mark.parametrize("silent", [True, False])
def test_stale_joint_states_stop_the_arm_and_only_a_plan_from_after_that_moves_it(silent):
    rig = Rig().enabled_and_following()
    rig.offer(to=rig.pose + 0.5, points=200)
    epoch = rig.follower.state.epoch
    if silent:
        rig.joints_alive, reason = False, "no joint states for 0.2 s"
    else:
        stuck_ns, reason = rig.now_ns, "the joint states are older than 0.2 s by their stamp"
        rig.measured = lambda: Measured(rig.pose, stuck_ns, rig.steady_ns)
    rig.tick(19)
    assert rig.rung is Rung.FOLLOWING
    rig.tick(2)
    assert (rig.rung, rig.reason) == (Rung.DECELERATING, reason)
    rig.tick(40)
    assert (rig.rung, rig.reason) == (Rung.HOLDING, reason)
    assert rig.follower.at_rest
    held = rig.tick()
    rig.joints_alive = True
    rig.__dict__.pop("measured", None)
    rig.offer(age_ns=800 * MS)
    np.testing.assert_array_equal(rig.tick(10), held)
    assert rig.follower.state.epoch == epoch + 1
    rig.offer()
    rig.tick()
    assert (rig.rung, rig.reason) == (Rung.FOLLOWING, "following the plan")


def test_joint_states_from_the_future_are_another_clocks():
    rig = Rig().enabled_and_following()
    rig.measured = lambda: Measured(rig.pose, rig.now_ns + 100 * MS, rig.steady_ns)
    rig.tick()
    assert rig.rung is Rung.DECELERATING
    assert rig.reason == "the joint states are stamped in the future; is their clock the robot's?"


def test_when_who_plans_is_gone_the_rest_of_the_plan_is_followed_and_then_it_is_a_fault():
    rig = Rig().enabled_and_following()
    rig.offer(to=rig.pose + 0.3, points=20)
    rig.tick()
    rig.follower.condemn("inference is gone")
    rig.tick(50)
    assert rig.rung is Rung.FOLLOWING
    refused = rig.follower.chunks_refused
    rig.offer(to=[1.0, 1.0])  # it is back
    assert rig.follower.chunks_refused == refused + 1
    rig.tick(100)
    assert (rig.rung, rig.reason) == (Rung.FAULT, "inference is gone")
    rig.follower.reset(rig.now_ns)
    rig.follower.enable(rig.now_ns)
    rig.tick(5)
    rig.offer()
    rig.tick()
    assert rig.rung is Rung.FOLLOWING


def test_a_reset_before_the_fault_does_not_forgive_who_was_gone():
    rig = Rig().enabled_and_following()
    rig.follower.condemn("inference is gone")
    rig.tick()
    rig.follower.reset(rig.now_ns)
    rig.tick(5)
    rig.offer(to=[1.0, 1.0])  # it is back
    rig.tick(50)
    assert (rig.rung, rig.reason) == (Rung.FAULT, "inference is gone")


def test_when_who_plans_is_gone_before_the_arm_moved_it_is_idle_again():
    rig = Rig()
    rig.follower.enable(rig.now_ns)
    rig.tick(5)
    rig.follower.condemn("inference is gone")
    assert rig.tick() is None
    assert (rig.rung, rig.reason) == (Rung.IDLE, "inference is gone")


# -- Hand-over


def test_a_hand_over_between_plans_that_disagree_keeps_jerk_bounded():
    rig = Rig(blend_s=0.2).enabled_and_following()
    rig.offer(points=100)
    rig.tick(200)
    path = []
    for sign in (1, -1, 1, -1, 1, -1):
        rig.follower.offer(Chunk(rig.now_ns, POINT_NS, np.tile(rig.pose + 0.02 * sign, (100, 1))), rig.now_ns)
        path += [rig.tick() for _ in range(10)]
    jerk = np.diff(np.array(path), n=3, axis=0) / 0.01**3
    assert np.abs(jerk).max() < 2 * 60 * 0.04 / 0.2**3  # of the blend's weight, at most 60, times the disagreement


def test_a_gripper_is_not_blended():
    hand = robot(ARM.joints[0], GRIPPER)
    rig = Rig(hand, [0.5, 0.0], blend_s=0.5)
    rig.follower.enable(rig.now_ns)
    rig.tick(5)
    rig.follower.offer(Chunk(rig.now_ns, POINT_NS, np.tile([0.5, 0.0], (100, 1))), rig.now_ns)
    rig.tick(5)
    rig.follower.offer(Chunk(rig.now_ns, POINT_NS, np.tile([0.5, 0.04], (100, 1))), rig.now_ns)
    quickest_s = 2.0 * np.sqrt(0.04 / GRIPPER.acceleration)
    rig.tick(round(quickest_s * 100) + 4)
    assert rig.pose[1] == pytest.approx(0.04, abs=1e-6)


# -- What is to come


def test_the_preview_is_what_happens_and_ends_at_rest():
    rig = Rig(blend_s=0.1).enabled_and_following()
    rig.offer(to=rig.pose + 0.5, points=60)
    rig.tick(20)
    ahead = rig.follower.preview(rig.moment, 0.3)
    assert len(ahead) > 30
    happened = np.array([rig.tick() for _ in range(30)])
    np.testing.assert_allclose(ahead[:30], happened, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(ahead[-1], ahead[-2])
