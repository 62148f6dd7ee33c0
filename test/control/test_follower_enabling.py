"""Disabling, enabling again, resets, clocks that jump, and any sequence of all of them."""

import numpy as np
import pytest
from support.arms import ARM, random_robot, robot
from support.follower_rig import GRIPPER, MS, PERIOD_NS, POINT_NS, Rig

from maskact_ros.control.ladder import FollowerState, Rung
from maskact_ros.core.chunk import Chunk

# -- Disabling, and enabling again


def test_disabling_brakes_and_latches_the_last_set_point():
    rig = Rig().enabled_and_following()
    rig.follower.disable("disabled by the user")
    rig.tick()
    assert not rig.follower.at_rest
    rig.tick(round(ARM.stopping_s * 100))
    assert rig.follower.at_rest
    held = rig.tick()
    rig.offer(to=[-1.0, -1.0])
    rig.joints_alive = False
    for _ in range(100):
        np.testing.assert_array_equal(rig.tick(), held)
    assert (rig.rung, rig.reason, rig.follower.state.enabled) == (Rung.DISABLED, "disabled by the user", False)


def test_enabling_again_is_a_new_epoch_that_waits_for_a_new_chunk():
    rig = Rig().enabled_and_following()
    epoch = rig.follower.state.epoch
    rig.follower.enable(rig.now_ns)
    assert (rig.rung, rig.follower.state.epoch) == (Rung.FOLLOWING, epoch)  # already enabled
    rig.follower.disable("a pause")
    rig.tick(50)
    rig.follower.enable(rig.now_ns)
    rig.offer(to=[-1.0, -1.0])  # captured before
    held = rig.tick()
    np.testing.assert_array_equal(rig.tick(10), held)
    assert (rig.rung, rig.follower.state.epoch) == (Rung.ENGAGING, epoch + 1)
    rig.offer()
    rig.tick()
    assert rig.rung is Rung.FOLLOWING


def test_enabling_again_at_rest_goes_on_from_the_set_point_that_was_held():
    rig = Rig().enabled_and_following()
    rig.follower.disable("by the user")
    rig.tick(50)
    held = rig.tick()
    rig.follower.enable(rig.now_ns)
    rig.pose = rig.pose - 0.05  # it sags under its weight
    rig.offer()
    np.testing.assert_allclose(rig.tick(), held, rtol=0, atol=0.01)


def test_released_it_goes_silent_at_rest_and_starts_again_where_the_arm_is_measured():
    rig = Rig(release_on_disable=True).enabled_and_following()
    rig.follower.disable("the arm is moved by hand")
    rig.tick(50)
    assert rig.tick() is None
    assert rig.follower.state.rung is Rung.IDLE
    rig.move_by_hand([-0.5, 4.0])
    rig.follower.enable(rig.now_ns)
    rig.tick(5)
    rig.offer()
    rig.tick(50)
    np.testing.assert_allclose(rig.tick(), [-0.5, 4.0], rtol=0, atol=1e-9)


def test_after_a_stall_it_starts_again_from_rest():
    rig = Rig().enabled_and_following()
    rig.tick(3)
    assert not rig.follower.at_rest
    before = rig.pose
    rig.pass_time(300 * MS)
    rig.follower.observe(rig.measured())
    after = rig.follower.tick(rig.moment)
    assert (np.abs(after - before) <= ARM.acceleration * 0.01**2 + 1e-12).all()
    assert rig.follower.stalls == 1


def test_after_a_long_stall_it_is_silent_and_begins_where_the_arm_is_when_enabled_again():
    rig = Rig(hold_timeout_s=0.5).enabled_and_following()
    rig.may_fall_silent = True
    rig.pass_time(600 * MS)
    rig.offer()
    assert rig.tick() is None
    assert (rig.rung, rig.reason) == (Rung.IDLE, "the command loop stood still for 0.6 s; enable it again")
    rig.pose = np.array([-0.5, 4.0])  # somebody has moved it, unseen
    rig.offer()
    assert rig.tick(60) is None
    rig.follower.enable(rig.now_ns)
    rig.tick(5)
    rig.offer()
    np.testing.assert_allclose(rig.tick(), [-0.5, 4.0], rtol=0, atol=1e-9)
    assert rig.rung is Rung.FOLLOWING


@pytest.mark.parametrize("rung", [Rung.ENGAGING, Rung.DISABLED, Rung.FAULT])
def test_after_a_long_stall_nothing_goes_on_whatever_the_rung(rung):
    rig = Rig(hold_timeout_s=0.5).enabled_and_following()
    if rung is Rung.ENGAGING:
        rig.follower.reset(rig.now_ns)
    elif rung is Rung.DISABLED:
        rig.follower.disable("a pause")
    else:
        rig.follower.fail("blocked")
    rig.tick(2)
    assert rig.rung is rung
    rig.pass_time(600 * MS)
    rig.pose = np.array([-0.5, 4.0])
    rig.may_fall_silent = True
    assert rig.tick(60) is None
    assert rig.rung is (Rung.FAULT if rung is Rung.FAULT else Rung.IDLE)
    rig.follower.reset(rig.now_ns)
    rig.follower.enable(rig.now_ns)
    rig.tick(5)
    rig.offer()
    np.testing.assert_allclose(rig.tick(), [-0.5, 4.0], rtol=0, atol=1e-9)


def test_a_set_point_that_came_too_late_to_be_sent_is_taken_back():
    rig = Rig().enabled_and_following()
    before = rig.pose
    rig.pass_time(PERIOD_NS)
    rig.follower.tick(rig.moment)
    rig.follower.retract()
    rig.pass_time(500 * MS)
    rig.follower.observe(rig.measured())
    np.testing.assert_array_equal(rig.follower.tick(rig.moment), before)
    assert (rig.rung, rig.reason) == (Rung.HOLDING, "the command loop stood still; waiting for a new chunk")


@pytest.mark.parametrize("released", [False, True])
def test_a_first_set_point_that_came_too_late_to_be_sent_leaves_the_arm_where_it_is(released):
    rig = Rig(release_on_disable=True)
    if released:
        rig.enabled_and_following()
        rig.follower.disable("the arm is moved by hand")
        rig.tick(60)
        assert rig.rung is Rung.IDLE
    rig.pose = np.array([-0.5, 4.0])
    rig.tick(60)
    rig.follower.enable(rig.now_ns)
    rig.tick(5)
    rig.offer()
    rig.pass_time(150 * MS)
    rig.follower.observe(rig.measured())
    rig.follower.tick(rig.moment)
    rig.follower.retract()
    rig.anchor(rig.pose)
    np.testing.assert_array_equal(rig.tick(), [-0.5, 4.0])


def test_enabling_again_while_braking_goes_on_without_a_jump():
    rig = Rig().enabled_and_following()
    rig.follower.disable("by mistake")
    rig.tick(2)
    rig.follower.enable(rig.now_ns)
    rig.tick()
    rig.follower.offer(Chunk(rig.now_ns, POINT_NS, np.full((20, 2), 1.0)), rig.now_ns)
    assert not rig.follower.at_rest
    rig.pose = rig.pose - 0.05  # the measured pose lags behind the set point
    rig.tick(100)
    assert rig.rung is Rung.FOLLOWING


# -- Reset, and a clock that jumps


@pytest.mark.parametrize("after", [0, 60])
def test_a_reset_throws_the_plan_away_and_goes_on_from_the_set_point(after):
    rig = Rig().enabled_and_following()
    epoch = rig.follower.state.epoch
    rig.follower.reset(rig.now_ns)
    rig.offer(to=[-1.0, -1.0])  # was in flight
    rig.tick(1 + after)
    assert (rig.rung, rig.follower.state.epoch) == (Rung.ENGAGING, epoch + 1)
    assert rig.reason == "reset; waiting for a chunk captured after it"
    rig.pose = rig.pose - 0.05  # the arm sags, or grips something: no reason for a jump
    rig.tick(3)
    rig.offer(age_ns=5 * MS)
    rig.tick(50)
    assert rig.rung is Rung.FOLLOWING


def test_a_reset_of_a_disabled_follower_leaves_it_disabled():
    rig = Rig().enabled_and_following()
    rig.follower.disable("a pause")
    rig.tick(50)
    epoch = rig.follower.state.epoch
    rig.follower.reset(rig.now_ns)
    rig.tick()
    assert rig.follower.state == FollowerState(Rung.DISABLED, epoch + 1, "a pause")


def test_a_clock_that_jumps_back_throws_the_plan_away_and_brakes():
    rig = Rig().enabled_and_following()
    epoch = rig.follower.state.epoch
    rig.now_ns -= 10**9
    rig.tick()
    assert (rig.rung, rig.follower.state.epoch) == (Rung.ENGAGING, epoch + 1)
    assert rig.reason == "the clock jumped back; waiting for a new chunk"
    rig.tick(50)
    assert rig.follower.at_rest
    rig.offer()
    rig.tick()
    assert rig.rung is Rung.FOLLOWING


def test_a_clock_that_jumps_back_while_disabled_does_not_matter():
    rig = Rig().enabled_and_following()
    rig.follower.disable("a pause")
    rig.tick(50)
    rig.now_ns -= 10**9
    rig.tick()
    assert rig.rung is Rung.DISABLED
    rig.follower.enable(rig.now_ns)
    rig.tick(5)
    rig.offer()
    rig.tick()
    assert rig.rung is Rung.FOLLOWING


def test_a_clock_that_jumps_ahead_holds():
    rig = Rig().enabled_and_following()
    rig.now_ns += 3600 * 10**9
    rig.tick(50)
    assert (rig.rung, rig.reason) == (Rung.ENGAGING, "the clock jumped ahead; waiting for a new chunk")
    assert rig.follower.at_rest
    rig.offer()
    rig.tick()
    assert rig.rung is Rung.FOLLOWING


def test_a_clock_that_stands_still_holds_the_arm():
    rig = Rig().enabled_and_following()
    rig.steady_ns += PERIOD_NS
    rig.follower.observe(rig.measured())
    rig.pose = rig._watch.take(rig.follower.tick(rig.moment, "the clock stands still"))
    assert (rig.rung, rig.reason) == (Rung.DECELERATING, "the clock stands still")


# -- Any sequence of calls


@pytest.mark.parametrize("seed", range(15))
def test_no_sequence_of_calls_leads_to_silence_a_jump_or_out_of_the_limits(seed):
    random = np.random.default_rng(seed)
    arm = random_robot(random)
    lower = np.where(np.isinf(arm.lower), -5.0, arm.lower)
    upper = np.where(np.isinf(arm.upper), 5.0, arm.upper)
    rig = Rig(arm, random.uniform(lower, upper))
    for _ in range(150):
        match random.choice(
            ["enable", "disable", "reset", "jump", "mute", "plan"], p=[0.1, 0.04, 0.02, 0.02, 0.02, 0.8]
        ):
            case "enable":
                rig.follower.enable(rig.now_ns)
            case "disable":
                rig.follower.disable("disabled")
            case "reset":
                rig.follower.reset(rig.now_ns)
            case "jump":
                rig.now_ns += int(random.integers(-(10**9), 10**9))
            case "mute":
                rig.joints_alive = not rig.joints_alive
            case "plan":
                shape = (random.integers(1, 30), len(arm.joints))
                actions = random.uniform(lower - 1.0, upper + 1.0, size=shape) * random.choice([1.0, 1.0, 1e7])
                stamp_ns = rig.now_ns - int(random.integers(-20 * MS, 500 * MS))
                rig.follower.offer(Chunk(stamp_ns, int(random.integers(1, 100 * MS)), actions), rig.now_ns)
        rig.tick(int(random.integers(1, 30)))
    assert rig.follower.state.epoch > 1


def test_a_gripper_keeps_its_grip_through_a_reset():
    rig = Rig(robot(GRIPPER), [0.03])
    rig.follower.enable(rig.now_ns)
    rig.tick(5)
    rig.offer(to=[0.0], points=10)
    rig.tick(100)
    assert rig.tick()[0] < 1e-6
    rig.follower.reset(rig.now_ns)
    for _ in range(30):
        rig.pose = np.array([0.02])  # something is between the fingers
        assert rig.tick()[0] < 1e-6
        rig.follower.offer(Chunk(rig.now_ns, POINT_NS, np.zeros((10, 1))), rig.now_ns)
    assert rig.rung is Rung.FOLLOWING
