"""Label attention: which tokens of the transformer's encoder may attend to which, by their labels."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from maskact_ros.config import LATENT_LABEL


def rule_table(rules: Mapping[int, tuple[int, ...]], num_mask: int) -> Tensor:
    """(L, L) booleans: may a query of this label attend to a key of that; L counts the latent's label, then classes.

    A label without a rule attends to all.
    """
    table = torch.ones(num_mask + 1, num_mask + 1, dtype=torch.bool)
    for query, keys in rules.items():
        table[query - LATENT_LABEL] = False
        table[query - LATENT_LABEL, [key - LATENT_LABEL for key in keys]] = True
    return table


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
