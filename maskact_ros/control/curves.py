"""Positions as functions of time: a smoothed chunk, a rest, and the fastest motion to rest.

In: a chunk, or the state of a motion. Out: objects with `sample(moment)` -> positions (D,). Motions to rest come from
ruckig (Berscheid & Kröger 2021, "Jerk-limited Real-time Trajectory Generation with Arbitrary Target States").
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from ruckig import ControlInterface, InputParameter, Result, Ruckig, Synchronization, Trajectory

from maskact_ros.core.chunk import Chunk
from maskact_ros.core.limits import Limits

Vector = NDArray[np.float64]

# Coefficients of 1, f, f², f³ (rows) in the weights of four points (columns), for f from 0 to 1 between the middle two:
# for a uniform cubic B-spline, and for a straight line.
_BASIS = np.array([[1.0, 4.0, 1.0, 0.0], [-3.0, 0.0, 3.0, 0.0], [3.0, -6.0, 3.0, 0.0], [-1.0, 3.0, -3.0, 1.0]]) / 6.0
_STRAIGHT = np.array([[0.0, 1.0, 0.0, 0.0], [0.0, -1.0, 1.0, 0.0], [0.0] * 4, [0.0] * 4])


# Time over which a chunk's velocity fades to zero beyond its end.
_RUN_OUT_S = 0.3


class Moment(NamedTuple):
    """An instant on both clocks: chunks are stamped by the node's clock, motions to rest run on the steady clock."""

    now_ns: int
    steady_ns: int
    off_ns: int = 0  # how far a correct stamp may be from now_ns: about a tick of a simulated clock, else 0

    def later(self, by_ns: int) -> Moment:
        """The moment `by_ns` later."""
        return Moment(self.now_ns + by_ns, self.steady_ns + by_ns, self.off_ns)


class MotionState(NamedTuple):
    """Position, velocity and acceleration, (D,) each."""

    position: Vector
    velocity: Vector
    acceleration: Vector


class Curve(Protocol):
    """Positions as a function of time."""

    def sample(self, moment: Moment) -> Vector:
        """Positions (D,) at a moment."""


class ChunkCurve:
    """A chunk as a uniform cubic B-spline whose control points are the chunk's; grippers use straight lines instead.

    So velocity and acceleration are continuous, no position is outside of the points' range, and jitter from point to
    point is damped without delay. The curve differs from the points by a sixth of their second difference. It continues
    straight before the first point, and to rest beyond the last one, for hand-overs that begin or end there.
    """

    def __init__(self, chunk: Chunk, grippers: NDArray[np.bool_]):
        self.chunk = chunk
        points = chunk.actions
        before, after = points[:1], points[-1:]
        if len(points) > 1:  # extrapolated at both ends, so that the spline passes through the first and the last point
            before, after = 2 * points[:1] - points[1:2], 2 * points[-1:] - points[-2:-1]
        self._control = np.concatenate([before, points, after])  # (K + 2, D)
        self._grippers = grippers
        self._last = len(points) - 1
        self._run_out = _RUN_OUT_S * 1e9 / chunk.period_ns  # in chunk periods
        self._polynomials: dict[int, Vector] = {}  # cached by piece: a piece lasts for many control periods

    def sample(self, moment: Moment) -> Vector:
        """Positions (D,) at a moment, by the node's clock."""
        place = (moment.now_ns - self.chunk.stamp_ns) / self.chunk.period_ns - 1.0  # as a fractional index of a point
        if place < 0.0:
            piece, way = -1, place
        elif place < self._last:
            piece = int(place)
            way = place - piece
        else:
            piece, way = self._last, self._run_out * (1.0 - math.exp((self._last - place) / self._run_out))
        polynomial = self._polynomials.get(piece)
        if polynomial is None:
            polynomial = self._polynomials[piece] = self._polynomial_of(piece)
        square = way * way
        position: Vector = np.dot((1.0, way, square, square * way), polynomial)
        return position

    def _polynomial_of(self, piece: int) -> Vector:
        """Coefficients (4, D) from point number `piece` to the next; -1 is before the first, K - 1 beyond the last."""
        if 0 <= piece < self._last:
            near = self._control[piece : piece + 4]
            return np.where(self._grippers, _STRAIGHT.dot(near), _BASIS.dot(near))
        first, second = self._control[1:3] if piece < 0 else self._control[-2:]
        onwards = np.where(self._grippers, 0.0, second - first)
        nothing = np.zeros_like(onwards)
        return np.array([first, onwards, nothing, nothing])


class Rest:
    """Stay at a position (D,)."""

    def __init__(self, position: Vector):
        self._position = position

    def sample(self, _: Moment) -> Vector:
        """The position."""
        return self._position.copy()


class ToRest:
    """The fastest motion to rest within velocity, acceleration and jerk limits, on the steady clock.

    Without a `target` (D,) each joint stops as soon as it can. With one, all joints arrive there together. It does not
    keep position limits: `SafetyFilter` brakes harder where a joint would pass its end stop.
    """

    def __init__(self, state: MotionState, began: Moment, limits: Limits, target: Vector | None = None):
        joints = len(state.position)
        request = InputParameter(joints)
        request.current_position = state.position.tolist()
        request.current_velocity = np.clip(state.velocity, -limits.velocity, limits.velocity).tolist()
        request.current_acceleration = np.clip(state.acceleration, -limits.acceleration, limits.acceleration).tolist()
        request.max_velocity = limits.velocity.tolist()
        request.max_acceleration = limits.acceleration.tolist()
        request.max_jerk = limits.jerk.tolist()
        if target is None:
            request.control_interface = ControlInterface.Velocity
            request.synchronization = Synchronization.No
        else:
            request.target_position = target.tolist()
        self._trajectory = Trajectory(joints)
        result = Ruckig(joints).calculate(request, self._trajectory)
        if result not in (Result.Working, Result.Finished):
            raise ValueError(f"ruckig finds no way to rest: {result}")
        self._began_ns = began.steady_ns
        self._duration_s = self._trajectory.duration
        self._end: Vector = np.array(self._trajectory.at_time(self._duration_s)[0])

    def ended(self, moment: Moment) -> bool:
        """Whether rest has been reached by this moment."""
        return bool((moment.steady_ns - self._began_ns) / 1e9 >= self._duration_s)

    def sample(self, moment: Moment) -> Vector:
        """Positions (D,) at the moment, by the steady clock."""
        elapsed_s = (moment.steady_ns - self._began_ns) / 1e9
        if elapsed_s >= self._duration_s:
            return self._end.copy()
        return np.array(self._trajectory.at_time(max(elapsed_s, 0.0))[0])
