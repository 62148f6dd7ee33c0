"""Mask head and voting for the robot: batch norm in the convolutions, channels last, pooled channels separate."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskact_ros.core.config import PATCH_SIZE
from maskact_ros.policy.deploy.packed_layers import Product, compute_in
from maskact_ros.policy.model.maskact import Perception
from maskact_ros.policy.model.voting import vote

_TAPS = 9  # of a 3x3 convolution


class DeployedMaskHead(nn.Module):
    """Mask head and voting, for one picture."""

    inside: Tensor
    resizing: Tensor

    def __init__(self, perception: Perception) -> None:
        """Copy the weights of a perception with a mask head."""
        super().__init__()
        assert perception.mask_head is not None
        head: Any = perception.mask_head
        self.side = perception.image_size // PATCH_SIZE
        self.pooling = _product(*_folded(head.image_pooling, at=1))
        point, *others = head.branches
        self.point = _product(*_folded(point))
        self.branches = nn.ModuleList(
            _convolution(*_folded(branch), dilation=branch[0].dilation[0], side=self.side) for branch in others
        )
        weight, bias = _folded(head.bottleneck)
        channels = len(weight)
        self.bottleneck = _convolution(weight[:, channels:], bias, dilation=1, side=self.side)
        # The pooled channels are constant over the grid: their contribution depends only on which taps are inside it.
        self.pooled = Product(weight[:, :channels].permute(2, 3, 0, 1).reshape(_TAPS * channels, channels), None)
        taps = F.unfold(torch.ones(1, 1, self.side, self.side), 3, padding=1)[0].t()  # (N, 9)
        self.register_buffer("inside", taps.contiguous(), persistent=False)
        self.register_buffer("resizing", perception.resizing.detach().clone(), persistent=False)  # (S, P)
        classifier = head.classifier[1]
        self.classifier = _product(classifier.weight, classifier.bias)

    def forward(self, features: Tensor, importance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, D) and class weights (C,) to patch labels (N,) int64, their confidence (N,), pixel logits (C, S, S)."""
        pooled = self.pooling(features.mean(dim=0, keepdim=True)).relu_()  # (1, M)
        added = self.inside @ self.pooled(pooled).view(_TAPS, -1)  # (N, M)
        features = features.to(self.point.weight.dtype)
        grid = self._grid(features)
        branches = (self._grid(self.point(features)), *(branch(grid) for branch in self.branches))
        pyramid = torch.cat(branches, dim=1).relu_()  # (1, 4 M, P, P)
        mixed = self.bottleneck(pyramid)[0].flatten(1).t() + added  # (N, M)
        logits = self.classifier(mixed.relu_()).t().reshape(-1, self.side, self.side)  # (C, P, P)
        pixel_logits = self.resizing @ logits @ self.resizing.t()  # (C, S, S)
        labels, confidence = vote(pixel_logits[None], importance)
        return labels[0], confidence[0], pixel_logits

    def compute_in(self, precision: torch.dtype) -> None:
        """Let the convolutions compute in another precision, in place; pooling, classifier and vote stay."""
        for part in (self.point, self.branches, self.bottleneck):
            compute_in(part, precision)

    def _grid(self, tokens: Tensor) -> Tensor:
        """(N, D) to (1, D, P, P), channels last, without a copy."""
        return tokens.view(1, self.side, self.side, -1).permute(0, 3, 1, 2)


def _folded(layers: nn.Module, at: int = 0) -> tuple[Tensor, Tensor]:
    """Weight (M, D, k, k) and bias (M,) of the convolution at index `at`, with the batch norm after it folded in."""
    convolution, norm = layers.get_submodule(f"{at}"), layers.get_submodule(f"{at + 1}")
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    weight = convolution.weight.double() * factor[:, None, None, None]
    bias = norm.bias.double() - norm.running_mean.double() * factor
    return weight.float(), bias.float()


def _product(weight: Tensor, bias: Tensor | None) -> Product:
    """A 1x1 convolution as a matrix product."""
    return Product(weight[:, :, 0, 0], bias)


def _convolution(weight: Tensor, bias: Tensor, *, dilation: int, side: int) -> nn.Conv2d:
    """A 3x3 convolution, channels last. On a grid not larger than the dilation only its centre sees no padding."""
    if dilation >= side:
        weight, dilation = weight[:, :, 1:2, 1:2], 1
    kernel = weight.shape[-1]
    made = nn.Conv2d(weight.shape[1], len(weight), kernel, padding=dilation * (kernel // 2), dilation=dilation)
    made.weight = nn.Parameter(weight.detach().to(memory_format=torch.channels_last, copy=True), requires_grad=False)
    made.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return made
