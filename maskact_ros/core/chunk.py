"""`Chunk`: a sequence of future joint positions, stamped with the capture time of the image it was computed from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST = 1e9  # rad or m; beyond any joint, and far from where sums overflow


@dataclass(frozen=True, eq=False)
class Chunk:
    """K joint positions of D joints; point i, counted from 0, is due at `stamp_ns + (i + 1) * period_ns`.

    Raises:
        ValueError: the actions are not a non-empty matrix of finite numbers, or the period is not positive.
    """

    stamp_ns: int  # capture time, on the node's clock
    period_ns: int
    actions: NDArray[np.float64]  # (K, D)

    def __post_init__(self) -> None:
        if self.actions.ndim != 2 or 0 in self.actions.shape:
            raise ValueError(f"a chunk's actions have the shape {self.actions.shape}; allowed: (K, D), not empty")
        if not (np.abs(self.actions) <= MOST).all():  # not a number is not below anything
            raise ValueError(f"a chunk's actions are not all finite and within ±{MOST:g}")
        if self.period_ns <= 0:
            raise ValueError(f"a chunk's period is {self.period_ns} ns; allowed: > 0")

    @property
    def due_ns(self) -> NDArray[np.int64]:
        """When each point is due, (K,)."""
        return self.stamp_ns + self.period_ns * np.arange(1, len(self.actions) + 1, dtype=np.int64)

    @property
    def end_ns(self) -> int:
        """When the last point is due."""
        return self.stamp_ns + self.period_ns * len(self.actions)

    def sample(self, times_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Positions (T, D) at `times_ns` (T,), linear between points, the first or last one outside of them."""
        # Relative to the stamp, nanoseconds fit a double exactly for a hundred days.
        position = (np.asarray(times_ns) - self.stamp_ns) / self.period_ns - 1.0
        position = np.clip(position, 0.0, len(self.actions) - 1.0)
        before = np.minimum(position.astype(np.int64), max(len(self.actions) - 2, 0))
        after = np.minimum(before + 1, len(self.actions) - 1)
        fraction = (position - before)[:, None]
        positions: NDArray[np.float64] = (1.0 - fraction) * self.actions[before] + fraction * self.actions[after]
        return positions
