"""Checks the mask's quality: its confidence, the share of each class, and sudden changes of these shares.

In: patch labels and confidence of each image. Out: figures to report, and the reason why a mask must not be used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SLOW_S = 5.0  # time constant of the average, the reference for sudden changes


@dataclass(frozen=True, eq=False)
class MaskFigures:
    """The figures of one image's mask."""

    confidence: float  # mean over the patches, 0 to 1
    shares: NDArray[np.float64]  # (C,) of the patches; they add up to 1
    change: float  # share of the patches that changed class, against the slow average: 0 (the same shares) to 1
    fault: str | None  # why this mask must not be used, in a sentence; None if it is good enough


class MaskHealth:
    """Checks the masks of one policy, in order.

    Only good masks enter the average, so a collapsed mask remains a change for as long as it lasts.
    """

    def __init__(self, num_mask: int):
        self._num_mask = num_mask
        self._slow: NDArray[np.float64] | None = None  # (C,)
        self._stamp_ns = 0

    def reset(self) -> None:
        """Discard the average: the next good mask is the new reference."""
        self._slow = None

    def look(
        self,
        stamp_ns: int,
        labels: NDArray[np.int8],
        confidence: NDArray[np.float16],
        *,
        min_confidence: float,
        max_change: float,
    ) -> MaskFigures:
        """The figures of an image's labels and confidence, both (N,); a clock that went back restarts the average."""
        elapsed_s = (stamp_ns - self._stamp_ns) / 1e9
        self._stamp_ns = stamp_ns
        if elapsed_s < 0:
            self.reset()
        shares = np.bincount(labels, minlength=self._num_mask) / len(labels)
        slow = shares if self._slow is None else self._slow
        change = float(np.abs(shares - slow).sum() / 2)
        sure = float(confidence.mean(dtype=np.float64))
        fault = None
        if sure < min_confidence:
            fault = f"the mask's mean confidence is {sure:.3f}; allowed: at least {min_confidence:g}"
        elif change > max_change:
            fault = (
                f"the classes of {change:.3f} of the mask's patches changed suddenly; allowed: at most {max_change:g}; "
                "if the scene has changed and the mask is right, deactivate and activate camera_encoder"
            )
        else:
            self._slow = slow + (shares - slow) * -math.expm1(-max(0.0, elapsed_s) / SLOW_S)
        return MaskFigures(sure, shares, change, fault)
