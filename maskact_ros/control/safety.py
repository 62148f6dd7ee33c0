"""The last check before the robot: set points are finite and within position, velocity and acceleration limits.

In: the plan's target, now and one period ago. Out: the next set point. Every joint can follow the motion, and can
always stop before its position limit.
"""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.limits import Limits

Vector = NDArray[np.float64]


class SafetyFilter:
    """Moves a set point, one control period at a time, towards a moving target, within the robot's limits.

    In each step a joint's velocity changes by at most `acceleration * period_s`. No joint is faster than it can brake
    before its position limit. Both hold for any sequence of targets.
    """

    def __init__(self, limits: Limits, period_s: float):
        self._adopt(limits, period_s)
        self._pending: tuple[Limits, float] | None = None
        joints = len(limits.velocity)
        self.position: Vector = np.zeros(joints)
        self.velocity: Vector = np.zeros(joints)
        self.acceleration: Vector = np.zeros(joints)
        self.clamped = 0  # number of targets beyond a position limit

    @property
    def at_rest(self) -> bool:
        """Whether the set point has stopped moving."""
        return bool((self.velocity == 0.0).all())

    @property
    def period_s(self) -> float:
        """The control period in force."""
        return self._period_s

    @property
    def period_ns(self) -> int:
        """The same, in whole nanoseconds."""
        return self._period_ns

    @property
    def limits(self) -> Limits:
        """The limits in force."""
        return self._limits

    def copy(self) -> SafetyFilter:
        """Another one in the same state."""
        return copy.copy(self)  # no array is ever changed in place

    def change(self, limits: Limits, period_s: float) -> None:
        """Adopt other limits and another period as soon as the present motion is within them.

        Until then the old ones hold, while the motion is brought within the new ones. Else a tighter limit could be
        kept only by breaking another one, such as the acceleration limit.
        """
        self._pending = limits, period_s

    def adopt(self) -> None:
        """Adopt pending limits at once; call it only while there is no motion."""
        if self._pending is not None:
            self._adopt(*self._pending)
            self._pending = None

    def start(self, position: Vector) -> None:
        """Begin at rest at the measured `position` (D,)."""
        self.adopt()
        self.position = np.clip(position, self._limits.lower, self._limits.upper)
        self.halt()

    def halt(self) -> None:
        """Note that the arm has stopped at the last set point."""
        self.velocity = np.zeros_like(self.position)
        self.acceleration = np.zeros_like(self.position)

    def follow(self, target: Vector, previous_target: Vector, *, tighten: bool = True) -> Vector:
        """The next set point (D,) towards a target that was at `previous_target` (D,) one period ago.

        With `tighten` the motion is brought within pending limits; a motion to rest does not need that.

        Raises:
            ValueError: a target is not finite; the set point stays as it was.
        """
        wanted_from_to = np.array((previous_target, target))  # (2, D)
        if not _all(np.isfinite(wanted_from_to)):
            raise ValueError("the plan's target is not finite")
        limits = self._limits
        lower, upper = limits.lower, limits.upper
        if tighten and self._pending is not None:
            lower, upper = np.maximum(lower, self._pending[0].lower), np.minimum(upper, self._pending[0].upper)
        previous, inside = _between(wanted_from_to, lower, upper)
        self.clamped += not _all(inside == target)
        # Move as the target does, and close the previous gap as fast as the joint can still brake.
        gap = previous - self.position
        closing, up, down = self._stopping_speed(np.array((np.abs(gap), *self._to_ends())))
        wanted = (inside - previous) / self._period_s + np.copysign(closing, gap)
        if tighten and self._pending is not None:
            wanted = _between(wanted, -self._pending[0].velocity, self._pending[0].velocity)
        return self._advance(wanted, up, down)

    def brake(self) -> Vector:
        """The next set point (D,) of the fastest stop within the limits; constant once at rest."""
        return self._advance(np.zeros_like(self.velocity), *self._stopping_speed(np.array(self._to_ends())))

    def _to_ends(self) -> tuple[Vector, Vector]:
        """The distances (D,) to the upper and to the lower position limits."""
        return self._limits.upper - self.position, self.position - self._limits.lower

    def _advance(self, wanted_velocity: Vector, up: Vector, down: Vector) -> Vector:
        """Advance by one period; `up` and `down` (D,) are the largest speeds that can still stop before the limits."""
        limits, before = self._limits, self.velocity
        highest = np.minimum(before + self._kick, np.minimum(limits.velocity, up))
        lowest = np.maximum(before - self._kick, -np.minimum(limits.velocity, down))
        self.velocity = velocity = _between(wanted_velocity, lowest, highest)
        self.acceleration = (velocity - before) / self._period_s
        self.position = _between(self.position + velocity * self._period_s, limits.lower, limits.upper)
        if self._pending is not None:
            self._settle(*self._pending)  # after this step, so that it still uses the old period
        return self.position.copy()

    def _settle(self, limits: Limits, period_s: float) -> None:
        """Adopt pending limits, if the motion is within them."""
        before = self._limits, self._period_s
        self._adopt(limits, period_s)
        allowed = (
            (self.position >= limits.lower)
            & (self.position <= limits.upper)
            & (np.abs(self.velocity) <= limits.velocity)
            & (self.velocity <= self._stopping_speed(limits.upper - self.position))
            & (-self.velocity <= self._stopping_speed(self.position - limits.lower))
        )
        if allowed.all():
            self._pending = None
        else:
            self._adopt(*before)

    def _adopt(self, limits: Limits, period_s: float) -> None:
        self._limits, self._period_s, self._period_ns = limits, period_s, round(period_s * 1e9)
        self._kick = limits.acceleration * period_s  # the largest change of velocity in one period
        self._per_unit = 1.0 / (self._kick * period_s)

    def _stopping_speed(self, distance: Vector) -> Vector:
        """The largest speed (…, D) that stops within `distance` if each following period lowers it by one kick.

        In units of kick times period: a speed of m + f kicks (m whole, 0 <= f < 1) covers m(m+1)/2 + (m+1)f.
        """
        # Clipped: finite without position limits, and zero outside of them, which rounding or pending limits can cause.
        units = _between(distance * self._per_unit, 0.0, 1e12)
        whole = np.floor(np.sqrt(2.0 * units + 0.25) - 0.5)
        speed: Vector = (0.5 * whole + units / (whole + 1.0)) * self._kick  # m + f, f from the line above
        return speed


def _between(values: Vector, lowest: Vector | float, highest: Vector | float) -> Vector:
    """As numpy's clip, which takes three times as long on arrays of this size."""
    clipped: Vector = np.minimum(np.maximum(values, lowest), highest)
    return clipped


def _all(flags: NDArray[np.bool_]) -> bool:
    """As numpy's all, which takes three times as long on arrays of this size."""
    return bool(np.count_nonzero(flags) == flags.size)
