"""The noisy policy of `bench motion`, the ways to execute its chunks, and what is measured of the motion that results.

In: a method, a noise, a seed. Out: a `Motion`: set points, beside the motion that the policy meant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskact_ros.control.curves import Moment
from maskact_ros.control.ensemble import TemporalEnsembler
from maskact_ros.control.follower import PlanFollower
from maskact_ros.control.joint_watch import Measured
from maskact_ros.control.ladder import FollowerSettings
from maskact_ros.control.safety import SafetyFilter
from maskact_ros.core.chunk import Chunk
from maskact_ros.core.paths import shared
from maskact_ros.core.robot import RobotSpec

Matrix = NDArray[np.float64]

METHODS = ("replace", "replace_limited", "act_ensembling", "maskact")
ROBOT = RobotSpec.from_yaml(shared("config/robot.yaml"))
POINTS, EVERY = 50, 10  # of a chunk, and how many are executed before the next takes over
LATENCY_NS = 100_000_000
COEFF = 0.01
_PERIOD_NS = ROBOT.policy_period_ns
_JOINTS = np.flatnonzero(~ROBOT.grippers)  # a gripper opens and shuts, which says nothing about smoothness
_BEGAN_NS = 1_000_000_000_000


@dataclass(frozen=True, eq=False)
class Motion:
    """Set points (T, J) of the arm's joints, those that were meant (T, J), and what is to be said of them."""

    rate_hz: float
    set_points: Matrix
    meant: Matrix

    @property
    def max_position_step(self) -> float:
        """The largest step of a joint from one set point to the next."""
        return float(np.abs(np.diff(self.set_points, axis=0)).max())

    @property
    def max_velocity_step(self) -> float:
        """The largest change of a joint's velocity from one period to the next."""
        return float(np.abs(np.diff(self.set_points, n=2, axis=0)).max() * self.rate_hz)

    @property
    def rms_jerk(self) -> float:
        """Root mean square of the third difference, over all joints."""
        return float(np.sqrt(np.mean(np.diff(self.set_points, n=3, axis=0) ** 2)) * self.rate_hz**3)

    @property
    def limit_violations(self) -> int:
        """Periods in which a joint was beyond its velocity or acceleration limit."""
        velocity = np.diff(self.set_points, axis=0) * self.rate_hz
        acceleration = np.diff(velocity, axis=0) * self.rate_hz
        limits = ROBOT.limits
        fast = np.abs(velocity[1:]) > limits.velocity[_JOINTS] * (1 + 1e-6)
        hard = np.abs(acceleration) > limits.acceleration[_JOINTS] * (1 + 1e-6)
        return int(np.any(fast | hard, axis=1).sum())

    @property
    def delay_s(self) -> float:
        """By how much the meant motion must be delayed to fit the set points best (least squares)."""
        most = round(0.2 * self.rate_hz)
        lags = np.arange(-most, most + 1)
        core = slice(most, len(self.meant) - most)
        errors = [np.mean((self.set_points[core] - np.roll(self.meant, lag, axis=0)[core]) ** 2) for lag in lags]
        return float(lags[int(np.argmin(errors))] / self.rate_hz)


class NoisyPolicy:
    """Plans a smooth motion within the robot's limits, each time with an error of its own."""

    def __init__(self, noise: float, seed: int):
        self._random = np.random.default_rng(seed)
        self._noise = noise
        limits = ROBOT.limits
        self._frequency = self._random.uniform(0.5, 2.0, size=(2, len(limits.velocity)))  # rad/s
        self._phase = self._random.uniform(0.0, 2.0 * np.pi, size=self._frequency.shape)
        self._middle, half = (limits.lower + limits.upper) / 2.0, (limits.upper - limits.lower) / 2.0
        by_speed = 0.4 * limits.velocity / self._frequency
        by_acceleration = 0.4 * limits.acceleration / self._frequency**2
        self._amplitude = np.minimum(np.minimum(by_speed, by_acceleration), 0.4 * half) / 2.0

    def meant(self, times_ns: NDArray[np.int64]) -> Matrix:
        """The motion (T, D) that it is about."""
        times_s = (np.asarray(times_ns) - _BEGAN_NS) / 1e9
        swings = np.sin(times_s[:, None, None] * self._frequency + self._phase) * self._amplitude
        meant: Matrix = self._middle + swings.sum(axis=1)
        return meant

    def chunk(self, stamp_ns: int) -> Chunk:
        """What it plans from an image of that time."""
        due_ns = stamp_ns + _PERIOD_NS * np.arange(1, POINTS + 1)
        joints = len(self._middle)
        share = np.linspace(0.0, 1.0, POINTS)[:, None]
        offset, drift = self._random.normal(scale=self._noise, size=(2, joints))
        jitter = self._random.normal(scale=self._noise / 10.0, size=(POINTS, joints))
        error = np.where(ROBOT.grippers, 0.0, offset + share * drift + jitter)
        return Chunk(stamp_ns, _PERIOD_NS, self.meant(due_ns) + error)


def execute(method: str, *, handovers: int, noise: float, rate_hz: float, seed: int) -> Motion:
    """Execute so many hand-overs by one of `METHODS`, in simulated time."""
    policy = NoisyPolicy(noise, seed)
    every = 1 if method == "act_ensembling" else EVERY
    span_ns = (handovers + 1) * EVERY * _PERIOD_NS
    times_ns = _BEGAN_NS + np.arange(0, span_ns, round(1e9 / rate_hz), dtype=np.int64)
    stamps_ns = range(_BEGAN_NS - LATENCY_NS, _BEGAN_NS + span_ns, every * _PERIOD_NS)
    arrivals = [(stamp_ns + LATENCY_NS, policy.chunk(stamp_ns)) for stamp_ns in stamps_ns]
    set_points = (_follow if method == "maskact" else _replace)(method, arrivals, times_ns, policy, rate_hz)
    first = np.searchsorted(times_ns, _BEGAN_NS + EVERY * _PERIOD_NS)  # without the beginning, which is no hand-over
    return Motion(rate_hz, set_points[first:, _JOINTS], policy.meant(times_ns)[first:, _JOINTS])


def _replace(
    method: str, arrivals: list[tuple[int, Chunk]], times_ns: NDArray[np.int64], policy: NoisyPolicy, rate_hz: float
) -> Matrix:
    ensembler = TemporalEnsembler(COEFF) if method == "act_ensembling" else None
    coming = iter([*arrivals, (np.iinfo(np.int64).max, arrivals[-1][1])])
    arrives_ns, arriving = next(coming)
    newest = arriving
    safety = SafetyFilter(ROBOT.limits, 1.0 / rate_hz)
    safety.start(policy.meant(times_ns[:1])[0])
    period_ns = round(1e9 / rate_hz)
    set_points = []
    for now_ns in times_ns:
        while now_ns >= arrives_ns:
            newest = arriving if ensembler is None else ensembler.add(arriving)
            arrives_ns, arriving = next(coming)
        before, target = newest.sample(np.array([now_ns - period_ns, now_ns]))
        set_points.append(safety.follow(target, before) if method == "replace_limited" else target)
    return np.array(set_points)


def _follow(
    method: str, arrivals: list[tuple[int, Chunk]], times_ns: NDArray[np.int64], policy: NoisyPolicy, rate_hz: float
) -> Matrix:
    follower = PlanFollower(ROBOT, rate_hz=rate_hz, settings=FollowerSettings(engage_tolerance_s=10.0))
    follower.enable(arrivals[0][0] - 2 * LATENCY_NS)
    pose = policy.meant(times_ns[:1])[0]
    set_points = []
    waiting = iter([*arrivals, (np.iinfo(np.int64).max, arrivals[-1][1])])
    arrives_ns, arriving = next(waiting)
    for now_ns in times_ns.tolist():
        follower.observe(Measured(pose, now_ns, now_ns))
        while now_ns >= arrives_ns:
            follower.offer(arriving, now_ns)
            arrives_ns, arriving = next(waiting)
        set_point = follower.tick(Moment(now_ns, now_ns))
        assert set_point is not None, follower.state
        pose = set_point
        set_points.append(set_point)
    return np.array(set_points)
