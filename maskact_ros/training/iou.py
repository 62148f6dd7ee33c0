"""Compares masks: confusion counts, and the intersection over union of each class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def confusion(truth: NDArray[np.uint8], predicted: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """The number of pixels (C, C) by true class (rows) and predicted class (columns)."""
    pairs = truth.astype(np.int64) * classes + predicted
    return np.bincount(pairs.ravel(), minlength=classes * classes).reshape(classes, classes)


def intersection_over_union(counts: NDArray[np.int64], class_names: Sequence[str]) -> dict[str, float]:
    """Intersection over union by name, for each class that is in the truth or the prediction."""
    both = np.diag(counts)
    either = counts.sum(axis=0) + counts.sum(axis=1) - both
    return {name: float(both[i] / either[i]) for i, name in enumerate(class_names) if either[i]}
