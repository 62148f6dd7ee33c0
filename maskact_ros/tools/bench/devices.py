"""The device that a benchmark measures."""

from __future__ import annotations

import torch

from maskact_ros.core.errors import MaskACTError


def chosen_device(name: str) -> str:
    """`cpu` or `cuda` for auto, cpu or cuda; raises MaskACTError if there is no such device."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise MaskACTError("--device is cuda, which torch cannot use here; allowed: auto, cpu")
    return name
