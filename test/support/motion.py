"""Checks that hold for any sequence of set points, on the published numbers alone."""

import numpy as np

from maskact_ros.core.robot import RobotSpec

MARGIN = 1e-9


class MotionWatch:
    """Checks each set point against the one before: finite, and within position, velocity and acceleration limits."""

    def __init__(self, arm: RobotSpec, period_s: float, start: np.ndarray):
        self._arm, self._period_s = arm, period_s
        self._position = start.copy()
        self._velocity = np.zeros(len(arm.joints))

    def take(self, position: np.ndarray) -> np.ndarray:
        velocity = (position - self._position) / self._period_s
        rounding = 4 * np.finfo(float).eps * np.abs(position) / self._period_s  # of the difference just computed
        change = np.abs(velocity - self._velocity)
        assert np.isfinite(position).all()
        assert (position >= self._arm.lower).all()
        assert (position <= self._arm.upper).all()
        assert (np.abs(velocity) <= self._arm.velocity + rounding + MARGIN).all()
        assert (change <= self._arm.acceleration * self._period_s + 2 * rounding + MARGIN).all()
        self._position, self._velocity = position, velocity
        return position
