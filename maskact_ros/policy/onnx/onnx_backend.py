"""The onnxruntime backend: the graphs that `maskact export` wrote, on a CPU or a CUDA device.

Features stay on the device between encoder and mask head. Rules and class weights are inputs of each call.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.policy.backend import Segments
from maskact_ros.policy.engine import Engine
from maskact_ros.policy.errors import PolicyError
from maskact_ros.policy.onnx.onnx_files import ENCODER, MASK_HEAD, PLANNER, export_command
from maskact_ros.policy.onnx.onnx_sessions import GraphSession, open_graphs


class OnnxPerception:
    """Encoder and mask head of a checkpoint; see `backend.PerceptionBackend`."""

    def __init__(self, encoder: GraphSession, mask_head: GraphSession | None, text: str) -> None:
        self.text = text
        self._encoder = encoder
        self._mask_head = mask_head

    @classmethod
    def load(cls, info: CheckpointInfo, engine: Engine) -> Self:
        """Open the export of a checkpoint; raises MaskACTError as `onnx_sessions.open_graphs`."""
        names = (ENCODER, MASK_HEAD) if info.config.use_mask else (ENCODER,)
        (encoder, *rest), text = open_graphs(info, engine, names)
        return cls(encoder, rest[0] if rest else None, text)

    def features(self, image: NDArray[np.uint8]) -> Any:
        """(N, D) on the device, of a picture (S, S, 3)."""
        return self._encoder({"image": np.ascontiguousarray(image)}, stay=("features",))["features"]

    def segment(
        self, features: Any, importance: NDArray[np.float32], *, label_image: bool, confidence_image: bool
    ) -> Segments:
        """Masks of features (N, D) with class weights (C,)."""
        assert self._mask_head is not None
        found = self._mask_head({"features": features, "importance": importance}, stay=("pixel_logits",))
        labels = confidence = None
        if label_image or confidence_image:
            logits = found["pixel_logits"].numpy()  # (C, S, S)
            labels = _most_likely(logits) if label_image else None
            confidence = _confidence(logits) if confidence_image else None
        return Segments(
            patch_labels=found["patch_labels"].astype(np.int8),
            patch_confidence=found["patch_confidence"].astype(np.float16),
            label_image=labels,
            confidence_image=confidence,
        )

    def to_numpy(self, features: Any) -> NDArray[np.float16]:
        """(N, D) in half precision."""
        array: NDArray[np.float16] = features.numpy().astype(np.float16)
        return array


class OnnxPlanner:
    """ACT of a checkpoint; see `backend.PlannerBackend`."""

    def __init__(
        self, info: CheckpointInfo, engine: Engine, planner: GraphSession, patches: int | None, text: str
    ) -> None:
        self.text = text
        self._info, self._engine = info, engine
        self._planner = planner
        self._patches = patches  # None: any number
        labels = info.config.num_mask + 1
        self._all_allowed = np.ones((labels, labels), np.bool_)

    @classmethod
    def load(cls, info: CheckpointInfo, engine: Engine) -> Self:
        """As `OnnxPerception.load`."""
        (planner,), text = open_graphs(info, engine, (PLANNER,))
        return cls(info, engine, planner, planner.fixed("patches"), text)

    def actions(
        self,
        features: NDArray[np.float16],
        patches: NDArray[np.int64],
        labels: NDArray[np.int64] | None,
        rules: NDArray[np.bool_] | None,
        state: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """See `backend.PlannerBackend.actions`; raises PolicyError if the export needs all patches."""
        if self._patches not in (None, len(patches)):
            raise PolicyError(
                f"{len(patches)} of {self._patches} patches are left, and the export computes with all of them; export "
                f"again with: {export_command(self._info, self._engine.precision)} --dynamic --overwrite"
            )
        inputs: dict[str, NDArray[Any]] = {
            "features": np.ascontiguousarray(features, np.float16),
            "patches": np.ascontiguousarray(patches),
            "state": state.astype(np.float32),
        }
        if labels is not None:
            inputs["labels"] = np.ascontiguousarray(labels)
            inputs["rules"] = self._all_allowed if rules is None else np.ascontiguousarray(rules)
        actions: NDArray[np.float64] = self._planner(inputs)["actions"].astype(np.float64)
        return actions


def _most_likely(logits: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Class ids (S, S) of logits (C, S, S): the largest logit, and of equal ones the first."""
    best = logits[0].copy()
    labels = np.zeros(best.shape, np.uint8)
    for label, own in enumerate(logits[1:], start=1):  # ten times as fast as argmax over a leading dimension
        labels[own > best] = label
        np.maximum(best, own, out=best)
    return labels


def _confidence(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The softmax probability (S, S) of the most likely class."""
    confidence: NDArray[np.float32] = 1.0 / np.exp(logits - logits.max(axis=0)).sum(axis=0)
    return confidence
