"""Layers that are fast on a CPU: weights in the order that a matrix product reads them, heads side by side.

Sequences are (T, D), for one picture. A layer's weights may have another precision than its input tokens.
"""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskact_ros.policy.deploy.label_groups import Groups

_TILE = 16  # keys in a tile of the CPU's bfloat16 matrix products


class Product(nn.Module):
    """tokens W + b, with W as (in, out): a product of row-major matrices, a tenth faster than `nn.Linear`'s."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """From a linear layer's weight (out, in) and bias (out,)."""
        super().__init__()
        zeros = weight.new_zeros(len(weight))
        self.weight = nn.Parameter(weight.detach().t().contiguous(), requires_grad=False)
        self.bias = nn.Parameter(zeros if bias is None else bias.detach().clone(), requires_grad=False)

    @classmethod
    def joined(cls, *layers: nn.Linear) -> Self:
        """One product for several layers with the same input, their outputs side by side."""
        biases: list[Tensor] = [
            layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias for layer in layers
        ]
        return cls(torch.cat([layer.weight.detach() for layer in layers]), torch.cat(biases))

    @classmethod
    def scaled(cls, layer: nn.Linear, scale: Tensor) -> Self:
        """A layer whose outputs are multiplied by `scale` (out,)."""
        return cls(layer.weight * scale[:, None], None if layer.bias is None else layer.bias * scale)

    def forward(self, tokens: Tensor) -> Tensor:
        """(T, in) to (T, out), in the precision of the weights."""
        return torch.addmm(self.bias, tokens.to(self.weight.dtype), self.weight)

    def added_to(self, tokens: Tensor, inner: Tensor) -> Tensor:
        """tokens (T, out) + the product of `inner` (T, in), in the precision of `tokens`."""
        if tokens.dtype == self.weight.dtype:
            return torch.addmm(tokens, inner, self.weight).add_(self.bias)
        product: Tensor = self(inner)
        return tokens + product

    def heads(self, tokens: Tensor, count: int) -> Tensor:
        """As `forward`, to (T, count, W)."""
        product: Tensor = self(tokens)
        return product.view(tokens.shape[0], count, -1)  # not len: an export would make it a constant


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attention of (Q, H, W) to (T, H, W), the heads of a token side by side again: (Q, H * W).

    `bias` (Q, T) is added to the scores: 0 where a query may attend to a key, else -inf. A mask of booleans would be
    converted to it again in each layer.
    """
    if _in_tiles(key) and (missing := -len(key) % _TILE):
        # Any other number of keys takes 1.5 times as long as the next multiple of a tile.
        key, value = F.pad(key, (0, 0, 0, 0, 0, missing)), F.pad(value, (0, 0, 0, 0, 0, missing))
        bias = key.new_zeros(1, len(key) - missing) if bias is None else bias
        bias = F.pad(bias, (0, missing), value=-torch.inf)
    # A head's keys and values are read once for each block of queries. Made contiguous they are read faster, which
    # saves more time than the copy takes. Queries are read once only, and the result keeps their order.
    attended = F.scaled_dot_product_attention(
        query.transpose(0, 1)[None],
        key.transpose(0, 1).contiguous()[None],
        value.transpose(0, 1).contiguous()[None],
        attn_mask=None if bias is None else bias[None, None],
    )
    return attended[0].transpose(0, 1).flatten(1)


def attend_in_groups(query: Tensor, key: Tensor, value: Tensor, groups: Groups) -> Tensor:
    """As `attend`, for tokens in the order of `groups`: each group attends to its own keys only."""
    return torch.cat(
        [
            attend(query[queries], torch.cat([key[span] for span in spans]), torch.cat([value[span] for span in spans]))
            for queries, spans in groups
        ]
    )


def _in_tiles(tensor: Tensor) -> bool:
    """Whether a CPU multiplies the tensor in tiles of bfloat16; false in an export."""
    return tensor.dtype == torch.bfloat16 and tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def compute_in(module: nn.Module, precision: torch.dtype) -> None:
    """Let all products and convolutions within `module` compute in another precision, in place."""
    for part in module.modules():
        if isinstance(part, (Product, nn.Conv2d)):
            part.to(precision)
