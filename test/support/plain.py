"""Naive versions of curve, plan and safety filter, joint by joint after their docstrings: slow, easy to check."""

import math

import numpy as np

from maskact_ros.core.chunk import Chunk
from maskact_ros.core.limits import Limits

RUN_OUT_S = 0.3


def curve(chunk: Chunk, grippers: np.ndarray, now_ns: int) -> np.ndarray:
    """A uniform cubic B-spline, and straight lines for grippers."""
    place = (now_ns - chunk.stamp_ns) / chunk.period_ns - 1.0
    return np.array(
        [_joint(p, g, place, chunk.period_ns / 1e9) for p, g in zip(chunk.actions.T, grippers, strict=True)]
    )


def _joint(points: np.ndarray, gripper: bool, place: float, period_s: float) -> float:
    last = len(points) - 1
    if last == 0:
        return points[0]
    within = min(max(place, 0.0), last)
    if gripper:
        return np.interp(within, range(last + 1), points)
    begin, end = points[1] - points[0], points[-1] - points[-2]
    control = [points[0] - begin, *points, points[-1] + end]
    i = min(int(within), last - 1)
    a, b, c, d = control[i : i + 4]
    f = within - i
    spline = ((1 - f) ** 3 * a + (3 * f**3 - 6 * f**2 + 4) * b + (1 + 3 * f + 3 * f**2 - 3 * f**3) * c + f**3 * d) / 6
    run_out = RUN_OUT_S / period_s
    beyond = run_out * (1 - math.exp(-(place - last) / run_out)) * end if place > last else 0.0
    return spline + min(place, 0.0) * begin + beyond


def blend(older: np.ndarray, newer: np.ndarray, share: float, grippers: np.ndarray) -> np.ndarray:
    """A hand-over from one curve to another, of which this share of its time has passed."""
    s = min(max(share, 0.0), 1.0)
    weight = 10 * s**3 - 15 * s**4 + 6 * s**5
    blended = (1 - weight) * older + weight * newer
    return np.where(grippers, newer if share > 0 else older, blended)


class Filter:
    """The safety filter without changes of limits."""

    def __init__(self, limits: Limits, period_s: float, position: np.ndarray):
        self._limits, self._period_s = limits, period_s
        self.position, self.velocity = np.clip(position, limits.lower, limits.upper), np.zeros(len(position))

    def follow(self, target: np.ndarray, previous: np.ndarray) -> np.ndarray:
        for i in range(len(target)):
            lower, upper = self._limits.lower[i], self._limits.upper[i]
            inside, before = np.clip(target[i], lower, upper), np.clip(previous[i], lower, upper)
            gap = before - self.position[i]
            self._go(i, (inside - before) / self._period_s + np.copysign(self._stopping_speed(i, abs(gap)), gap))
        return self.position.copy()

    def brake(self) -> np.ndarray:
        for i in range(len(self.position)):
            self._go(i, 0.0)
        return self.position.copy()

    def _go(self, i: int, wanted: float) -> None:
        limits, kick = self._limits, self._limits.acceleration[i] * self._period_s
        up = self._stopping_speed(i, limits.upper[i] - self.position[i])
        down = self._stopping_speed(i, self.position[i] - limits.lower[i])
        highest = min(self.velocity[i] + kick, limits.velocity[i], up)
        lowest = max(self.velocity[i] - kick, -limits.velocity[i], -down)
        self.velocity[i] = min(max(wanted, lowest), highest)
        next_one = self.position[i] + self.velocity[i] * self._period_s
        self.position[i] = min(max(next_one, limits.lower[i]), limits.upper[i])

    def _stopping_speed(self, i: int, distance: float) -> float:
        """So many whole kicks, and a part of one, that slowing down by a kick a period covers just this distance."""
        kick = self._limits.acceleration[i] * self._period_s
        units = min(distance / (kick * self._period_s), 1e12)
        whole = math.floor((math.sqrt(1 + 8 * units) - 1) / 2)
        return (whole + (units - whole * (whole + 1) / 2) / (whole + 1)) * kick
