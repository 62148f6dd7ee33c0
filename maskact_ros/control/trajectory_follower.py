"""`TrajectoryFollower`: the decisions of `PlanFollower`, for a joint trajectory controller.

In: as `PlanFollower`. Out: horizons, one every 50 ms, and one at once when the motion differs from the last one. Each
horizon begins where the controller is at that time on the last one, with the same velocity, however late the period.
"""

from __future__ import annotations

import numpy as np

from maskact_ros.control.curves import Moment
from maskact_ros.control.follower import PlanFollower, Vector
from maskact_ros.control.horizon import Horizon

_EVERY_S, _ALONG_PLAN_S = 0.05, 0.25  # how often a horizon is sent; how far it follows the plan before it brakes

# A horizon is replaced at once when a velocity differs by more than this share of the largest change in one period.
_DEPARTED = 0.1


class TrajectoryFollower(PlanFollower):
    """A period's decision changes the motion from the beginning of that period; before it, the last horizon holds.

    So a new spline always begins on the controller's present one. A period that was missed, or whose horizon was not
    sent, changes nothing: each period continues from the horizon that the controller has.
    """

    _DUE_PERIODS = 1.5  # horizon points are half-way between set points: the period's end is before this set point

    _horizon: Horizon | None = None  # the last one that was sent; None while silent
    _unsent = 0  # periods since it was sent
    _tick_period_ns = 0  # length of the last period
    _braked = False  # whether this period had `brake` instead of `tick`

    def tick(self, moment: Moment, standing: str | None = None) -> Vector | None:
        """As `PlanFollower.tick`, from the controller's motion at this moment."""
        self._braked = False
        self._go_on_from_horizon(moment)
        return super().tick(moment, standing)

    def brake(self) -> Vector | None:
        """As `PlanFollower.brake`; the braking begins at the moment that `horizon` is given."""
        self._braked = True
        return super().brake()

    def horizon(self, moment: Moment) -> Horizon | None:
        """The horizon to send after a period's `tick` or `brake`; None if the last one is still right."""
        if self._braked:
            self._go_on_from_horizon(moment)
            self._motion.position_before = self._motion.filter.position
            super().brake()
        after, period_s = self._motion.filter, self._motion.filter.period_s
        if not self._motion.sends or after.period_ns != self._tick_period_ns:
            return None  # the last horizon ends at rest; after a change of rate it holds for one more period
        if self._unsent < max(1, round(_EVERY_S * self.rate_hz)) and not self._departs(moment):
            return None
        before = self._motion.position_before
        velocity = after.velocity - after.acceleration * period_s
        ahead = self.preview(moment, _ALONG_PLAN_S)
        set_points = np.vstack((before - velocity * period_s, before, after.position, ahead))
        self._horizon, self._unsent = Horizon.between(set_points, moment.steady_ns, after.period_ns), 0
        return self._horizon

    def _go_on_from_horizon(self, moment: Moment) -> None:
        self._tick_period_ns = self._motion.filter.period_ns
        self._unsent += 1
        if self._horizon is not None:
            state = self._horizon.at(moment.steady_ns)
            self._motion.filter.position = state.position + state.velocity * (self._motion.filter.period_s / 2.0)
            self._motion.filter.velocity, self._motion.filter.acceleration = state.velocity, state.acceleration

    def _departs(self, moment: Moment) -> bool:
        """Whether this period's motion differs from the controller's horizon."""
        if self._horizon is None:
            return True
        expected = self._horizon.at(moment.steady_ns + self._tick_period_ns).velocity
        most = _DEPARTED * self._motion.filter.limits.acceleration * self._motion.filter.period_s
        return bool((np.abs(self._motion.filter.velocity - expected) > most).any())

    def _stand_still(self) -> None:
        """Stop from the controller's present place: after a stall it is further along its horizon, or at its end."""

    def _fall_silent(self) -> None:
        super()._fall_silent()
        self._horizon = None
