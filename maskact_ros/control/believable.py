"""Checks whether a measured pose is possible: a driver that restarts may send zeros, a bus may lose a bit.

In: measured poses. Out: why a pose is not believed, or None. A pose is believed if it is within the limits, and near
the last believed pose or as commanded. Time after the first refused pose does not enlarge the allowed distance.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from maskact_ros.control.tracking import nearest_turn
from maskact_ros.core.robot import RobotSpec

Vector = NDArray[np.float64]

# All distances are times at full joint speed: allowed [rad or m] = value [s] x velocity limit.
_BEYOND_LIMITS_S = 0.1  # beyond the position limits: the arm may have been pushed, or be calibrated a little off
_NOISE_S = 0.03  # between any two measurements: noise, and jitter of their receipt
_MARGIN = 1.5  # factor on the velocity limit: a joint that falls or is pushed is faster
# A longer time between two measurements counts as this long. The first value holds while commands are sent: then the
# arm is where they lead, or stands.
_LONGEST_SENDING_S, _LONGEST_SILENT_S = 0.1, 1.0

_SETTLED_S = 0.5  # without commands, a refused pose is believed when measurements have agreed for this long
_QUIET_S = 0.5  # refusals further apart than this are separate events
_PERSISTS_S = 1.0  # refusals that continue for longer are a fault of their own


class PoseBelief:
    """Compares each measured pose with the last believed one; times are on the steady clock."""

    def __init__(self, robot: RobotSpec):
        self._names, self._velocity, self._continuous = robot.joint_names, robot.velocity, robot.continuous
        margin = robot.velocity * _BEYOND_LIMITS_S
        self._lower, self._upper = robot.lower, robot.upper
        self._lowest, self._highest = robot.lower - margin, robot.upper + margin
        self._believed: Vector | None = None
        self._believed_ns = 0
        self._doubted_ns: int | None = None  # the first refusal since the last believed pose
        self._other: Vector | None = None  # the newest refused pose
        self._other_ns = self._other_since_ns = 0  # its receipt, and since when refused poses agree with each other
        self._began_ns = self._refused_ns = -(1 << 62)  # first and newest refusal of the present series
        self._text = ""
        self.refused = 0

    def judge(
        self,
        pose: Vector,
        received_ns: int,
        *,
        sending: bool,
        as_commanded: Callable[[Vector, int], bool] = lambda *_: False,
    ) -> str | None:
        """Why a pose (D,) is not believed, or None.

        Args:
            pose: finite positions.
            received_ns: when it came.
            sending: whether commands are being sent.
            as_commanded: whether this pose is where the commands of the last moments led.
        """
        text = self._beyond_limits(pose)
        if text is None:
            text = self._jump(pose, received_ns, sending=sending)
            if text is not None and (
                as_commanded(pose, received_ns) or (not sending and self._has_settled(pose, received_ns))
            ):
                text = None
        if text is None:
            self._believed, self._believed_ns, self._doubted_ns = pose, received_ns, None
            self._other = None
            return None
        self.refused += 1
        if received_ns - self._refused_ns > _QUIET_S * 1e9:
            self._began_ns = received_ns
        self._refused_ns = received_ns
        if self._doubted_ns is None:  # one text for a series of refusals: else its numbers would change each time
            self._doubted_ns, self._text = received_ns, text
        return self._text

    @property
    def doubt(self) -> str | None:
        """Why the newest pose was not believed, or None."""
        return None if self._doubted_ns is None else self._text

    def persists(self, now_ns: int) -> str | None:
        """Why poses have been refused for a second, even with believed ones in between; else None."""
        lasting = self._refused_ns - self._began_ns > _PERSISTS_S * 1e9
        return self._text if lasting and now_ns - self._refused_ns <= _QUIET_S * 1e9 else None

    def _beyond_limits(self, pose: Vector) -> str | None:
        beyond = np.maximum(self._lowest - pose, pose - self._highest)
        if beyond.max() <= 0:
            return None
        worst = int(np.argmax(beyond / self._velocity))
        limits = f"{self._lower[worst]:g} to {self._upper[worst]:g}"
        return f"{self._names[worst]} is measured at {pose[worst]:.3f}, beyond its limits, {limits}"

    def _jump(self, pose: Vector, received_ns: int, *, sending: bool) -> str | None:
        """Which joint is further from the last believed pose than the arm can have moved, or None."""
        before = self._believed
        if before is None:
            return None
        until_ns = received_ns if self._doubted_ns is None else self._doubted_ns
        passed_s = max(0, until_ns - self._believed_ns) / 1e9
        allowed = self._reach(passed_s, _LONGEST_SENDING_S if sending else _LONGEST_SILENT_S)
        moved = self._distance(pose, before)
        if (moved <= allowed).all():
            return None
        worst = int(np.argmax(moved / allowed))
        return (
            f"{self._names[worst]} went from {before[worst]:.3f} to {pose[worst]:.3f} within {passed_s * 1e3:.0f} ms; "
            f"allowed: {allowed[worst]:.3f}"
        )

    def _has_settled(self, pose: Vector, received_ns: int) -> bool:
        """Whether the refused poses have agreed with each other for long enough."""
        other, passed_s = self._other, max(0, received_ns - self._other_ns) / 1e9
        agrees = other is not None and (self._distance(pose, other) <= self._reach(passed_s, _LONGEST_SILENT_S)).all()
        if not agrees:
            self._other_since_ns = received_ns
        self._other, self._other_ns = pose, received_ns
        return received_ns - self._other_since_ns >= _SETTLED_S * 1e9

    def _reach(self, passed_s: float, longest_s: float) -> Vector:
        """The largest distance (D,) that each joint may have moved."""
        reach: Vector = self._velocity * (_NOISE_S + _MARGIN * min(passed_s, longest_s))
        return reach

    def _distance(self, pose: Vector, other: Vector) -> Vector:
        """The distance (D,) of two poses; whole turns of continuous joints do not count."""
        distance: Vector = np.abs(nearest_turn(pose, other, self._continuous) - other)
        return distance
