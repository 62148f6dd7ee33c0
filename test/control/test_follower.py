"""The follower: what it commands, when it is silent, and every way from one rung to the next."""

from dataclasses import replace

import numpy as np
import pytest
from support.arms import ARM, random_robot, robot
from support.motion import MotionWatch

from maskact_ros.control.curves import Moment
from maskact_ros.control.follower import PlanFollower
from maskact_ros.control.joint_watch import Measured
from maskact_ros.control.ladder import FollowerSettings, FollowerState, Rung
from maskact_ros.control.safety import SafetyFilter
from maskact_ros.core.chunk import Chunk
from maskact_ros.core.robot import Joint

GRIPPER = Joint(name="grip", type="prismatic", lower=0.0, upper=0.04, velocity=0.2, acceleration=2.0, gripper=True)

MS = 1_000_000
PERIOD_NS = 10 * MS
POINT_NS = 50 * MS
HOME = np.array([0.5, 0.0])


SETTINGS = {"engage_tolerance_s": 100.0}  # plans may begin anywhere, where that is not the question


class Rig:
    """A follower at 100 Hz in a time of its own, and an arm that is where it was last told to be."""

    def __init__(self, arm=ARM, pose=HOME, **settings):
        self.arm, self.pose = arm, np.array(pose)
        self.follower = PlanFollower(arm, rate_hz=100.0, settings=FollowerSettings(**SETTINGS | settings))
        self.may_fall_silent = settings.get("release_on_disable", False)
        self.blocked = None  # the pose at which the arm is stuck, or None
        self.now_ns, self.steady_ns = 1_800_000_000 * 10**9, 100 * 10**9
        self.joints_alive = True
        self._watch: MotionWatch | None = None

    @property
    def rung(self):
        return self.follower.state.rung

    @property
    def reason(self):
        return self.follower.state.reason

    @property
    def moment(self):
        return Moment(self.now_ns, self.steady_ns)

    def measured(self):
        pose = self.pose if self.blocked is None else self.blocked
        return Measured(pose, self.now_ns, self.steady_ns)

    def pass_time(self, by_ns: int) -> None:
        self.now_ns += by_ns
        self.steady_ns += by_ns

    def tick(self, periods: int = 1) -> np.ndarray | None:
        """The last of so many set points; each is checked against the one before."""
        for _ in range(periods):
            self.pass_time(PERIOD_NS)
            if self.joints_alive:
                self.follower.observe(self.measured())
            set_point = self.follower.tick(self.moment)
            if set_point is None:
                assert self._watch is None or self.may_fall_silent, "the follower fell silent"
                self._watch = None
                continue
            if self._watch is None:
                self.anchor(self.pose)
            self.pose = self._watch.take(set_point)
        return set_point

    def move_by_hand(self, pose):
        """The arm is led to a pose, at half its speed."""
        begin, end = self.pose, np.array(pose)
        steps = max(1, int(np.ceil(np.abs((end - begin) / self.arm.velocity).max() * 200)))
        for way in np.arange(1, steps + 1) / steps:
            self.pose = begin + way * (end - begin)
            self.tick()

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


def sag(rig, by, ticks=200):
    """A joint leaves its set point, slowly, and stays where it is then."""
    begin = rig.pose.copy()
    for share in np.arange(1, ticks + 1) / ticks:
        rig.blocked = begin + share * np.array(by)
        rig.tick()


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
