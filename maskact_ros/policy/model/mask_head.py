"""The mask head: patch features to one logit per class and pixel.

ASPP (Chen et al. 2017, arXiv:1706.05587) on the grid of patches, then a bilinear resize to the picture's size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DILATIONS = (1, 6, 12, 18)
_DROPOUT = 0.1


class MaskHead(nn.Module):
    """Atrous spatial pyramid pooling: image pooling and four dilated convolutions, concatenated in this order."""

    def __init__(self, *, dim_model: int, channels: int, num_mask: int) -> None:
        super().__init__()
        self.image_pooling = nn.Sequential(nn.AdaptiveAvgPool2d(1), *_convolution(dim_model, channels, kernel=1))
        self.branches = nn.ModuleList(
            nn.Sequential(*_convolution(dim_model, channels, kernel=1 if dilation == 1 else 3, dilation=dilation))
            for dilation in DILATIONS
        )
        self.bottleneck = nn.Sequential(*_convolution(channels * (1 + len(DILATIONS)), channels, kernel=3))
        self.classifier = nn.Sequential(nn.Dropout2d(_DROPOUT), nn.Conv2d(channels, num_mask, 1))

    def forward(self, grid: Tensor) -> Tensor:
        """(B, D, P, P) features to logits (B, C, P, P)."""
        pooled = self.image_pooling(grid).expand(-1, -1, *grid.shape[-2:])  # (B, M, P, P)
        pyramid = torch.cat([pooled, *(branch(grid) for branch in self.branches)], dim=1)  # (B, 5 M, P, P)
        logits: Tensor = self.classifier(self.bottleneck(pyramid))
        return logits


class AuxiliaryHead(nn.Module):
    """A shallow head for training only: it classifies each patch by its features alone, without context."""

    def __init__(self, *, dim_model: int, channels: int, num_mask: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_convolution(dim_model, channels, kernel=3), nn.Dropout2d(_DROPOUT), nn.Conv2d(channels, num_mask, 1)
        )

    def forward(self, grid: Tensor) -> Tensor:
        """(B, D, P, P) features to logits (B, C, P, P)."""
        logits: Tensor = self.layers(grid)
        return logits


class AtrousConv2d(nn.Conv2d):
    """A 3x3 convolution that skips zeros: on a grid not larger than its dilation it computes its centre only."""

    def forward(self, grid: Tensor) -> Tensor:
        """(B, D, P, P) to (B, M, P, P)."""
        if self.dilation[0] < max(grid.shape[-2:]):
            return super().forward(grid)
        middle = self.kernel_size[0] // 2
        return F.conv2d(grid, self.weight[:, :, middle : middle + 1, middle : middle + 1])  # all other taps see padding


def as_grid(features: Tensor) -> Tensor:
    """(B, N, D) patch features to a grid (B, D, P, P), P*P = N."""
    batch, patches, width = features.shape
    side = round(patches**0.5)
    return features.transpose(1, 2).reshape(batch, width, side, side)


def resizing_matrix(side: int, image_size: int) -> Tensor:
    """(S, P): the matrix of a bilinear resize in one direction, with pixel centres aligned, for `to_pixels`."""
    lines = torch.eye(side)[None, :, :, None]  # (1, P lines, P, 1)
    return F.interpolate(lines, size=(image_size, 1), mode="bilinear")[0, :, :, 0].t().contiguous()


def to_pixels(logits: Tensor, resizing: Tensor) -> Tensor:
    """(B, C, P, P) to (B, C, S, S) by two products in single precision: faster than a resize, mainly backwards."""
    with torch.autocast(logits.device.type, enabled=False):
        return resizing @ logits.float() @ resizing.t()


def _convolution(
    width: int, channels: int, *, kernel: int, dilation: int = 1
) -> tuple[nn.Module, nn.Module, nn.Module]:
    padding = dilation * (kernel // 2)
    convolution = AtrousConv2d(width, channels, kernel, padding=padding, dilation=dilation, bias=False)
    return convolution, nn.BatchNorm2d(channels), nn.ReLU()
