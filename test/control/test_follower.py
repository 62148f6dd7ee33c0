"""The follower: what it commands, when it is silent, and every way from one rung to the next."""

import numpy as np
import pytest
from arms import ARM, random_robot, robot
from motion import MotionWatch

from maskact_ros.chunk import Chunk
from maskact_ros.control.follower import FollowerState, Measured, PlanFollower, Rung
from maskact_ros.robot import Joint

MS = 1_000_000
PERIOD_NS = 10 * MS
POINT_NS = 50 * MS
HOME = np.array([0.5, 0.0])


class Rig:
    """A follower at 100 Hz in a time of its own, and an arm that is where it was last told to be."""

    def __init__(self, arm=ARM, pose=HOME, *, release_on_disable=False):
        self.arm, self.pose = arm, np.array(pose)
        self.follower = PlanFollower(
            arm, rate_hz=100.0, joint_states_timeout_s=0.2, release_on_disable=release_on_disable
        )
        self._may_fall_silent = release_on_disable
        self.now_ns, self.steady_s = 1_800_000_000 * 10**9, 100.0
        self.joints_alive = True
        self._watch: MotionWatch | None = None

    @property
    def rung(self):
        return self.follower.state.rung

    @property
    def reason(self):
        return self.follower.state.reason

    def tick(self, periods: int = 1) -> np.ndarray | None:
        """The last of so many set points; each is checked against the one before."""
        for _ in range(periods):
            self.now_ns += PERIOD_NS
            self.steady_s += 0.01
            if self.joints_alive:
                self.follower.observe(Measured(self.pose, self.steady_s))
            set_point = self.follower.tick(self.now_ns, self.steady_s)
            if set_point is None:
                assert self._watch is None or self._may_fall_silent, "the follower fell silent"
                self._watch = None
                continue
            if self._watch is None:
                self.anchor(self.pose)
            self.pose = self._watch.take(set_point)
        return set_point

    def anchor(self, pose):
        """Expect the motion to begin anew, at rest, from this pose."""
        self._watch = MotionWatch(self.arm, 0.01, np.clip(pose, self.arm.lower, self.arm.upper))

    def offer(self, *, to=None, points: int = 20, age_ns: int = 20 * MS):
        """A chunk of an image from so long ago: it moves to a pose in its first half and rests in its second."""
        end = self.pose if to is None else np.array(to)
        way = np.minimum(2.0 * np.arange(1, points + 1) / points, 1.0)[:, None]
        chunk = Chunk(self.now_ns - age_ns, POINT_NS, self.pose + way * (end - self.pose))
        self.follower.offer(chunk, self.now_ns)
        return chunk

    def enabled_and_following(self):
        self.tick()
        self.follower.enable(self.now_ns)
        self.tick(5)
        self.offer(to=self.pose + 0.3)
        self.tick(20)
        assert self.rung is Rung.FOLLOWING
        assert not self.follower.at_rest
        return self


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
    assert rig.tick() is not None
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


def test_a_plan_that_leaves_the_limits_is_followed_to_the_limit_and_counted():
    rig = Rig().enabled_and_following()
    rig.offer(to=[5.0, 0.0], points=100)
    for _ in range(400):
        position = rig.tick()
    np.testing.assert_allclose(position[0], 2.0, rtol=0, atol=1e-9)
    assert rig.follower.clamped > 0


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
            rig.follower.observe(Measured(wrong, rig.steady_s))
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
    assert rig.rung is Rung.HOLDING


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


def test_stale_joint_states_hold_the_arm_and_fresh_ones_resume_the_plan():
    rig = Rig().enabled_and_following()
    rig.offer(points=200)
    rig.joints_alive = False
    rig.tick(19)
    assert rig.rung is Rung.FOLLOWING
    rig.tick(30)
    assert (rig.rung, rig.reason) == (Rung.HOLDING, "no joint states for 0.2 s")
    assert rig.follower.at_rest
    rig.joints_alive = True
    rig.tick()
    assert (rig.rung, rig.reason) == (Rung.FOLLOWING, "following the plan")


# -- Disabling, and enabling again


def test_disabling_brakes_and_latches_the_last_set_point():
    rig = Rig().enabled_and_following()
    rig.follower.disable("disabled by the user")
    rig.tick()
    assert not rig.follower.at_rest
    rig.tick(25)
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
    rig.follower.enable(rig.now_ns)
    rig.tick(5)
    rig.pose = np.array([-0.5, 4.0])
    rig.offer()
    rig.anchor(rig.pose)
    rig.tick(50)
    np.testing.assert_allclose(rig.tick(), [-0.5, 4.0], rtol=0, atol=1e-9)


def test_after_a_stall_it_starts_again_from_rest():
    rig = Rig().enabled_and_following()
    rig.tick(3)
    assert not rig.follower.at_rest
    before = rig.pose
    rig.now_ns += 300 * MS
    rig.steady_s += 0.3
    rig.follower.observe(Measured(rig.pose, rig.steady_s))
    after = rig.follower.tick(rig.now_ns, rig.steady_s)
    assert (np.abs(after - before) <= ARM.acceleration * 0.01**2 + 1e-12).all()
    assert rig.follower.stalls == 1


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
    assert rig.rung is Rung.HOLDING
    assert rig.follower.at_rest


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
    gripper = robot(Joint(name="grip", type="prismatic", lower=0.0, upper=0.04, velocity=0.2, acceleration=2.0))
    rig = Rig(gripper, [0.03])
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
