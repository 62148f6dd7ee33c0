"""Where training computes: one process or several, CPU or GPU, and a batch's way there."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any

import cv2
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs

from maskact_ros.policy.maskact import TrainingBatch
from maskact_ros.training.errors import TrainingError
from maskact_ros.training.settings import TrainSettings

_MOST_WORKERS = 8


def start_accelerator(settings: TrainSettings) -> Accelerator:
    """One process of the run, or the only one; mixed precision on CUDA. Raises TrainingError."""
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("--device is cuda, and torch finds no CUDA device; allowed here: auto, cpu")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    cv2.setNumThreads(1)  # pictures are small, and torch wants the cores
    on_cuda = settings.device != "cpu" and torch.cuda.is_available()
    accelerator = Accelerator(
        cpu=settings.device == "cpu",
        mixed_precision="bf16" if on_cuda and torch.cuda.is_bf16_supported() else "no",
        # DINOv3's mask token is never used, nor is the mask head on pictures without masks.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    if settings.batch_size % accelerator.num_processes:
        raise TrainingError(
            f"--batch-size is {settings.batch_size}; allowed: a multiple of the {accelerator.num_processes} processes"
        )
    return accelerator


def loader_threads(accelerator: Accelerator) -> int:
    """How many threads prepare pictures: one beside a model on the CPU."""
    if accelerator.device.type == "cpu":
        return 1
    processes: int = accelerator.num_processes
    return max(1, min(_MOST_WORKERS, (os.cpu_count() or 1) // processes - 1))


def moved(batch: TrainingBatch, device: torch.device) -> TrainingBatch:
    """The batch on a device."""
    there: dict[str, Any] = {}
    for f in fields(batch):
        tensor = getattr(batch, f.name)
        there[f.name] = None if tensor is None else tensor.to(device)
    return TrainingBatch(**there)
