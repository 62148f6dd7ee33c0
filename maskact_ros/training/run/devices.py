"""The devices of training: one process or several, CPU or GPU; and moving batches to them."""

from __future__ import annotations

import itertools
import os
from dataclasses import fields
from typing import Any

import cv2
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs

from maskact_ros.policy.model.backbone import layers_of
from maskact_ros.policy.model.maskact import MaskACT, TrainingBatch
from maskact_ros.training.errors import TrainingError
from maskact_ros.training.run.settings import TrainSettings

_MOST_WORKERS = 8
_COMPILED_SHAPES = 64  # compiled shapes of each kind of layer, such as of held-out rows; torch's default is 8


def start_accelerator(settings: TrainSettings) -> Accelerator:
    """Start accelerate in one process of the run, or in the only one. Raises TrainingError."""
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("--device is cuda, and torch finds no CUDA device; allowed here: auto, cpu")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    cv2.setNumThreads(1)  # pictures are small, and torch needs the cores
    accelerator = Accelerator(
        cpu=settings.device == "cpu",
        mixed_precision="no",  # see `computing`
        # DINOv3's mask token is never used, nor is the mask head on pictures without masks.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    # All batches have the same shape, so a search for the fastest convolutions saves time.
    torch.backends.cudnn.benchmark = True
    if settings.batch_size % accelerator.num_processes:
        raise TrainingError(
            f"--batch-size is {settings.batch_size}; allowed: a multiple of the {accelerator.num_processes} processes"
        )
    return accelerator


def chosen_precision(settings: TrainSettings) -> str:
    """`fp32` or `bf16`: as requested; for `auto` bf16 if it is fast here, as it has shown no loss of quality."""
    if settings.precision != "auto":
        return settings.precision
    on_cuda = settings.device != "cpu" and torch.cuda.is_available()
    return "bf16" if on_cuda and torch.cuda.is_bf16_supported() else "fp32"


def computing(precision: str, device: torch.device) -> torch.autocast:
    """A context for computing in `fp32` or `bf16`; accelerate's precision is the same for all runs of a process."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def compile_transformers(model: MaskACT) -> None:
    """Let torch compile the layers of backbone and transformers, in place, so that names of weights stay.

    Each layer is compiled by itself, since layers of one kind share the compiled code. A whole stack would take
    minutes, and was not faster in any measurement.
    """
    torch._dynamo.config.recompile_limit = _COMPILED_SHAPES
    act = model.planner.act
    stacks = [layers_of(model.perception.encoder.backbone), act.encoder.layers, act.decoder.layers]
    if act.vae is not None:
        stacks.append(act.vae.encoder.layers)
    for layer in itertools.chain(*stacks):
        layer.compile(dynamic=False)


def loader_threads(accelerator: Accelerator) -> int:
    """The number of threads that prepare pictures: one if the model is on the CPU."""
    if accelerator.device.type == "cpu":
        return 1
    processes: int = accelerator.num_processes
    return max(1, min(_MOST_WORKERS, (os.cpu_count() or 1) // processes - 1))


def moved(batch: TrainingBatch, device: torch.device) -> TrainingBatch:
    """The batch on a device; a pinned batch is copied asynchronously."""
    there: dict[str, Any] = {}
    for f in fields(batch):
        tensor = getattr(batch, f.name)
        there[f.name] = None if tensor is None else tensor.to(device, non_blocking=True)
    return TrainingBatch(**there)
