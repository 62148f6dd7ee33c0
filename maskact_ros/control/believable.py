"""Is a measured pose one that this arm can have? A driver that restarts sends zeros, a bus loses a bit.

In: poses as they are measured. Out: why one is not believed, or None. A pose is believed when it lies within the
limits, and near the last one or where the arm was commanded to be. Time that passes with other poses allows no more.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from maskact_ros.control.tracking import nearest_turn
from maskact_ros.core.robot import RobotSpec

Vector = NDArray[np.float64]

# All distances are times at full joint speed: allowed [rad or m] = value [s] x velocity limit.
_BEYOND_LIMITS_S = 0.1  # an arm may have been pushed a little past its limits, or be calibrated a little off
_NOISE_S = 0.03  # between two measurements, whatever the time between them: noise, and jitter of their receipt
_MARGIN = 1.5  # a joint that falls or is pushed is faster than its limit
# The longest time between two measurements that counts. While commands are sent the arm is where they lead, or stands.
_LONGEST_SENDING_S, _LONGEST_SILENT_S = 0.1, 1.0

_SETTLED_S = 0.5  # without commands, another pose is believed once its measurements agree with each other for this long
_QUIET_S = 0.5  # refusals further apart than this are separate events
_PERSISTS_S = 1.0  # refusals that go on for longer are a fault of their own


class PoseBelief:
    """Judges each measured pose by the last one that was believed; times are on the steady clock."""

    def __init__(self, robot: RobotSpec):
        self._names, self._velocity, self._continuous = robot.joint_names, robot.velocity, robot.continuous
        margin = robot.velocity * _BEYOND_LIMITS_S
        self._lower, self._upper = robot.lower, robot.upper
        self._lowest, self._highest = robot.lower - margin, robot.upper + margin
        self._believed: Vector | None = None
        self._believed_ns = 0
        self._doubted_ns: int | None = None  # the first refusal since then
        self._other: Vector | None = None  # the newest refused pose
        self._other_ns = self._other_since_ns = 0  # and since when its measurements agree with each other
        self._began_ns = self._refused_ns = -(1 << 62)  # the present series of refusals: its begin, and its newest
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
        if self._doubted_ns is None:  # one text for those in a row: numbers would change each time
            self._doubted_ns, self._text = received_ns, text
        return self._text

    @property
    def doubt(self) -> str | None:
        """Why the newest pose was not believed, or None."""
        return None if self._doubted_ns is None else self._text

    def persists(self, now_ns: int) -> str | None:
        """Why poses are refused, if that has gone on for a second, also with good ones among them; else None."""
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
        """How the pose differs from the last believed one by more than the arm can have moved, or None."""
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
        """Whether the measurements since the first of this other pose have agreed with each other for long enough."""
        other, passed_s = self._other, max(0, received_ns - self._other_ns) / 1e9
        agrees = other is not None and (self._distance(pose, other) <= self._reach(passed_s, _LONGEST_SILENT_S)).all()
        if not agrees:
            self._other_since_ns = received_ns
        self._other, self._other_ns = pose, received_ns
        return received_ns - self._other_since_ns >= _SETTLED_S * 1e9

    def _reach(self, passed_s: float, longest_s: float) -> Vector:
        """How far (D,) each joint may have moved."""
        reach: Vector = self._velocity * (_NOISE_S + _MARGIN * min(passed_s, longest_s))
        return reach

    def _distance(self, pose: Vector, other: Vector) -> Vector:
        """How far (D,) two poses are apart, whatever turn continuous joints are on."""
        distance: Vector = np.abs(nearest_turn(pose, other, self._continuous) - other)
        return distance
