"""A follower, an arm that executes its commands, and a clock: `Rig` advances them tick by tick."""

import numpy as np

from maskact_ros.control.curves import Moment
from maskact_ros.control.follower import PlanFollower
from maskact_ros.control.joint_watch import Measured
from maskact_ros.control.ladder import FollowerSettings, Rung
from maskact_ros.core.chunk import Chunk
from maskact_ros.core.robot import Joint
from support.arms import ARM
from support.motion import MotionWatch

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
        """The last of `count` set points; each is checked against the one before."""
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


def sag(rig, by, ticks=200):
    """A joint leaves its set point, slowly, and stays where it is then."""
    begin = rig.pose.copy()
    for share in np.arange(1, ticks + 1) / ticks:
        rig.blocked = begin + share * np.array(by)
        rig.tick()
