"""`Limits`: what each joint may do, from its end stops to its jerk, in the order of the policy's vectors.

Units are those of `RobotSpec`: rad, rad/s, rad/s² and rad/s³ for turning joints, metres for prismatic ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.errors import MaskACTError

# Within these, in rad and m, per s and per s², double precision has room for whatever is computed from limits.
SMALLEST, LARGEST = 1e-6, 1e6


class LimitsError(MaskACTError):
    """Limits that leave a joint no room: the text names the joint and what they leave."""


@dataclass(frozen=True, eq=False)
class Limits:
    """The limits of D joints, each (D,); `lower` is -inf and `upper` inf on a continuous joint."""

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    velocity: NDArray[np.float64]
    acceleration: NDArray[np.float64]
    jerk: NDArray[np.float64]

    def tightened(self, other: Limits) -> Limits:
        """The tightest of both, entry by entry; `check_ranges` tells whether that leaves each joint room."""
        return Limits(
            lower=np.maximum(self.lower, other.lower),
            upper=np.minimum(self.upper, other.upper),
            velocity=np.minimum(self.velocity, other.velocity),
            acceleration=np.minimum(self.acceleration, other.acceleration),
            jerk=np.minimum(self.jerk, other.jerk),
        )

    def check_ranges(self, joint_names: Sequence[str]) -> None:
        """Raise LimitsError unless each joint, named as given, has lower < upper."""
        for name, lower, upper in zip(joint_names, self.lower, self.upper, strict=True):
            if not lower < upper:
                raise LimitsError(
                    f"joint {name}: its limits together leave it lower = {lower:g} and upper = {upper:g}; "
                    "allowed: lower < upper"
                )
