"""`Motion`: the set point, one control period at a time, along chunks or to rest, always through the safety filter.

In: chunks to follow, and requests to stop. Out: set points (D,), and a preview of the next ones. It makes no decisions:
`PlanFollower` does.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from maskact_ros.control.curves import ChunkCurve, Moment, MotionState, Rest, ToRest
from maskact_ros.control.plan import Plan
from maskact_ros.control.safety import SafetyFilter
from maskact_ros.control.tracking import nearest_turn
from maskact_ros.core.chunk import Chunk
from maskact_ros.core.limits import Limits
from maskact_ros.core.robot import RobotSpec

Vector = NDArray[np.float64]

# Moments closer than this count as equal.
_SAME_NS = 2_000


class Motion:
    """The arm's motion, from engaging to silence."""

    def __init__(self, robot: RobotSpec, rate_hz: float):
        self._grippers, self._continuous = robot.grippers, robot.continuous
        self.limits = robot.limits  # the requested ones; the filter has those in force
        self._rate_hz = rate_hz  # the requested one, too
        self.filter = SafetyFilter(self.limits, 1.0 / rate_hz)
        self._plan: Plan | None = None  # None while nothing is sent, and while the filter alone brakes
        self._stopping: ToRest | None = None  # the plan's base curve, while the plan leads to rest
        self._sampled: tuple[Plan | None, Moment, Vector] = (None, Moment(0, 0), np.zeros(0))  # the last target
        self.on_plan = False  # whether the plan follows a chunk, not a motion to rest
        self.sends = False  # the first set point starts from the measured pose
        self.position_before = self.filter.position  # the set point of the period before
        self.target: Vector | None = None  # the plan's target in this period; None if the filter alone braked

    def change(self, limits: Limits | None, rate_hz: float | None) -> None:
        """Change limits or rate without a jump; tighter limits hold as soon as the motion allows."""
        self.limits, self._rate_hz = limits or self.limits, rate_hz or self._rate_hz
        self.filter.change(self.limits, 1.0 / self._rate_hz)
        if not self.sends:
            self.filter.adopt()

    def engage(self, pose: Vector) -> None:
        """Send set points from now on, from a measured pose (D,)."""
        self.filter.start(pose)
        self.position_before = self.filter.position
        self.sends = True

    def fall_silent(self) -> None:
        """Send no more set points."""
        self.sends = self.on_plan = False
        self._plan = self._stopping = None

    def lead_along(self, chunk: Chunk, before: Moment, blend_s: float, *, is_new: bool) -> bool:
        """Hand over to a new chunk, or from a motion to rest to the present chunk; return whether it was done.

        A new chunk waits while too many hand-overs are in progress.
        """
        if self._plan is None:
            self._plan = Plan(Rest(self.filter.position), self._grippers)
        if self.on_plan and not (is_new and self._plan.has_room):
            return False
        self.on_plan, self._stopping = True, None
        curve = self.curve(chunk, self.filter.position, before)
        self._plan.hand_over(curve, before, blend_s, self.limits)
        return True

    def curve(self, chunk: Chunk, reference: Vector, at: Moment) -> ChunkCurve:
        """A chunk's curve, with continuous joints on the same turn as a reference (D,) at that moment."""
        if self._continuous.any():
            actions = chunk.actions.copy()
            actions[:, self._continuous] = np.unwrap(actions[:, self._continuous], axis=0)
            begin = Chunk(chunk.stamp_ns, chunk.period_ns, actions).sample(np.array([at.now_ns]))[0]
            chunk = replace(chunk, actions=actions + (nearest_turn(begin, reference, self._continuous) - begin))
        return ChunkCurve(chunk, self._grippers)

    def stop(self, began: Moment, target: Vector | None = None, limits: Limits | None = None) -> None:
        """Make a motion to rest the plan: by the fastest stop, or to a target pose (D,), within these limits."""
        self.on_plan = False
        state = MotionState(self.filter.position.copy(), self.filter.velocity, self.filter.acceleration)
        try:
            self._stopping = ToRest(state, began, limits or self.limits, target)
            self._plan = Plan(self._stopping, self._grippers)
        except ValueError:  # no such motion within the limits: the filter brakes as hard as they allow
            self._plan = self._stopping = None

    def stand_still(self) -> None:
        """Note that the arm has stopped at the last set point, because nothing was sent for long."""
        self.filter.halt()
        if self.sends:
            self._plan, self._stopping = Plan(Rest(self.filter.position), self._grippers), None
            self.on_plan = False

    def brake(self) -> Vector | None:
        """The set point (D,) of the fastest stop, or None if none was ever sent; discards the plan."""
        self._plan, self._stopping, self.on_plan = None, None, False
        return self.filter.brake() if self.sends else None

    def step(self, at: Moment, before: Moment) -> Vector:
        """The next set point (D,) along the plan; `before` is one period before `at`."""
        self.target = None
        if self._plan is None or (self._stopping is not None and self._stopping.ended(before)):
            return self.filter.brake()
        self._plan.settle(before)
        target = self._plan.sample(at)
        set_point = self.filter.follow(target, self._sampled_before(self._plan, before), tighten=self.on_plan)
        self._sampled, self.target = (self._plan, at, target), target
        return set_point

    def retract(self) -> None:
        """Undo the last set point: the arm has stopped at the one before."""
        self.filter.position = self.position_before
        self.filter.halt()

    def preview(self, at: Moment, horizon_s: float) -> Vector:
        """Set points (N, D) from a moment on, a period apart: along the plan for `horizon_s`, then to rest."""
        ahead = self.filter.copy()
        period_ns = ahead.period_ns
        ahead.change(self.limits, ahead.period_s)  # at the present rate to the end, even if another one is pending
        points = []
        if self._plan is not None:
            for _ in range(max(1, round(horizon_s / ahead.period_s))):
                before, at = at, at.later(period_ns)
                target = self._plan.sample(at)
                points.append(ahead.follow(target, self._plan.sample(before), tighten=self.on_plan))
        else:
            points.append(ahead.brake())
        while not ahead.at_rest:
            points.append(ahead.brake())
        return np.array(points)

    def _sampled_before(self, plan: Plan, before: Moment) -> Vector:
        """The plan's positions one period ago: as sampled then, if no period was missed and the clock not corrected."""
        sampled, at, target = self._sampled
        if sampled is plan and max(abs(before.now_ns - at.now_ns), abs(before.steady_ns - at.steady_ns)) < _SAME_NS:
            return target
        return plan.sample(before)
