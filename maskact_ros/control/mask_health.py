"""Does the mask still look like one? How sure it is, how much each class covers, and how suddenly that changed.

In: patch labels and confidence of each image. Out: figures to report, and the reason why a mask should not be acted on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SLOW_S = 5.0  # time constant of the average that a sudden change is measured against


@dataclass(frozen=True, eq=False)
class MaskFigures:
    """What one image's mask is like."""

    confidence: float  # mean over the patches, 0 to 1
    shares: NDArray[np.float64]  # (C,) of the patches; they add up to 1
    change: float  # part of the patches that another class has than in the slow average: 0, the same shares, to 1
    fault: str | None  # why nobody should act on this mask, in a sentence; None where it is good enough


class MaskHealth:
    """Looks at the masks of one policy, in order.

    The average learns from good masks only: a collapse stays a change for as long as it lasts.
    """

    def __init__(self, num_mask: int):
        self._num_mask = num_mask
        self._slow: NDArray[np.float64] | None = None  # (C,)
        self._stamp_ns = 0

    def reset(self) -> None:
        """Begin anew: the next good mask is what changes are measured against."""
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
        """The figures of an image's labels and confidence, both (N,); a clock that went back begins anew."""
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
