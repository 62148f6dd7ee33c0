"""Chooses the backend for an `Engine`, and loads a checkpoint's weights into it."""

from __future__ import annotations

from importlib.util import find_spec

from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.policy.backend import PerceptionBackend, PlannerBackend
from maskact_ros.policy.engine import Engine


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
    """Whether to use onnxruntime. `auto` uses it if torch lacks the precision, or on a GPU if there is an export."""
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
