"""`Horizon`: a trajectory that a joint trajectory controller executes from its receipt on, and whose end it holds.

In: the safety filter's set points, a period apart. Out: points with velocities, and the controller's motion at any
time. A point is half-way between two set points: the cubic between two such points has constant acceleration, the
filter's own. So velocity and acceleration limits hold at every moment, not only at the points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskact_ros.control.curves import MotionState

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Horizon:
    """Positions and velocities (N, D), N ≥ 2; point i is due `i * period_ns` after `began_ns`, on the steady clock."""

    began_ns: int
    period_ns: int
    positions: Vector
    velocities: Vector

    @classmethod
    def between(cls, set_points: Vector, began_ns: int, period_ns: int) -> Horizon:
        """The horizon of set points (N + 1, D), whose last two must be equal: it ends at rest.

        It begins half-way between the first two set points, which are due half a period before and after `began_ns`.
        """
        positions = (set_points[:-1] + set_points[1:]) / 2.0
        return cls(began_ns, period_ns, positions, np.diff(set_points, axis=0) * (1e9 / period_ns))

    def at(self, steady_ns: int) -> MotionState:
        """The motion at a moment of the steady clock; the acceleration is the mean over the period before."""
        place = max((steady_ns - self.began_ns) / self.period_ns, 0.0)
        i = int(place)
        if i >= len(self.positions) - 1:
            return MotionState(self.positions[-1], self.velocities[-1], np.zeros_like(self.positions[-1]))
        share, period_s = place - i, self.period_ns / 1e9
        begin, change = self.velocities[i], self.velocities[i + 1] - self.velocities[i]
        change_before = self.velocities[i] - self.velocities[i - 1] if i else change
        return MotionState(
            self.positions[i] + share * period_s * (begin + share / 2.0 * change),
            begin + share * change,
            (change_before + share * (change - change_before)) / period_s,
        )
