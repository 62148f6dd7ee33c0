"""Where the set point goes back to when the arm does not follow: a pose at which it has been measured to stand.

So nothing is pushed, and nothing lurches when the arm is released. In: believed poses. Out: the one that has been
steady for half a second, or None.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.limits import Limits
from maskact_ros.core.robot import RobotSpec

Vector = NDArray[np.float64]

_STEADY_S = 0.5
_MOVED_S = 0.02  # at full joint speed: a joint that is measured further from where it stood has moved
_SPEED = 0.2  # of the velocity limits


class SteadyPose:
    """The pose at which the arm stands, on the steady clock; grippers do not count, as they move on their own."""

    def __init__(self, robot: RobotSpec):
        self._allowed = np.where(robot.grippers, np.inf, robot.velocity * _MOVED_S)
        self._stood: Vector | None = None  # where it was when it came to stand
        self._pose: Vector | None = None  # the newest
        self._since_ns = self._last_ns = 0

    def measured(self, pose: Vector, received_ns: int) -> None:
        """Take a believed pose (D,)."""
        if self._stood is None or (np.abs(pose - self._stood) > self._allowed).any():
            self._stood, self._since_ns = pose, received_ns
        self._pose, self._last_ns = pose, received_ns

    def doubted(self) -> None:
        """A pose was not believed: what has been steady so far counts for nothing."""
        self._stood = None

    def at(self, now_ns: int, timeout_s: float) -> Vector | None:
        """The newest pose (D,), if it has been steady and is younger than the timeout."""
        if self._stood is None or now_ns - self._last_ns > timeout_s * 1e9:
            return None
        return self._pose if self._last_ns - self._since_ns >= _STEADY_S * 1e9 else None


def retreating(limits: Limits) -> Limits:
    """The limits for such a way back: slow."""
    return replace(limits, velocity=limits.velocity * _SPEED)
