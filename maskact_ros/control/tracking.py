"""Checks that the arm follows its set points, and that these follow the plan. Also whole turns of continuous joints.

In: targets, sent set points, and measurements. Out: which joint does not follow.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.robot import RobotSpec

Vector = NDArray[np.float64]

_IN_A_ROW = 3  # consecutive wrong measurements that count: a single one may be a sensor's glitch
_KEPT = 130  # set points that are kept to represent all within the tolerance
_STILL_IN_FORCE = np.iinfo(np.int64).max
# A target beyond this distance from the set point asks for more than the limits allow: [rad] = [s] x velocity limit.
_CLAMPED_S = 0.05
_CATCHING_UP = 0.9  # a distance below this share of the largest one is decreasing: the joint catches up
_AS_COMMANDED_S = 0.2  # least tolerance of `as_commanded`, also if following is not checked
_SHARE_BEYOND = 0.25  # further tolerance, as a share of the first one: for droop, noise and a lag that varies


def nearest_turn(angles: Vector, reference: Vector, continuous: NDArray[np.bool_]) -> Vector:
    """Positions (…, D) with continuous joints moved by whole turns to within half a turn of `reference` (D,)."""
    if not continuous.any():
        return angles
    turns = np.round((angles - reference) / (2.0 * math.pi))
    return np.where(continuous, angles - 2.0 * math.pi * turns, angles)


class FollowingCheck:
    """Finds joints that are not where their set point was within the last `tolerance_s` seconds.

    A joint may be outside of the range of those set points by its velocity limit times a quarter of `tolerance_s`.
    Grippers are not checked: closed on an object, they never reach their set point.
    """

    def __init__(self, robot: RobotSpec, tolerance_s: float):
        self._robot = robot
        self._velocity, self._ignored = robot.velocity, np.flatnonzero(robot.grippers)
        self._sent = np.zeros((_KEPT, len(robot.joints)))  # a ring, newest at `_count - 1`
        self._until_ns = np.zeros(_KEPT, dtype=np.int64)  # when each set point was replaced by the next
        self._count = 0
        self._bad = 0
        self.set_tolerance(tolerance_s)

    def set_tolerance(self, tolerance_s: float) -> None:
        """Use another tolerance from now on."""
        self.tolerance_s = tolerance_s

    def reset(self) -> None:
        """Forget the sent set points, for a new motion."""
        self._count = self._bad = 0

    def sent(self, set_point: Vector, steady_ns: int) -> None:
        """Note a set point (D,) and when it was sent, on the steady clock."""
        newest = (self._count - 1) % _KEPT
        # A set point that was in force only briefly is overwritten by the next, so that the ring spans the tolerance.
        if self._count < 2 or steady_ns - self._until_ns[(newest - 1) % _KEPT] > self.tolerance_s * 1e9 / (_KEPT - 2):
            self._until_ns[newest] = steady_ns
            self._count += 1
            newest = (self._count - 1) % _KEPT
        self._sent[newest], self._until_ns[newest] = set_point, _STILL_IN_FORCE

    def measured(self, positions: Vector, steady_ns: int) -> str | None:
        """Which joint does not follow by positions (D,), after several such measurements in a row; or None."""
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
        """Whether positions (D,) agree with the set points of the last moments."""
        tolerance_s = max(self.tolerance_s, _AS_COMMANDED_S)
        return self._count > 0 and bool((self._beyond(positions, steady_ns, tolerance_s) <= 0).all())

    def _beyond(self, positions: Vector, steady_ns: int, tolerance_s: float) -> Vector:
        """The distance (D,) of each joint beyond the tolerance; -inf for joints that are not checked."""
        recent = self._until_ns[: self._count] >= steady_ns - round(tolerance_s * 1e9)
        sent = self._sent[: self._count][recent]
        beyond: Vector = np.maximum(sent.min(axis=0) - positions, positions - sent.max(axis=0))
        beyond -= self._velocity * (tolerance_s * _SHARE_BEYOND)
        beyond[self._ignored] = -np.inf
        return beyond


class ClampingCheck:
    """Finds joints whose plan asks for more than the limits allow, and that do not catch up with it.

    Grippers are not checked: their plans jump.
    """

    def __init__(self, robot: RobotSpec):
        self._robot = robot
        self._allowed = np.where(robot.grippers, np.inf, robot.velocity * _CLAMPED_S)
        self._since_ns: int | None = None  # since when the distance does not decrease
        self._by = 0.0

    def reset(self) -> None:
        """Forget the distance: there is no target any more."""
        self._since_ns = None

    def beyond_for(self, timeout_s: float, target: Vector, set_point: Vector, steady_ns: int) -> str | None:
        """The joint that has been too far from its target for `timeout_s`, or None; call it for each set point (D,)."""
        far = np.abs(target - set_point) - self._allowed
        worst = float(far.max())
        if worst <= 0:
            self._since_ns = None
            return None
        if self._since_ns is None or worst < _CATCHING_UP * self._by:
            self._since_ns, self._by = steady_ns, worst
        self._by = max(self._by, worst)
        return self._robot.joints[int(np.argmax(far))].name if steady_ns - self._since_ns > timeout_s * 1e9 else None
