"""What a library that runs policies must do, `PerceptionBackend` and `PlannerBackend`.

A backend holds weights and nothing that can change while the robot moves: class weights and rules come with each call.
Calls may come from two threads at once, of which one has not heard of a change yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Segments:
    """What the mask head makes of one picture's features."""

    patch_labels: NDArray[np.int8]  # (N,)
    patch_confidence: NDArray[np.float16]  # (N,)
    label_image: NDArray[np.uint8] | None  # (S, S) class ids, where asked for
    confidence_image: NDArray[np.float32] | None  # (S, S) probability of the class, where asked for


class PerceptionBackend(Protocol):
    """Encoder and mask head; `features` are the backend's own, and may stay on its device."""

    @property
    def text(self) -> str:
        """Library, precision, device and what else matters, such as "torch, fp32, cpu, 1 thread"."""

    def features(self, image: NDArray[np.uint8]) -> Any:
        """Features of an RGB picture (S, S, 3), computed when this returns."""

    def segment(
        self, features: Any, importance: NDArray[np.float32], *, label_image: bool, confidence_image: bool
    ) -> Segments:
        """Masks of features under class weights (C,); never called where the policy has no masks."""

    def to_numpy(self, features: Any) -> NDArray[np.float16]:
        """(N, D), an array of the caller's."""


class PlannerBackend(Protocol):
    """ACT, with the normalisation of the state and of the actions."""

    @property
    def text(self) -> str:
        """As `PerceptionBackend.text`."""

    def actions(
        self,
        features: NDArray[np.float16],
        patches: NDArray[np.int64],
        labels: NDArray[np.int64] | None,
        rules: NDArray[np.bool_] | None,
        state: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Actions (K, J) in the robot's units.

        Args:
            features: (M, D) of the patches that the transformer shall see; fewer than N where some are dropped.
            patches: (M,) their places in the grid, row by row.
            labels: (M,) their labels; None where the policy has no masks.
            rules: (L, L), as `rules.rule_table`; None where every token may attend to every other.
            state: (J,) joint positions.
        """
