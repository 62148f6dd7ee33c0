"""The interfaces of a library that runs policies: `PerceptionBackend` and `PlannerBackend`.

A backend holds the weights, and nothing that can change while the robot moves: class weights and rules are arguments of
each call. Two threads may call it at once, with different arguments during a change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Segments:
    """The mask head's output for one picture."""

    patch_labels: NDArray[np.int8]  # (N,)
    patch_confidence: NDArray[np.float16]  # (N,)
    label_image: NDArray[np.uint8] | None  # (S, S) class ids, if requested
    confidence_image: NDArray[np.float32] | None  # (S, S) probability of the class, if requested


class PerceptionBackend(Protocol):
    """Encoder and mask head; `features` has a type of the backend's own, and may stay on its device."""

    @property
    def text(self) -> str:
        """Library, precision, device and threads, such as "torch, fp32, cpu, 1 thread"."""

    def features(self, image: NDArray[np.uint8]) -> Any:
        """Features of an RGB picture (S, S, 3); the computation has finished when this returns."""

    def segment(
        self, features: Any, importance: NDArray[np.float32], *, label_image: bool, confidence_image: bool
    ) -> Segments:
        """Masks of features with class weights (C,); never called if the policy has no masks."""

    def to_numpy(self, features: Any) -> NDArray[np.float16]:
        """The features as an array (N, D)."""


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
            features: (M, D) of the transformer's patches; M < N if some are dropped.
            patches: (M,) their places in the grid, row by row.
            labels: (M,) their labels; None if the policy has no masks.
            rules: (L, L), as `rules.rule_table`; None if every token may attend to every other.
            state: (J,) joint positions.
        """
