"""Checks whether the arm may engage where it is, and whether its set point may be held.

In: the measured pose, the set point, the plan. Out: the reason why not, or None. It names the joint, but not its
position: with noise the reason would change every period.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskact_ros.control.curves import Moment
from maskact_ros.control.joint_watch import JointWatch
from maskact_ros.control.ladder import FollowerSettings
from maskact_ros.control.motion import Motion
from maskact_ros.core.chunk import Chunk
from maskact_ros.core.robot import RobotSpec

Vector = NDArray[np.float64]

# How far outside of its limits a joint may be when the arm engages: [rad or m] = value [s] x velocity limit.
_BEYOND_LIMITS_S = 0.02


class EngagingChecks:
    """Compares the measured pose with the set point and with the beginning of a plan."""

    def __init__(self, robot: RobotSpec, joints: JointWatch, motion: Motion):
        self._robot, self._joints, self._motion = robot, joints, motion

    def misplaced_arm(self, settings: FollowerSettings) -> str | None:
        """Why the arm cannot engage at its measured pose, or None."""
        if self._joints.last is None or self._joints.doubt is not None:
            return self._joints.doubt
        pose = self._joints.last.positions
        return self._displaced(pose, settings) if self._motion.sends else self._beyond_limits(pose)

    def misplaced(self, chunk: Chunk, at: Moment, settings: FollowerSettings) -> str | None:
        """Why the arm cannot engage with a chunk at a moment, by its pose or the plan's beginning; or None."""
        if (misplaced := self.misplaced_arm(settings)) is not None:
            return misplaced
        assert self._joints.last is not None
        begin = self._motion.filter.position if self._motion.sends else self._joints.last.positions
        target = self._motion.curve(chunk, begin, at).sample(at)
        far = np.abs(target - begin) / self._robot.velocity
        far[self._robot.grippers] = 0.0
        if far.max() <= settings.engage_tolerance_s:
            return None
        name = self._robot.joints[int(np.argmax(far))].name
        return f"the plan begins too far from where {name} is; a larger engage_tolerance_s would allow it"

    def astray(self, settings: FollowerSettings) -> str | None:
        """Why the set point must not be held any longer: the arm is elsewhere, or its pose is unknown; or None."""
        if not self._motion.sends:
            return None
        if self._joints.doubt is not None:
            return self._joints.doubt
        return None if self._joints.last is None else self._displaced(self._joints.last.positions, settings)

    def _beyond_limits(self, pose: Vector) -> str | None:
        """Which joint is measured outside of its limits, or None."""
        lower, upper = self._motion.limits.lower, self._motion.limits.upper
        beyond = np.maximum(lower - pose, pose - upper) - self._robot.velocity * _BEYOND_LIMITS_S
        if beyond.max() <= 0:
            return None
        i = int(np.argmax(beyond))
        return f"{self._robot.joints[i].name} is beyond its limits, {lower[i]:g} to {upper[i]:g}; move it back by hand"

    def _displaced(self, pose: Vector, settings: FollowerSettings) -> str | None:
        """Which joint is not at its set point, or None. Grippers are ignored: one that holds an object never is."""
        tolerance_s = settings.following_tolerance_s
        far = np.abs(pose - self._motion.filter.position) - self._robot.velocity * tolerance_s
        far[self._robot.grippers] = -np.inf
        if tolerance_s == 0 or far.max() <= 0:
            return None
        return f"{self._robot.joints[int(np.argmax(far))].name} is not where its set point is"
