"""The plan in force: a curve, and newer curves that are blended in over time.

In: curves, and when each takes over. Out: positions with continuous velocity and acceleration, however much the curves
differ. Grippers are not blended: open and closed have no useful mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskact_ros.control.curves import Curve, Moment
from maskact_ros.core.limits import Limits

Vector = NDArray[np.float64]

# Largest first and second derivative of the blending weight 10 s³ - 15 s⁴ + 6 s⁵, for s from 0 to 1.
_STEEPEST, _MOST_BENT = 1.875, 5.7735

# Most hand-overs in progress at a time: each one costs time in every period.
_MOST_LAYERS = 12

# Largest share of the limits for a hand-over; the rest is for the motion that the curves have in common.
_SHARE = 0.5


@dataclass(frozen=True)
class _Layer:
    curve: Curve
    began: Moment
    blend_ns: int


class Plan:
    """Samples the newest curve, blended with the older curves that it replaces."""

    def __init__(self, curve: Curve, grippers: NDArray[np.bool_]):
        self._base = curve
        self._layers: list[_Layer] = []  # oldest first; each is blended over all before it
        self._held = np.flatnonzero(grippers)

    @property
    def has_room(self) -> bool:
        """Whether another hand-over may begin."""
        return len(self._layers) < _MOST_LAYERS

    def hand_over(self, curve: Curve, at: Moment, blend_s: float, limits: Limits) -> None:
        """Hand over to a newer curve from now on, over `blend_s`, or longer if the limits require it."""
        moments = (at, at.later(round(blend_s * 1e9)))
        gaps = np.abs(np.array([curve.sample(moment) - self.sample(moment) for moment in moments]))  # (2, D)
        gaps[:, self._held] = 0.0
        by_velocity_s = float((gaps / limits.velocity).max()) * _STEEPEST / _SHARE
        by_acceleration_s = math.sqrt(float((gaps / limits.acceleration).max()) * _MOST_BENT / _SHARE)
        needed_s = max(blend_s, by_velocity_s, by_acceleration_s)
        self._layers.append(_Layer(curve, at, max(1, round(needed_s * 1e9))))

    def settle(self, at: Moment) -> None:
        """Remove the curves whose weight is zero from this moment on."""
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
