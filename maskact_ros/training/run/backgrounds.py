"""Random backgrounds for training: colours, gradients, checkers, speckles, and shapes on them.

In: a picture (S, S, 3) and a random generator. Out: pictures of the same size, to copy to where the mask is background.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
_COARSEST, _FINEST = 4, 32  # cells of a texture along one side


def painted(rgb: Picture, rng: np.random.Generator) -> Picture:
    """A random background, or the picture's own with random colours."""
    size = len(rgb)
    kind = rng.integers(5)
    if kind == 0:
        return np.full_like(rgb, rng.integers(0, 256, 3))
    if kind == 1:
        return _resized(rng.integers(0, 256, (2, 2, 3), np.uint8), size, cv2.INTER_LINEAR)
    if kind == 2:
        return _checkers(size, rng)
    if kind == 3:
        cells = int(rng.integers(_COARSEST, _FINEST))
        colours = _around(rng.integers(0, 256, 3), rng.uniform(20, 120), (cells, cells, 3), rng)
        return _resized(colours, size, cv2.INTER_NEAREST if rng.random() < 0.5 else cv2.INTER_LINEAR)
    mixed = np.column_stack([rng.uniform(-1, 1, (3, 3)), rng.uniform(0, 255, 3)])
    remapped: Any = cv2.transform(rgb, mixed)
    return remapped  # type: ignore[no-any-return]


def shapes(rgb: Picture, most: int, largest: float, rng: np.random.Generator) -> tuple[Picture, Picture]:
    """Up to `most` boxes and ellipses of random colours: a picture of them, and 255 (S, S) where they are.

    `largest` is their diameter as a share of the side.
    """
    size = len(rgb)
    canvas, covered = np.zeros_like(rgb), np.zeros((size, size), np.uint8)
    for _ in range(int(rng.integers(most + 1))):
        middle = tuple(rng.uniform(0, size, 2).tolist())
        sides = tuple((rng.uniform(0.2, 1, 2) * largest * size).tolist())
        box = (middle, sides, float(rng.uniform(0, 180)))
        colour = rng.integers(0, 256, 3).tolist()
        if rng.random() < 0.5:
            corners = np.rint(cv2.boxPoints(box)).astype(np.int32)
            cv2.fillConvexPoly(canvas, corners, colour)
            cv2.fillConvexPoly(covered, corners, 255)
        else:
            cv2.ellipse(canvas, box, colour, cv2.FILLED)
            cv2.ellipse(covered, box, 255, cv2.FILLED)
    return canvas, covered


def _checkers(size: int, rng: np.random.Generator) -> Picture:
    cells = int(rng.integers(_COARSEST, _FINEST))
    two = rng.integers(0, 256, (2, 3), np.uint8)
    odd = (np.arange(cells)[:, None] + np.arange(cells)) % 2
    return _resized(two[odd], size, cv2.INTER_NEAREST)


def _around(colour: NDArray[np.int64], spread: float, shape: tuple[int, ...], rng: np.random.Generator) -> Picture:
    return np.clip(colour + rng.normal(0, spread, shape), 0, 255).astype(np.uint8)


def _resized(small: Picture, size: int, flag: int) -> Picture:
    large: Any = cv2.resize(small, (size, size), interpolation=flag)
    return large  # type: ignore[no-any-return]
