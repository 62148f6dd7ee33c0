"""Does the arm follow its set points, and do they follow the plan? And turns of continuous joints.

In: targets and set points as they are sent, measurements as they come. Out: which joint does not follow.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.robot import RobotSpec

Vector = NDArray[np.float64]

_IN_A_ROW = 3  # measurements that must agree: one alone may be a glitch of a sensor
_KEPT = 130  # set points that stand for all within the tolerance
_STILL_IN_FORCE = np.iinfo(np.int64).max
# A target further from the set point than a joint covers in so long at full speed asks for more than the limits give.
_CLAMPED_S = 0.05
_CATCHING_UP = 0.9  # of the largest such distance: one that has fallen so far is being closed
_AS_COMMANDED_S = 0.2  # the least tolerance by which a joint is as commanded, also where following is not checked
_SHARE_BEYOND = 0.25  # of the distance covered within the tolerance: for droop, noise and a lag that is not constant


def nearest_turn(angles: Vector, reference: Vector, continuous: NDArray[np.bool_]) -> Vector:
    """Positions (…, D) with continuous joints moved by whole turns to within half a turn of `reference` (D,)."""
    if not continuous.any():
        return angles
    turns = np.round((angles - reference) / (2.0 * math.pi))
    return np.where(continuous, angles - 2.0 * math.pi * turns, angles)


class FollowingCheck:
    """Finds joints that are not where their set point has been within the last `tolerance_s` seconds.

    Beyond the range of those set points a joint may be by what it covers in a quarter of that time at full speed.
    Joints that hold things are not judged: closed on an object, they never reach their set point.
    """

    def __init__(self, robot: RobotSpec, tolerance_s: float):
        self._robot = robot
        self._velocity, self._ignored = robot.velocity, np.flatnonzero(robot.grippers)
        self._sent = np.zeros((_KEPT, len(robot.joints)))  # a ring, newest at `_count - 1`
        self._until_ns = np.zeros(_KEPT, dtype=np.int64)  # when each was replaced by the next
        self._count = 0
        self._bad = 0
        self.set_tolerance(tolerance_s)

    def set_tolerance(self, tolerance_s: float) -> None:
        """Judge by another tolerance from now on."""
        self.tolerance_s = tolerance_s

    def reset(self) -> None:
        """Forget what was sent: the motion begins anew."""
        self._count = self._bad = 0

    def sent(self, set_point: Vector, steady_ns: int) -> None:
        """Note a set point (D,) and when it was sent, on the steady clock."""
        newest = (self._count - 1) % _KEPT
        # One that was in force for a moment only makes room for the next, so that the ring spans the tolerance.
        if self._count < 2 or steady_ns - self._until_ns[(newest - 1) % _KEPT] > self.tolerance_s * 1e9 / (_KEPT - 2):
            self._until_ns[newest] = steady_ns
            self._count += 1
            newest = (self._count - 1) % _KEPT
        self._sent[newest], self._until_ns[newest] = set_point, _STILL_IN_FORCE

    def measured(self, positions: Vector, steady_ns: int) -> str | None:
        """What is wrong with positions (D,) measured at a time, if it has been wrong several times in a row."""
        if self._count == 0:
            return None
        beyond = self._beyond(positions, steady_ns, self.tolerance_s)
        self._bad = self._bad + 1 if (beyond > 0).any() else 0
        if self._bad < _IN_A_ROW:
            return None
        worst = int(np.argmax(beyond / self._velocity))
        error = abs(positions[worst] - self._sent[(self._count - 1) % _KEPT, worst])
        return f"{self._robot.joints[worst].name} does not follow: it is {error:.2f} from its set point"

    def as_commanded(self, positions: Vector, steady_ns: int) -> bool:
        """Whether positions (D,) are where the set points of the last moments led."""
        tolerance_s = max(self.tolerance_s, _AS_COMMANDED_S)
        return self._count > 0 and bool((self._beyond(positions, steady_ns, tolerance_s) <= 0).all())

    def _beyond(self, positions: Vector, steady_ns: int, tolerance_s: float) -> Vector:
        """How far (D,) each joint is beyond what a tolerance allows; -inf for those that are not judged."""
        recent = self._until_ns[: self._count] >= steady_ns - round(tolerance_s * 1e9)
        sent = self._sent[: self._count][recent]
        beyond: Vector = np.maximum(sent.min(axis=0) - positions, positions - sent.max(axis=0))
        beyond -= self._velocity * (tolerance_s * _SHARE_BEYOND)
        beyond[self._ignored] = -np.inf
        return beyond


class ClampingCheck:
    """Finds joints whose plan asks for more than the limits give, and that do not catch up with it.

    Joints that hold things are not judged: their plans jump.
    """

    def __init__(self, robot: RobotSpec):
        self._robot = robot
        self._allowed = np.where(robot.grippers, np.inf, robot.velocity * _CLAMPED_S)
        self._since_ns: int | None = None  # since when the distance is not being closed
        self._by = 0.0

    def reset(self) -> None:
        """Nothing is asked any more."""
        self._since_ns = None

    def beyond_for(self, timeout_s: float, target: Vector, set_point: Vector, steady_ns: int) -> str | None:
        """The joint that has been too far from its target for so long; for each target and set point (D,) in turn."""
        far = np.abs(target - set_point) - self._allowed
        worst = float(far.max())
        if worst <= 0:
            self._since_ns = None
            return None
        if self._since_ns is None or worst < _CATCHING_UP * self._by:
            self._since_ns, self._by = steady_ns, worst
        self._by = max(self._by, worst)
        return self._robot.joints[int(np.argmax(far))].name if steady_ns - self._since_ns > timeout_s * 1e9 else None
