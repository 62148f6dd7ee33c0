"""Where the set point goes back to when the arm does not follow: a pose at which it has been measured to stand.

So nothing is pushed, and nothing lurches when the arm is released. In: believed poses. Out: the one that has been
steady for half a second, or None; and the way there.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from maskact_ros.control.curves import Moment
from maskact_ros.control.motion import Motion
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


class Retreat:
    """In a fault, leads the set point slowly to where the arm stands, if the arm was found not to follow."""

    def __init__(self, robot: RobotSpec):
        self._grippers = robot.grippers
        self._allowed = False  # in this fault: it was enabled when it began
        self._left_behind = False  # the arm was found not to follow, and the set point has not gone back to it
        self._under_way = False

    def begin_fault(self, enabled: bool) -> None:
        """A fault begins; disabled, no measurement moves the arm."""
        self._allowed = enabled
        self.cancel()

    def left_behind(self) -> None:
        """The arm does not follow."""
        self._left_behind = True

    def cancel(self) -> None:
        """There is no set point to go back with, or no reason to."""
        self._left_behind = self._under_way = False

    def step(self, motion: Motion, pose: Vector | None, before: Moment, *, releasing: bool) -> None:
        """Begin the way to the pose (D,) where the arm stands, or stop when it does not stand any more."""
        if self._under_way and (pose is None or releasing):
            self._under_way = False
            motion.stop(before)
        elif self._allowed and self._left_behind and pose is not None and motion.filter.at_rest:
            self._left_behind, self._under_way = False, True
            set_point, within = motion.filter.position, motion.filter.limits
            target = np.where(self._grippers, set_point, pose)  # a gripper keeps its grip
            motion.stop(before, np.clip(target, within.lower, within.upper), retreating(motion.limits))
