"""What a library that runs policies must do, `PerceptionBackend` and `PlannerBackend`, and which one an `Engine` means.

A backend holds weights and nothing that can change while the robot moves: class weights and rules come with each call.
Calls may come from two threads at once, of which one has not heard of a change yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.policy.engine import Engine


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


def load_perception(info: CheckpointInfo, engine: Engine) -> PerceptionBackend:
    """Encoder and mask head of a checkpoint that was verified; raises MaskACTError."""
    if _runs_in_onnxruntime(info, engine):
        from maskact_ros.policy.onnx.onnx_backend import OnnxPerception

        return OnnxPerception.load(info, engine)
    from maskact_ros.policy.deploy.torch_backend import TorchPerception

    return TorchPerception.load(info, engine)


def load_planner(info: CheckpointInfo, engine: Engine) -> PlannerBackend:
    """ACT of a checkpoint that was verified; raises MaskACTError."""
    if _runs_in_onnxruntime(info, engine):
        from maskact_ros.policy.onnx.onnx_backend import OnnxPlanner

        return OnnxPlanner.load(info, engine)
    from maskact_ros.policy.deploy.torch_backend import TorchPlanner

    return TorchPlanner.load(info, engine)


def _runs_in_onnxruntime(info: CheckpointInfo, engine: Engine) -> bool:
    """For `auto`: where torch cannot do it, or on a GPU where there is an export; on a CPU torch is the faster one."""
    if engine.backend != "auto":
        return engine.backend == "onnxruntime"
    if engine.precision == "int8":
        return True
    if engine.precision == "bf16" or engine.device == "cpu":
        return engine.precision == "fp16"
    import torch

    if not torch.cuda.is_available():
        return engine.precision == "fp16"
    if find_spec("onnxruntime") is None:
        return False
    from maskact_ros.policy.onnx.onnx_files import has_export
    from maskact_ros.policy.onnx.onnx_sessions import CUDA, onnxruntime

    return CUDA in onnxruntime().get_available_providers() and has_export(info, engine.precision)
