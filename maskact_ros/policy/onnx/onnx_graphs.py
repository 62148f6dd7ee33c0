"""The modules of `deploy` as ONNX graphs: the names of inputs and outputs, and their export by torch.

Inputs and outputs have the same types in every precision; the planner's features have the messages' type.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.policy.deploy.deploy import deployed_perception, deployed_planner
from maskact_ros.policy.deploy.deploy_encoder import DeployedEncoder
from maskact_ros.policy.deploy.deploy_mask_head import DeployedMaskHead
from maskact_ros.policy.deploy.deploy_planner import DeployedPlanner
from maskact_ros.policy.onnx.onnx_files import ENCODER, MASK_HEAD, PLANNER

OPSET = 20  # the latest that all releases of onnxruntime and TensorRT in use support
_ANY = "patches"  # the name of a length that may be anything


@dataclass(frozen=True, eq=False)
class Graph:
    """A module to export, with an example of its inputs, all positional."""

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    free: tuple[str, ...] = ()  # inputs of any length
    exact: tuple[str, ...] = ()  # products that stay exact in int8: they are small, and all else depends on them

    def shapes(self) -> dict[str, list[int | str]]:
        """The inputs' shapes; a free dimension has a name."""
        return {
            name: [_ANY if name in self.free else tensor.shape[0], *tensor.shape[1:]]
            for name, tensor in self.inputs.items()
        }


@dataclass(frozen=True, eq=False)
class Deployed:
    """The deployed modules of a checkpoint."""

    encoder: DeployedEncoder
    mask_head: DeployedMaskHead | None
    planner: DeployedPlanner

    @classmethod
    def load(cls, info: CheckpointInfo, precision: torch.dtype = torch.float32) -> Self:
        """Load the weights, to compute with on the CPU; raises MaskACTError."""
        encoder, mask_head = deployed_perception(info)
        deployed = cls(encoder, mask_head, deployed_planner(info))
        if precision != torch.float32:
            encoder.compute_in(precision)
            deployed.planner.compute_in(precision)
            if mask_head is not None:
                mask_head.compute_in(precision)
        return deployed


def graphs(info: CheckpointInfo, deployed: Deployed, *, dynamic: bool) -> Iterator[Graph]:
    """The graphs of a policy; with `dynamic` the planner's number of patches is free."""
    config = info.config
    size, patches, width = config.image_size, config.patches_per_side**2, config.dim_model
    labels = config.num_mask + 1
    image = {"image": torch.zeros(size, size, 3, dtype=torch.uint8)}
    yield Graph(ENCODER, deployed.encoder, image, ("features",), exact=("embedding", "projection"))
    if deployed.mask_head is not None:
        inputs = {"features": torch.zeros(patches, width), "importance": torch.ones(config.num_mask)}
        yield Graph(MASK_HEAD, deployed.mask_head, inputs, ("patch_labels", "patch_confidence", "pixel_logits"))
    inputs = {
        "features": torch.zeros(patches, width, dtype=torch.float16),
        "patches": torch.arange(patches),
        "state": torch.zeros(len(info.robot.joints)),
    }
    if config.use_mask:
        inputs |= {
            "labels": torch.zeros(patches, dtype=torch.int64),
            "rules": torch.ones(labels, labels, dtype=torch.bool),
        }
    free = ("features", "patches", "labels") if dynamic else ()
    yield Graph(PLANNER, deployed.planner, inputs, ("actions",), free, exact=("state_projection", "action_head"))


def write_graph(graph: Graph, path: Path) -> None:
    """Export a graph to a file, without torch's messages."""
    patches = torch.export.Dim(_ANY, min=0, max=(1 << 16))
    shapes = [{0: patches} if name in graph.free else None for name in graph.inputs]
    with silence():
        program: Any = torch.onnx.export(
            graph.module,
            tuple(graph.inputs.values()),
            dynamo=True,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=OPSET,
            dynamic_shapes=shapes if graph.free else None,
            external_data=False,
        )
        for made in program.model.graph.inputs:
            # If a module uses a length as a plain number, torch makes it a constant without a message.
            assert made.name not in graph.free or not isinstance(made.shape[0], int), f"{made.name} is of one length"
        program.save(path)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Suppress torch's progress, its warnings about packages that are not needed, and its own deprecations."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "root")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
