"""`JointWatch`: the measured pose of the arm, and whether it can be trusted.

In: joint states. Out: the last believed one, and problems: silence, stamps of another clock, impossible poses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from maskact_ros.control.believable import PoseBelief
from maskact_ros.control.curves import Moment
from maskact_ros.control.motion import Motion
from maskact_ros.control.retreat import SteadyPose
from maskact_ros.control.tracking import FollowingCheck, nearest_turn
from maskact_ros.core.robot import RobotSpec

Vector = NDArray[np.float64]

# How far in the future a joint state may be stamped. Processes on one machine read the clock with smaller differences.
_AHEAD_NS = 50_000_000

# Largest growth of simulated time's ticks from one to the next, as a factor.
_PACE_RISES = 3

# `enable` is refused at once when no joint state has come for this long.
_SILENCE_S = 1.0


@dataclass(frozen=True)
class Measured:
    """A joint state: positions (D,), its stamp, and its receipt on the steady clock."""

    positions: Vector
    stamp_ns: int
    received_ns: int


class JointWatch:
    """Takes joint states, and checks them."""

    def __init__(self, robot: RobotSpec, motion: Motion, following_tolerance_s: float):
        self._count, self._continuous = len(robot.joints), robot.continuous
        self._motion = motion
        self._belief, self._steady = PoseBelief(robot), SteadyPose(robot)
        self.following = FollowingCheck(robot, following_tolerance_s)
        self.last: Measured | None = None  # the last believed one

    def take(self, measured: Measured) -> str | None:
        """Take a joint state, and return why it is not believed, or None.

        Continuous joints are put on the turn of the set point, if there is one.

        Raises:
            ValueError: it has not one finite number for each joint.
        """
        positions = measured.positions
        if positions.shape != (self._count,) or not np.isfinite(positions).all():
            raise ValueError(f"the measured pose is {positions}; allowed: a finite number for each joint")
        if self._motion.sends:
            positions = nearest_turn(positions, self._motion.filter.position, self._continuous)
        refusal = self._belief.judge(
            positions, measured.received_ns, sending=self._is_checked, as_commanded=self._is_as_commanded
        )
        if refusal is not None:
            self._steady.doubted()
            return refusal
        self.last = replace(measured, positions=positions)
        self._steady.measured(positions, measured.received_ns)
        return None

    def not_following(self) -> str | None:
        """Which joint has not followed its set point in the last measurements, or None. Each case is returned once."""
        if self.last is None or not self._is_checked:
            return None
        wrong = self.following.measured(self.last.positions, self.last.received_ns)
        if wrong is not None:
            self.following.reset()
        return wrong

    @property
    def _is_checked(self) -> bool:
        return self._motion.sends and self.following.tolerance_s > 0

    def _is_as_commanded(self, positions: Vector, received_ns: int) -> bool:
        return self._motion.sends and self.following.as_commanded(positions, received_ns)

    @property
    def refused(self) -> int:
        """How many joint states were not believed."""
        return self._belief.refused

    @property
    def doubt(self) -> str | None:
        """Why the newest joint state is not believed, or None."""
        return _unbelievable(self._belief.doubt)

    def lasting_doubt(self, moment: Moment) -> str | None:
        """Why joint states have not been believed for a second, or None."""
        return _unbelievable(self._belief.persists(moment.steady_ns))

    def problem(self, moment: Moment, timeout_s: float) -> str | None:
        """Why the arm's pose is unknown, or None."""
        if self._is_silent(moment, timeout_s):
            return self.doubt or f"no joint states for {timeout_s:g} s"
        return self._misdated(moment, timeout_s)

    def cannot_engage(self, moment: Moment, timeout_s: float) -> str | None:
        """Why enabling would fail, or None; a short silence does not matter."""
        longest_s = max(_SILENCE_S, timeout_s)
        if self._is_silent(moment, longest_s):
            return self.doubt or f"no usable joint states within {longest_s:g} s"
        doubt = self.lasting_doubt(moment) or self.doubt
        if doubt is not None or self._is_silent(moment, timeout_s):
            return doubt
        return self._misdated(moment, timeout_s)

    def steady_pose(self, now_ns: int, timeout_s: float) -> Vector | None:
        """The pose (D,) at which the arm stands still, or None."""
        return self._steady.at(now_ns, timeout_s)

    def _is_silent(self, moment: Moment, timeout_s: float) -> bool:
        return self.last is None or moment.steady_ns - self.last.received_ns > timeout_s * 1e9

    def _misdated(self, moment: Moment, timeout_s: float) -> str | None:
        """What is wrong with the stamp, or None."""
        assert self.last is not None
        if moment.now_ns - self.last.stamp_ns > timeout_s * 1e9 + moment.off_ns:
            return f"the joint states are older than {timeout_s:g} s by their stamp"
        received_later_ns = max(0, self.last.received_ns - moment.steady_ns)  # how long after this period began it came
        if self.last.stamp_ns > moment.now_ns + received_later_ns + _AHEAD_NS + _PACE_RISES * moment.off_ns:
            return "the joint states are stamped in the future; is their clock the robot's?"
        return None


def _unbelievable(refusal: str | None) -> str | None:
    return None if refusal is None else f"joint states are not believable: {refusal}"
