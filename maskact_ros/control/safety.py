"""The last gate before the robot: set points are finite and within position, velocity and acceleration limits.

In: where the plan wants the joints, now and one period ago. Out: the next set point of a motion that every joint can
follow, and that can always stop before the end of its travel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskact_ros.robot import RobotSpec

Vector = NDArray[np.float64]


class SafetyFilter:
    """Moves a set point, one control period at a time, towards a moving target, within the robot's limits.

    From one step to the next no joint's velocity changes by more than `acceleration * period_s`, and no joint is ever
    faster than it can brake before its position limit; both hold for any sequence of targets.
    """

    def __init__(self, robot: RobotSpec, period_s: float):
        self._lower, self._upper = robot.lower, robot.upper
        self._speed = robot.velocity
        self._kick = robot.acceleration * period_s  # the largest change of velocity in one period
        self._period_s = period_s
        self.position: Vector = np.zeros(len(robot.joints))
        self.velocity: Vector = np.zeros(len(robot.joints))
        self.clamped = 0  # targets that lay beyond a position limit

    @property
    def at_rest(self) -> bool:
        """Whether the set point has stopped moving."""
        return bool((self.velocity == 0.0).all())

    def start(self, position: Vector) -> None:
        """Begin at rest at the measured `position` (D,)."""
        self.position = np.clip(position, self._lower, self._upper)
        self.velocity = np.zeros_like(self.position)

    def halt(self) -> None:
        """Take note that the arm has stopped at the last set point."""
        self.velocity = np.zeros_like(self.position)

    def follow(self, target: Vector, previous_target: Vector) -> Vector:
        """The next set point (D,), on the way to a target that was at `previous_target` (D,) one period ago.

        Raises:
            ValueError: a target is not finite; the set point stays as it was.
        """
        if not (np.isfinite(target).all() and np.isfinite(previous_target).all()):
            raise ValueError("the plan's target is not finite")
        inside = np.clip(target, self._lower, self._upper)
        self.clamped += bool((inside != target).any())
        previous = np.clip(previous_target, self._lower, self._upper)
        # Move as the target does, and close the gap that was there before as fast as one can still brake.
        gap = previous - self.position
        wanted = (inside - previous) / self._period_s + np.sign(gap) * self._stopping_speed(np.abs(gap))
        return self._advance(wanted)

    def brake(self) -> Vector:
        """The next set point (D,) of the quickest stop within limits; once at rest, always the same."""
        return self._advance(np.zeros_like(self.velocity))

    def _advance(self, wanted_velocity: Vector) -> Vector:
        to_upper, to_lower = self._upper - self.position, self.position - self._lower
        highest = np.minimum(self.velocity + self._kick, np.minimum(self._speed, self._stopping_speed(to_upper)))
        lowest = np.maximum(self.velocity - self._kick, -np.minimum(self._speed, self._stopping_speed(to_lower)))
        self.velocity = np.clip(wanted_velocity, lowest, highest)
        self.position = np.clip(self.position + self.velocity * self._period_s, self._lower, self._upper)
        return self.position.copy()

    def _stopping_speed(self, distance: Vector) -> Vector:
        """The largest speed (D,) that, lowered by one kick a period from the next period on, stops within `distance`.

        With unit u = kick * period, a speed of m + f kicks covers (m(m+1)/2 + (m+1)f) u.
        """
        units = np.minimum(distance / (self._kick * self._period_s), 1e12)  # finite also without end stops
        whole = np.floor((np.sqrt(1.0 + 8.0 * units) - 1.0) / 2.0)
        fraction = (units - whole * (whole + 1.0) / 2.0) / (whole + 1.0)
        speed: Vector = (whole + fraction) * self._kick
        return speed
