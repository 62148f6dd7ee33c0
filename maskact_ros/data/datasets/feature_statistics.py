"""What `stats.json` and the episodes' table say of a feature: min, max, mean, std, count and quantiles.

In: a feature's values of one episode, (T, D), or how often each value of 0 … 255 occurs in its pictures. Out: a mapping
from the statistic's name to an array; pictures count from 0 to 1, one number a channel, shaped (C, 1, 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

FeatureTable = Mapping[str, NDArray[np.float64]]
_QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
_PIXELS_APART = 4  # a picture's statistics need no more than every fourth pixel of every fourth row


def of_vectors(values: NDArray[np.generic]) -> FeatureTable:
    """Statistics of (T, D) numbers, each (D,)."""
    numbers = values.astype(np.float64)
    return {
        "min": numbers.min(axis=0),
        "max": numbers.max(axis=0),
        "mean": numbers.mean(axis=0),
        "std": numbers.std(axis=0),
        "count": np.array([len(numbers)], np.float64),
        **dict(zip(_QUANTILES, np.quantile(numbers, list(_QUANTILES.values()), axis=0), strict=True)),
    }


class PictureStatistics:
    """Collects pictures (H, W, C) uint8, of which it looks at few pixels."""

    def __init__(self, channels: int):
        self._counts = np.zeros((channels, 256), np.int64)
        self._pictures = 0

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Take a picture in."""
        pixels = picture[::_PIXELS_APART, ::_PIXELS_APART]
        for channel, counts in enumerate(self._counts):
            counts += np.bincount(pixels[:, :, channel].ravel(), minlength=256)
        self._pictures += 1

    def table(self) -> FeatureTable:
        """Statistics from 0 to 1, each (C, 1, 1)."""
        levels = np.arange(256) / 255
        shares = self._counts / self._counts.sum(axis=1, keepdims=True)  # (C, 256)
        mean = shares @ levels
        below = shares.cumsum(axis=1)
        tables = {
            "min": levels[(self._counts > 0).argmax(axis=1)],
            "max": levels[255 - (self._counts[:, ::-1] > 0).argmax(axis=1)],
            "mean": mean,
            "std": np.sqrt(np.maximum(shares @ levels**2 - mean**2, 0)),
            **{name: levels[(below >= share - 1e-12).argmax(axis=1)] for name, share in _QUANTILES.items()},
        }
        shaped = {name: numbers.reshape(-1, 1, 1) for name, numbers in tables.items()}
        return shaped | {"count": np.array([self._pictures], np.float64)}


def pooled(tables: Sequence[FeatureTable]) -> FeatureTable:
    """The statistics of several episodes together; of their quantiles the outermost, as LeRobot does."""
    counts = np.array([table["count"][0] for table in tables])
    weights = counts / counts.sum()
    means = np.stack([table["mean"] for table in tables])
    spreads = np.stack([table["std"] for table in tables])
    mean = np.tensordot(weights, means, axes=1)
    variance = np.tensordot(weights, spreads**2 + (means - mean) ** 2, axes=1)
    outermost = {
        name: (np.min if share <= 0.5 else np.max)(np.stack([table[name] for table in tables]), axis=0)
        for name, share in _QUANTILES.items()
    }
    return {
        "min": np.min(np.stack([table["min"] for table in tables]), axis=0),
        "max": np.max(np.stack([table["max"] for table in tables]), axis=0),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": np.array([counts.sum()]),
        **outermost,
    }
