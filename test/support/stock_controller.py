"""A stand-in for ros2_controllers' joint_trajectory_controller: what it refuses, and what it sends to the drives.

In: trajectories as they arrive, the measured state, and a call at each update. Out: a command (D,) an update. As
releases 4.42 (Jazzy) and 5.17 (Kilted) behave, without what has no part in our trajectories: effort, actions,
tolerances, speed scaling, partial goals and wrapped joints. Written from that behaviour, not from their code.
"""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_VELOCITY_ZERO = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Point:
    """Where to be at `due_ns` from the trajectory's start; a field that is not given is empty."""

    due_ns: int
    positions: np.ndarray
    velocities: np.ndarray
    accelerations: np.ndarray


NOTHING = np.zeros(0)


@dataclass(frozen=True)
class Trajectory:
    """The content of a JointTrajectory message; a stamp of zero means: from now on."""

    joint_names: tuple[str, ...]
    points: tuple[Point, ...]
    stamp_ns: int = 0

    @classmethod
    def from_message(cls, message) -> "Trajectory":
        points = [
            Point(
                point.time_from_start.sec * 10**9 + point.time_from_start.nanosec,
                np.array(point.positions),
                np.array(point.velocities),
                np.array(point.accelerations),
            )
            for point in message.points
        ]
        stamp = message.header.stamp
        return cls(tuple(message.joint_names), tuple(points), stamp.sec * 10**9 + stamp.nanosec)


class StockController:
    """One controller at a rate of its own; all times are nanoseconds of one clock.

    `interpolate_from_desired_state` chooses what a new trajectory's way to its first point starts from: the last
    command, or (the default) the measured state. A first point that is due already makes that way none.
    """

    def __init__(
        self,
        joint_names: Sequence[str],
        *,
        rate_hz: float,
        interpolate_from_desired_state: bool = False,
        allow_nonzero_velocity_at_trajectory_end: bool = False,
    ):
        self._names = tuple(joint_names)
        self.period_ns = round(1e9 / rate_hz)
        self._from_desired = interpolate_from_desired_state
        self._may_end_moving = allow_nonzero_velocity_at_trajectory_end
        self._received: Trajectory | None = None  # until the next update takes it over
        self._order = list(range(len(self._names)))
        self._points: tuple[Point, ...] = ()
        self._due_ns: list[int] = []
        self._start_ns = 0
        self._before: tuple[int, Point] | None = None  # where the way to the first point starts
        self._updated_ns: int | None = None  # the last update
        self._segment: tuple[int, np.ndarray] | None = None  # which one was last sampled, and its polynomial

    def receive(self, trajectory: Trajectory, now_ns: int) -> str | None:
        """Take a trajectory over with the next update; or say why it is refused."""
        refusal = self._refusal(trajectory, now_ns)
        if refusal is None:
            self._received = trajectory
        return refusal

    def _refusal(self, trajectory: Trajectory, now_ns: int) -> str | None:
        names, points = trajectory.joint_names, trajectory.points
        if len(names) != len(self._names):
            return f"it has {len(names)} joints, the controller {len(self._names)}"
        if unknown := set(names) - set(self._names):
            return f"its joints {sorted(unknown)} are none of the controller's"
        if not points:
            return "it has no points"
        if not self._may_end_moving and (np.abs(points[-1].velocities) > _VELOCITY_ZERO).any():
            return f"its last velocity is {points[-1].velocities}"
        if trajectory.stamp_ns and trajectory.stamp_ns + points[-1].due_ns < now_ns:
            return "it ends in the past"
        for i, point in enumerate(points):
            if i and point.due_ns <= points[i - 1].due_ns:
                return f"point {i} is not due after the one before it"
            if len(point.positions) != len(names):
                return f"point {i} has {len(point.positions)} positions"
            for what, values in (("velocities", point.velocities), ("accelerations", point.accelerations)):
                if len(values) not in (0, len(names)):
                    return f"point {i} has {len(values)} {what}"
        return None

    def update(self, now_ns: int, positions: np.ndarray, velocities: np.ndarray = NOTHING) -> np.ndarray:
        """What goes to the drives now, (D,): the motion's place one update later, when it will have been reached.

        `positions` (D,) and `velocities` (D,), if the hardware has that state interface, are measured.
        """
        measured = Point(0, np.array(positions), np.array(velocities), NOTHING)
        if self._updated_ns is None:  # active, it holds where it is
            self._points, self._due_ns, self._start_ns = (measured,), [0], now_ns
            self._updated_ns = now_ns
        if self._received is not None:
            self._take_over(self._received, now_ns, measured)
            self._received = None
        self._updated_ns = now_ns
        return self._sample(now_ns + self.period_ns)[0]

    def _take_over(self, trajectory: Trajectory, now_ns: int, measured: Point) -> None:
        at_ns, state = now_ns, measured
        if self._from_desired:
            at_ns, state = self._updated_ns, Point(0, *self._sample(self._updated_ns + self.period_ns, derivatives=2))
        order = [trajectory.joint_names.index(name) for name in self._names]
        self._points = tuple(
            Point(p.due_ns, *(v[order] if len(v) else v for v in (p.positions, p.velocities, p.accelerations)))
            for p in trajectory.points
        )
        self._due_ns = [point.due_ns for point in self._points]
        self._start_ns, self._segment = trajectory.stamp_ns or now_ns, None
        first = self._points[0]
        velocities = state.velocities if len(state.velocities) else np.zeros(len(first.velocities))
        accelerations = state.accelerations if len(state.accelerations) else np.zeros(len(first.accelerations))
        self._before = at_ns, Point(0, state.positions, velocities, accelerations)

    def _sample(self, at_ns: int, derivatives: int = 0) -> list[np.ndarray]:
        """Positions (D,) at a moment, and as many of their derivatives."""
        since_ns = at_ns - self._start_ns
        i = bisect.bisect_right(self._due_ns, since_ns)
        if i == len(self._points):
            last = self._points[-1]
            rest = np.zeros(len(last.positions))
            values = last.positions, last.velocities, last.accelerations
            return [value if len(value) else rest for value in values[: derivatives + 1]]
        begin_ns, begin = self._before if i == 0 else (self._start_ns + self._points[i - 1].due_ns, self._points[i - 1])
        if self._segment is None or self._segment[0] != i:
            end_ns = self._start_ns + self._points[i].due_ns
            self._segment = i, spline(begin, self._points[i], (end_ns - begin_ns) / 1e9)
        coefficients, t = self._segment[1], (at_ns - begin_ns) / 1e9
        return [_derivative(order, len(coefficients), t) @ coefficients for order in range(derivatives + 1)]


def spline(begin: Point, end: Point, whole: float) -> np.ndarray:
    """Coefficients (K, D) of the way between two points that takes `whole` seconds.

    Of degree 5 if both have velocities and accelerations, of degree 3 if both have velocities, else a straight line.
    """
    moving = bool(len(begin.velocities) and len(end.velocities))
    bent = bool(len(begin.accelerations) and len(end.accelerations))
    # The polynomial's lower half is what the begin says; its upper half is solved for what the end says.
    known = [begin.positions]
    wanted = [end.positions]
    if moving:
        known.append(begin.velocities)
        wanted.append(end.velocities)
    if moving and bent:
        known.append(begin.accelerations / 2.0)
        wanted.append(end.accelerations)
    half = len(known)
    derivatives = np.array([_derivative(order, 2 * half, whole) for order in range(half)])  # (half, 2 half)
    lower = np.array(known)
    upper = np.linalg.solve(derivatives[:, half:], np.array(wanted) - derivatives[:, :half] @ lower)
    return np.concatenate([lower, upper])


def _derivative(order: int, count: int, t: float) -> np.ndarray:
    """The derivative at t of each of the powers of t from 0 to `count` - 1."""
    return np.array([math.perm(k, order) * t ** (k - order) if k >= order else 0.0 for k in range(count)])
