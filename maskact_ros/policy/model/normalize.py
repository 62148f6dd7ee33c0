"""`Normalizer`: normalises a feature's values and back; every mode is an affine map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maskact_ros.core.statistics import FeatureStatistics


class Normalizer(nn.Module):
    """normalised = (value - centre) / scale, over the last dimension.

    The statistics are in the checkpoint's `stats.json`, not in the weights.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, *, statistics: FeatureStatistics, mode: str, feature: str, width: int) -> None:
        super().__init__()
        centre, scale = statistics.affine(mode, feature=feature, width=width)
        self.register_buffer("centre", torch.tensor(centre, dtype=torch.float32), persistent=False)
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Normalised values, of the same shape (..., width)."""
        return (values - self.centre) / self.scale

    def inverse(self, normalised: Tensor) -> Tensor:
        """The inverse of `forward`."""
        return normalised * self.scale + self.centre
