"""When the arm does not follow, the set point retreats to the pose at which the arm was measured to stand still.

So the arm does not push against an obstacle, and does not jump when it is released. In: believed poses. Out: the pose
that has been steady for half a second, or None; and the motion to it.
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
_MOVED_S = 0.02  # a joint further than this from where it stood has moved: [rad or m] = value [s] x velocity limit
_SPEED = 0.2  # of a retreat, as a fraction of the velocity limits


class SteadyPose:
    """The pose at which the arm stands still; times are on the steady clock. Grippers do not count: they may move."""

    def __init__(self, robot: RobotSpec):
        self._allowed = np.where(robot.grippers, np.inf, robot.velocity * _MOVED_S)
        self._stood: Vector | None = None  # the pose when it stopped moving
        self._pose: Vector | None = None  # the newest pose
        self._since_ns = self._last_ns = 0

    def measured(self, pose: Vector, received_ns: int) -> None:
        """Take a believed pose (D,)."""
        if self._stood is None or (np.abs(pose - self._stood) > self._allowed).any():
            self._stood, self._since_ns = pose, received_ns
        self._pose, self._last_ns = pose, received_ns

    def doubted(self) -> None:
        """Note that a pose was not believed: the time of steadiness starts anew."""
        self._stood = None

    def at(self, now_ns: int, timeout_s: float) -> Vector | None:
        """The newest pose (D,) if the arm has stood still and the pose is not older than the timeout; else None."""
        if self._stood is None or now_ns - self._last_ns > timeout_s * 1e9:
            return None
        return self._pose if self._last_ns - self._since_ns >= _STEADY_S * 1e9 else None


def retreating(limits: Limits) -> Limits:
    """The limits for a retreat, which is slow."""
    return replace(limits, velocity=limits.velocity * _SPEED)


class Retreat:
    """In a fault, moves the set point slowly to where the arm stands, if the arm did not follow."""

    def __init__(self, robot: RobotSpec):
        self._grippers = robot.grippers
        self._allowed = False  # whether the arm was enabled when this fault began
        self._left_behind = False  # whether the arm did not follow, and no retreat has begun since
        self._under_way = False

    def begin_fault(self, enabled: bool) -> None:
        """Note that a fault begins. If the arm was disabled, there is no retreat: no measurement may move it."""
        self._allowed = enabled
        self.cancel()

    def left_behind(self) -> None:
        """Note that the arm does not follow."""
        self._left_behind = True

    def cancel(self) -> None:
        """Cancel the retreat: there is no set point, or no reason for it any more."""
        self._left_behind = self._under_way = False

    def step(self, motion: Motion, pose: Vector | None, before: Moment, *, releasing: bool) -> None:
        """Begin the retreat to the pose (D,) where the arm stands, or stop it when the arm does not stand any more."""
        if self._under_way and (pose is None or releasing):
            self._under_way = False
            motion.stop(before)
        elif self._allowed and self._left_behind and pose is not None and motion.filter.at_rest:
            self._left_behind, self._under_way = False, True
            set_point, within = motion.filter.position, motion.filter.limits
            target = np.where(self._grippers, set_point, pose)  # a gripper keeps its grip
            motion.stop(before, np.clip(target, within.lower, within.upper), retreating(motion.limits))
