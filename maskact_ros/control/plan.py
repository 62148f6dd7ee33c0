"""The plan in force: a curve, and newer ones that are taking over from it, each blended in over time.

In: curves and when they came. Out: positions that are continuous, as are their velocities and accelerations, whatever
the curves disagree about. Grippers are not blended: what is open and what is closed has no sensible average.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskact_ros.control.curves import Curve, Moment
from maskact_ros.core.limits import Limits

Vector = NDArray[np.float64]

# Of the weight's course 10 s³ - 15 s⁴ + 6 s⁵, s from 0 to 1: the largest first and second derivative.
_STEEPEST, _MOST_BENT = 1.875, 5.7735

# A hand-over begins only when fewer than these are under way: each costs time in every period.
_MOST_LAYERS = 12

# What share of the limits a hand-over may need by itself; the rest is for the motion that the curves agree about.
_SHARE = 0.5


@dataclass(frozen=True)
class _Layer:
    curve: Curve
    began: Moment
    blend_ns: int


class Plan:
    """Samples the newest curve, blended with those that it is taking over from."""

    def __init__(self, curve: Curve, grippers: NDArray[np.bool_]):
        self._base = curve
        self._layers: list[_Layer] = []  # oldest first; each is blended over all before it
        self._held = np.flatnonzero(grippers)

    @property
    def has_room(self) -> bool:
        """Whether another hand-over may begin."""
        return len(self._layers) < _MOST_LAYERS

    def hand_over(self, curve: Curve, at: Moment, blend_s: float, limits: Limits) -> None:
        """Let a newer curve take over from now on, over `blend_s`, or longer where the limits need it."""
        moments = (at, at.later(round(blend_s * 1e9)))
        gaps = np.abs(np.array([curve.sample(moment) - self.sample(moment) for moment in moments]))  # (2, D)
        gaps[:, self._held] = 0.0
        by_velocity_s = float((gaps / limits.velocity).max()) * _STEEPEST / _SHARE
        by_acceleration_s = math.sqrt(float((gaps / limits.acceleration).max()) * _MOST_BENT / _SHARE)
        needed_s = max(blend_s, by_velocity_s, by_acceleration_s)
        self._layers.append(_Layer(curve, at, max(1, round(needed_s * 1e9))))

    def settle(self, at: Moment) -> None:
        """Let go of the curves that have nothing more to say from this moment on."""
        for i in range(len(self._layers) - 1, -1, -1):
            layer = self._layers[i]
            if at.steady_ns >= layer.began.steady_ns + layer.blend_ns:
                self._base = layer.curve
                del self._layers[: i + 1]
                return

    def sample(self, moment: Moment) -> Vector:
        """Positions (D,)."""
        position = self._base.sample(moment)
        for layer in self._layers:
            share = (moment.steady_ns - layer.began.steady_ns) / layer.blend_ns
            if share <= 0.0:
                continue
            newer = layer.curve.sample(moment)
            if share < 1.0:
                weight = share * share * share * (10.0 - 15.0 * share + 6.0 * share * share)
                blended = position + weight * (newer - position)
                blended[self._held] = newer[self._held]
                newer = blended
            position = newer
        return position
