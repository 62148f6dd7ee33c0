"""Label attention: which tokens of the transformer's encoder may attend to which, by their labels."""

from __future__ import annotations

import torch
from torch import Tensor

from maskact_ros.core.config import LATENT_LABEL


def label_attention_mask(labels: Tensor, table: Tensor, seen: Tensor | None = None) -> Tensor:
    """(B, T, T) booleans from the tokens' labels (B, T): true where a query token may attend to a key token.

    A query whose rule allows no present token attends to all, because a softmax needs at least one. `seen` (B, 1, T)
    says which tokens are present; by default all are.
    """
    index = labels.long() - LATENT_LABEL
    allowed = table[index[:, :, None], index[:, None, :]]
    if seen is None:
        seen = torch.ones_like(allowed[:, :1])
    allowed = allowed & seen
    return allowed | (~allowed.any(dim=-1, keepdim=True) & seen)
