"""`TrajectoryFollower`: the same decisions as `PlanFollower`, for a joint trajectory controller.

In: as `PlanFollower`. Out: horizons, one each 50 ms, and one at once when the motion departs from the last one. Each
begins where the last one has brought the controller by then, at the same velocity, however late the period is.
"""

from __future__ import annotations

import numpy as np

from maskact_ros.control.curves import Moment
from maskact_ros.control.follower import PlanFollower, Vector
from maskact_ros.control.horizon import Horizon

_EVERY_S, _ALONG_PLAN_S = 0.05, 0.25  # how often a horizon is sent; how far it follows the plan before it brakes

# A horizon is replaced at once when a velocity would differ by more than this share of a period's largest change.
_DEPARTED = 0.1


class TrajectoryFollower(PlanFollower):
    """What is decided in a period changes the motion from that period's begin on; before, the last horizon holds.

    So the controller never has to leave its spline for a new one that lies elsewhere: a period whose horizon is not
    sent, or that was missed, has changed nothing, and each period goes on from the horizon that the controller has.
    """

    _DUE_PERIODS = 1.5  # the motion until a period ends lies before the mean of this set point and the last one

    _horizon: Horizon | None = None  # the last one that was sent; None while silent
    _unsent = 0  # periods since then
    _tick_period_ns = 0  # the last period's length
    _braked = False  # in this period, instead of a tick

    def tick(self, moment: Moment, standing: str | None = None) -> Vector | None:
        """As `PlanFollower.tick`, from where the controller is at this moment."""
        self._braked = False
        self._go_on_from_horizon(moment)
        return super().tick(moment, standing)

    def brake(self) -> Vector | None:
        """As `PlanFollower.brake`; it is `horizon` that knows the moment, and so where the braking begins."""
        self._braked = True
        return super().brake()

    def horizon(self, moment: Moment) -> Horizon | None:
        """The horizon to send after a period's `tick` or `brake`; None while the last one says what is to happen."""
        if self._braked:
            self._go_on_from_horizon(moment)
            self._motion.position_before = self._motion.filter.position
            super().brake()
        after, period_s = self._motion.filter, self._motion.filter.period_s
        if not self._motion.sends or after.period_ns != self._tick_period_ns:
            return None  # the last horizon ends at rest, or holds for one period more, until the new rate does
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
        """Whether the motion decided on in this period is another one than the controller has."""
        if self._horizon is None:
            return True
        expected = self._horizon.at(moment.steady_ns + self._tick_period_ns).velocity
        most = _DEPARTED * self._motion.filter.limits.acceleration * self._motion.filter.period_s
        return bool((np.abs(self._motion.filter.velocity - expected) > most).any())

    def _stand_still(self) -> None:
        """After a stall the controller is further along its horizon, or at its end: the arm is stopped from there."""

    def _fall_silent(self) -> None:
        super()._fall_silent()
        self._horizon = None
