"""`Dropout`: as `nn.Dropout`, with random numbers that a CPU draws in a tenth of the time.

PyTorch draws one number of 64 bits for each element there, in one thread. Four of 16 bits are in each, and enough.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_LEVELS = 2**16


class Dropout(nn.Dropout):
    """On a CPU the probability is rounded to a 65536th; what is kept is scaled by that, so the mean is exact."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Of any shape, to the same."""
        dropped = round(self.p * _LEVELS)
        slow = tokens.device.type == "cpu" and not torch.compiler.is_compiling()  # what is compiled draws its own way
        if not self.training or not slow or dropped in (0, _LEVELS):
            unchanged: Tensor = super().forward(tokens)
            return unchanged
        words = torch.empty(-(-tokens.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.int16)[: tokens.numel()].view(tokens.shape) >= dropped - _LEVELS // 2
        return torch.where(kept, tokens, 0.0) * (_LEVELS / (_LEVELS - dropped))
