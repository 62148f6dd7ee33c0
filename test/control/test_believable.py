"""Measurements that cannot be: they are refused by name, and never lead the set point anywhere."""

import numpy as np
import pytest
from support.arms import ARM

from maskact_ros.control.believable import PoseBelief
from maskact_ros.control.curves import Moment
from maskact_ros.control.follower import PlanFollower
from maskact_ros.control.joint_watch import Measured
from maskact_ros.control.ladder import FollowerSettings, Rung
from maskact_ros.core.chunk import Chunk
from maskact_ros.core.paths import shared
from maskact_ros.core.robot import RobotSpec

MS = 1_000_000
ROBOT = RobotSpec.from_yaml(shared("config/robot.yaml"))
HOME = np.array([0.1, -0.2, 0.5, 0.6, 0.1, -0.3, 0.02])
GOAL = np.array([0.6, 0.5, 1.0, 0.9, 0.5, 0.8, 0.03])
LAG = 0.3  # of the way to its set point that the arm goes in each period


class Run:
    """The simulated arm's follower at 100 Hz, and an arm that lags a little; `falsify` changes what is measured."""

    def __init__(self, **settings):
        self.follower = PlanFollower(ROBOT, rate_hz=100.0, settings=FollowerSettings(**settings))
        self.now_ns, self.pose, self.set_points = 10**9, HOME.copy(), []
        self.falsify = lambda pose: pose
        self.doubts = []
        self.plans = True
        self.tick(3)
        self.follower.enable(self.now_ns)
        self.tick(200)
        assert self.rung is Rung.FOLLOWING

    @property
    def rung(self):
        return self.follower.state.rung

    @property
    def moment(self):
        return Moment(self.now_ns, self.now_ns)

    def tick(self, periods=1):
        for _ in range(periods):
            self.now_ns += 10 * MS
            since_s = (self.now_ns - 10**9) / 1e9
            if self.plans and self.now_ns % (200 * MS) == 0:
                way = np.clip((since_s + np.arange(1, 61) / 30)[:, None] / 10, 0, 1)
                self.follower.offer(Chunk(self.now_ns - 1, round(1e9 / 30), HOME + way * (GOAL - HOME)), self.now_ns)
            self.doubts.append(self.follower.observe(Measured(self.falsify(self.pose), self.now_ns, self.now_ns)))
            set_point = self.follower.tick(self.moment)
            if set_point is not None:
                self.set_points.append(set_point)
                self.pose = self.pose + LAG * (set_point - self.pose)

    def come_to(self, state):
        if state == "holding":
            self.plans = False
            self.tick(300)
            assert self.rung is Rung.HOLDING
        elif state == "disabled":
            self.follower.disable("a pause")
            self.tick(50)
        elif state == "in a fault":
            self.follower.fail("something else")
            self.tick(50)


def flipped(pose, random):
    """One bit of one joint's number is another one, and the number still finite."""
    while True:
        wrong, joint, bit = pose.copy(), random.integers(len(pose)), random.integers(64)
        wrong.view(np.uint64)[joint] ^= np.uint64(1) << np.uint64(bit)
        if np.isfinite(wrong).all():
            return wrong


def swapped(pose, random):
    wrong, (a, b) = pose.copy(), random.choice(6, 2, replace=False)
    wrong[[a, b]] = wrong[[b, a]]
    return wrong


def falsified(kind, random):
    """What a broken driver makes of a pose; the same for as long as it is broken."""
    frozen, jump = [], random.uniform(0.15, 1.0, 7) * ROBOT.velocity * random.choice([-1, 1])
    joint = random.integers(6)
    return {
        "zeros": lambda pose: np.zeros(7),
        "degrees": np.degrees,
        "one joint's zero": lambda pose: np.where(np.arange(7) == joint, 0.0, pose),
        "bit errors": lambda pose: flipped(pose, random),
        "a jump": lambda pose: pose + jump,
        "frozen": lambda pose: frozen[0] if frozen else frozen.append(pose.copy()) or pose,
        "swapped": lambda pose: swapped(pose, random),
        "noise": lambda pose: random.uniform(ROBOT.lower, ROBOT.upper),
    }[kind]


KINDS = ["zeros", "degrees", "one joint's zero", "bit errors", "a jump", "frozen", "swapped", "noise"]


@pytest.mark.parametrize("state", ["following", "holding", "disabled", "in a fault"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_motion_begins_because_of_measurements_that_cannot_be(kind, state):
    random = np.random.default_rng([KINDS.index(kind), len(state)])
    for count in (1, 3, 5, int(random.integers(6, 30)), 30):
        run = Run()
        run.come_to(state)
        rung, begun = run.rung, len(run.set_points)
        run.falsify = falsified(kind, random)
        run.tick(count)
        run.falsify = lambda pose: pose
        run.tick(150)
        led = np.array(run.set_points[begun - 1 :])
        if state == "following":  # a plan that goes one way: never back, never beyond
            assert (np.diff(led, axis=0) * np.sign(GOAL - HOME) >= -1e-9).all(), f"{count} of {kind}"
            assert run.rung is Rung.FOLLOWING
        else:
            assert (led == led[0]).all(), f"{count} of {kind}"
            assert run.rung is rung


@pytest.mark.parametrize("state", ["disabled", "in a fault"])
@pytest.mark.parametrize("kind", ["zeros", "degrees", "a jump", "noise"])
def test_nor_when_they_go_on(kind, state):
    run = Run()
    run.come_to(state)
    held = run.set_points[-1]
    run.falsify = falsified(kind, np.random.default_rng(5))
    run.tick(1000)
    run.falsify = lambda pose: pose
    run.tick(300)
    assert (np.array(run.set_points[-1300:]) == held).all()


@pytest.mark.parametrize("every", [1, 2, 7])
@pytest.mark.parametrize("kind", ["zeros", "degrees", "a jump"])
def test_when_they_go_on_it_is_a_fault_that_names_them(kind, every):
    run, wrong, number = Run(), falsified(kind, np.random.default_rng(6)), iter(range(10_000))
    run.falsify = lambda pose: wrong(pose) if next(number) % every == 0 else pose
    run.tick(90)
    assert run.rung is not Rung.FAULT
    run.tick(40)
    assert run.rung is Rung.FAULT
    assert run.follower.state.reason.startswith("joint states are not believable: ")
    assert "; allowed: " in run.follower.state.reason or "beyond its limits" in run.follower.state.reason
    assert run.follower.cannot_engage(run.moment) is not None
    run.falsify = lambda pose: pose
    run.tick(100)
    rest = run.set_points[-1]
    assert run.follower.fault_persists is None
    assert "released" not in run.follower.reset(run.now_ns)
    assert run.follower.cannot_engage(run.moment) is None
    run.follower.enable(run.now_ns)
    run.tick(1)
    np.testing.assert_array_equal(run.set_points[-1], rest)


def test_what_is_refused_is_named_with_both_values_and_said_in_the_same_words_while_it_lasts():
    run = Run()
    run.come_to("disabled")
    run.falsify = lambda pose: np.where(np.arange(7) == 2, 0.004 * len(run.doubts), pose)
    run.tick(20)
    said = set(run.doubts[-20:])
    assert len(said) == 1
    (text,) = said
    assert text.startswith(f"{ROBOT.joint_names[2]} ")
    assert run.follower.poses_refused == 20


def test_a_pose_in_degrees_is_beyond_the_limits():
    belief = PoseBelief(ROBOT)
    text = belief.judge(np.degrees(HOME), 0, sending=False)
    assert text == "wrist_flex is measured at 34.377, beyond its limits, -2 to 2"
    assert belief.doubt == text


@pytest.mark.parametrize(("rate_hz", "speed"), [(500, 1.0), (100, 1.4), (30, 1.2), (10, 1.0), (4, 0.9)])
def test_an_arm_that_is_led_by_hand_is_believed_all_the_way(rate_hz, speed):
    belief = PoseBelief(ARM)
    for i in range(round(2 * rate_hz)):
        pose = np.array([-1.0, 0.0]) + ARM.velocity * speed * i / rate_hz
        assert belief.judge(np.minimum(pose, [2.0, np.inf]), round(i * 1e9 / rate_hz), sending=False) is None


def test_without_commands_another_pose_is_believed_once_it_has_stayed_for_half_a_second():
    belief = PoseBelief(ARM)
    assert belief.judge(np.array([1.5, 0.0]), 0, sending=False) is None
    refused = [belief.judge(np.array([0.2, 1.0]), i * 10 * MS, sending=False) is not None for i in range(1, 100)]
    assert refused == [True] * 50 + [False] * 49


def test_with_commands_another_pose_is_not_believed_however_long_it_stays():
    belief = PoseBelief(ARM)
    assert belief.judge(np.array([1.5, 0.0]), 0, sending=True) is None
    assert all(belief.judge(np.array([0.2, 1.0]), i * 10 * MS, sending=True) for i in range(1, 1000))
    assert belief.judge(np.array([0.2, 1.0]), 10**11, sending=True, as_commanded=lambda *_: True) is None


@pytest.mark.parametrize("turns", [-3, 1, 12])
def test_a_continuous_joint_on_another_turn_is_the_same_pose(turns):
    belief = PoseBelief(ARM)
    assert belief.judge(np.array([0.5, 3.1]), 0, sending=True) is None
    assert belief.judge(np.array([0.5, 3.1 + 2 * np.pi * turns]), 10 * MS, sending=True) is None
    assert belief.judge(np.array([0.5, -3.15]), 20 * MS, sending=True) is None
