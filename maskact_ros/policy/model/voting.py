"""The pixels of a patch vote for the patch's label."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from maskact_ros.core.config import PATCH_SIZE

IMPORTANCE_RANGE = (0.01, 10.0)  # > 0, so that a class of weight 0 still wins if no other has any probability


def vote(pixel_logits: Tensor, importance: Tensor) -> tuple[Tensor, Tensor]:
    """Label and confidence of each patch, both (B, N), from logits (B, C, S, S) and class weights (C,).

    A class's share is the mean of its pixels' softmax probabilities times its importance; the largest wins, and the
    confidence is its part of all shares.
    """
    probability = F.avg_pool2d(pixel_logits.softmax(dim=1), PATCH_SIZE)  # (B, C, P, P)
    share = probability.flatten(2) * importance.clamp(*IMPORTANCE_RANGE)[:, None]  # (B, C, N)
    confidence, labels = (share / share.sum(dim=1, keepdim=True)).max(dim=1)
    return labels, confidence
