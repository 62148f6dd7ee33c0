"""`Dropout`: as `nn.Dropout`, but a CPU draws its random numbers in a tenth of the time.

On a CPU PyTorch draws a 64-bit number for each element, in one thread. Here each 64-bit number serves four elements.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_LEVELS = 2**16


class Dropout(nn.Dropout):
    """On a CPU the probability is rounded to a 65536th; kept elements are scaled by it, so the mean is exact."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens of any shape, to the same shape."""
        dropped = round(self.p * _LEVELS)
        slow = tokens.device.type == "cpu" and not torch.compiler.is_compiling()  # compiled code draws in its own way
        if not self.training or not slow or dropped in (0, _LEVELS):
            unchanged: Tensor = super().forward(tokens)
            return unchanged
        words = torch.empty(-(-tokens.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.int16)[: tokens.numel()].view(tokens.shape) >= dropped - _LEVELS // 2
        return torch.where(kept, tokens, 0.0) * (_LEVELS / (_LEVELS - dropped))
