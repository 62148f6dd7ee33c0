"""Label attention: which tokens of the transformer's encoder may attend to which, by their labels."""

from __future__ import annotations

import torch
from torch import Tensor

from maskact_ros.core.config import LATENT_LABEL


def label_attention_mask(labels: Tensor, table: Tensor, seen: Tensor | None = None) -> Tensor:
    """(B, T, T) booleans, true where a query token may attend to a key token, of the tokens' labels (B, T).

    A query whose rule allows no token that is present attends to all: a softmax over nothing has no value. `seen`
    (B, 1, T) says which tokens are present; all without it.
    """
    index = labels.long() - LATENT_LABEL
    allowed = table[index[:, :, None], index[:, None, :]]
    if seen is None:
        seen = torch.ones_like(allowed[:, :1])
    allowed = allowed & seen
    return allowed | (~allowed.any(dim=-1, keepdim=True) & seen)
