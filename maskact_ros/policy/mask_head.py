"""The mask head: patch features to one logit per class and pixel.

ASPP (Chen et al. 2017, arXiv:1706.05587) on the grid of patches, then a bilinear resize to the picture's size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CHANNELS = 256
_DILATIONS = (1, 6, 12, 18)
_DROPOUT = 0.1


class MaskHead(nn.Module):
    """Atrous spatial pyramid pooling: image pooling and four dilated convolutions, concatenated in this order."""

    def __init__(self, *, dim_model: int, num_mask: int) -> None:
        super().__init__()
        self.image_pooling = nn.Sequential(nn.AdaptiveAvgPool2d(1), *_convolution(dim_model, kernel=1))
        self.branches = nn.ModuleList(
            nn.Sequential(*_convolution(dim_model, kernel=1 if dilation == 1 else 3, dilation=dilation))
            for dilation in _DILATIONS
        )
        self.bottleneck = nn.Sequential(*_convolution(_CHANNELS * (1 + len(_DILATIONS)), kernel=3))
        self.classifier = nn.Sequential(nn.Dropout2d(_DROPOUT), nn.Conv2d(_CHANNELS, num_mask, 1))

    def forward(self, grid: Tensor) -> Tensor:
        """(B, D, P, P) features to logits (B, C, P, P)."""
        pooled = self.image_pooling(grid).expand(-1, -1, *grid.shape[-2:])  # (B, 256, P, P)
        pyramid = torch.cat([pooled, *(branch(grid) for branch in self.branches)], dim=1)  # (B, 1280, P, P)
        logits: Tensor = self.classifier(self.bottleneck(pyramid))
        return logits


class AuxiliaryHead(nn.Module):
    """A shallow head for training only: it asks the features themselves, without context, for the class."""

    def __init__(self, *, dim_model: int, num_mask: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_convolution(dim_model, kernel=3), nn.Dropout2d(_DROPOUT), nn.Conv2d(_CHANNELS, num_mask, 1)
        )

    def forward(self, grid: Tensor) -> Tensor:
        """(B, D, P, P) features to logits (B, C, P, P)."""
        logits: Tensor = self.layers(grid)
        return logits


def as_grid(features: Tensor) -> Tensor:
    """(B, N, D) patch features to a picture (B, D, P, P), P*P = N."""
    batch, patches, width = features.shape
    side = round(patches**0.5)
    return features.transpose(1, 2).reshape(batch, width, side, side)


def to_pixels(logits: Tensor, image_size: int) -> Tensor:
    """(B, C, P, P) to (B, C, S, S), bilinear, pixel centres aligned."""
    return F.interpolate(logits, size=(image_size, image_size), mode="bilinear", align_corners=False)


def _convolution(channels: int, *, kernel: int, dilation: int = 1) -> tuple[nn.Module, nn.Module, nn.Module]:
    padding = dilation * (kernel // 2)
    convolution = nn.Conv2d(channels, _CHANNELS, kernel, padding=padding, dilation=dilation, bias=False)
    return convolution, nn.BatchNorm2d(_CHANNELS), nn.ReLU()
