"""How well masks agree: confusion counts, and the intersection over union of each class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def confusion(truth: NDArray[np.uint8], predicted: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """How many pixels of each true class (rows) were given each class (columns), (C, C)."""
    pairs = truth.astype(np.int64) * classes + predicted
    return np.bincount(pairs.ravel(), minlength=classes * classes).reshape(classes, classes)


def intersection_over_union(counts: NDArray[np.int64], class_names: Sequence[str]) -> dict[str, float]:
    """Of each class that was there or predicted, by its name."""
    both = np.diag(counts)
    either = counts.sum(axis=0) + counts.sum(axis=1) - both
    return {name: float(both[i] / either[i]) for i, name in enumerate(class_names) if either[i]}
