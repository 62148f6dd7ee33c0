"""Temporal ensembling by time: the mean of all chunks that predict a moment, with weights `exp(-coeff * i)`.

i = 0 is the oldest chunk that reaches the moment (Zhao et al. 2023, "Learning Fine-Grained Bimanual Manipulation",
section IV-A). If images come exactly at the policy's period this is the published formula; else chunks are
interpolated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maskact_ros.control.tracking import nearest_turn
from maskact_ros.core.chunk import Chunk
from maskact_ros.core.robot import RobotSpec


class TemporalEnsembler:
    """Keeps the chunks that have not ended, and averages them over the newest chunk's horizon.

    With a `robot`, grippers are taken from the newest chunk, and continuous joints are averaged on the same turn.
    """

    def __init__(self, coeff: float, robot: RobotSpec | None = None):
        self.coeff = coeff
        self._robot = robot
        self._chunks: list[Chunk] = []  # oldest first

    def reset(self) -> None:
        """Discard all chunks, for a new epoch."""
        self._chunks.clear()

    def add(self, chunk: Chunk) -> Chunk:
        """Take the newest chunk and return the ensembled one, with its stamp and period.

        If a chunk is not newer than the last one, the clock went back: the earlier chunks are discarded.
        """
        if self._chunks and chunk.stamp_ns <= self._chunks[-1].stamp_ns:
            self.reset()
        due_ns = chunk.due_ns
        self._chunks = [old for old in self._chunks if old.end_ns >= due_ns[0]] + [chunk]
        predictions = np.stack([self._turned(old.sample(due_ns), chunk) for old in self._chunks])  # (M, K, D)
        reaches = np.stack([due_ns <= old.end_ns for old in self._chunks])  # (M, K); all begin before due_ns[0]
        weights = self._weights(reaches)  # (M, K)
        actions = np.einsum("mk,mkd->kd", weights, predictions)
        if self._robot is not None:
            actions = np.where(self._robot.grippers, chunk.actions, actions)
        return Chunk(chunk.stamp_ns, chunk.period_ns, actions)

    def _turned(self, predicted: NDArray[np.float64], chunk: Chunk) -> NDArray[np.float64]:
        """Predictions (K, D), with continuous joints on the same turn as in the newest chunk."""
        return predicted if self._robot is None else nearest_turn(predicted, chunk.actions, self._robot.continuous)

    def _weights(self, reaches: NDArray[np.bool_]) -> NDArray[np.float64]:
        age_rank = np.cumsum(reaches, axis=0) - 1  # 0 for the oldest chunk that reaches a moment
        favoured = 0 if self.coeff >= 0 else age_rank[-1]  # the rank with the largest weight: the oldest, or the newest
        exponents = -abs(self.coeff) * np.abs(age_rank - favoured)  # relative to the largest weight: no overflow
        weights: NDArray[np.float64] = np.where(reaches, np.exp(exponents), 0.0)
        weights /= weights.sum(axis=0)
        return weights
