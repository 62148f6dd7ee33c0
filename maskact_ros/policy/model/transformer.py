"""Transformer layers as in DETR and ACT: positions are added to queries and keys, never to values.

DETR: Carion et al. 2020, arXiv:2005.12872. Sequences are (B, T, D).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn

from maskact_ros.core.config import MaskACTConfig
from maskact_ros.policy.model.dropout import Dropout


@dataclass(frozen=True)
class LayerSettings:
    """The settings that all layers of a transformer have in common."""

    dim_model: int
    n_heads: int
    dim_feedforward: int
    activation: str  # relu, gelu or glu
    pre_norm: bool
    dropout: float

    @classmethod
    def of(cls, config: MaskACTConfig) -> Self:
        """The settings of a configuration."""
        return cls(
            dim_model=config.dim_model,
            n_heads=config.n_heads,
            dim_feedforward=config.dim_feedforward,
            activation=config.feedforward_activation,
            pre_norm=config.pre_norm,
            dropout=config.dropout,
        )


class Attention(nn.Module):
    """Multi-head attention."""

    def __init__(self, settings: LayerSettings) -> None:
        super().__init__()
        width = settings.dim_model
        self.n_heads = settings.n_heads
        self.dropout = settings.dropout
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None) -> Tensor:
        """(B, Q, D), (B, T, D), (B, T, D) to (B, Q, D); `allowed` (B, Q or 1, T) says which keys a query sees."""
        attended = F.scaled_dot_product_attention(
            self._heads(self.q_proj(query)),
            self._heads(self.k_proj(key)),
            self._heads(self.v_proj(value)),
            attn_mask=None if allowed is None else allowed[:, None],  # (B, 1, Q, T): the same for all heads
            dropout_p=self.dropout if self.training else 0.0,
        )
        merged: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return merged

    def _heads(self, tokens: Tensor) -> Tensor:
        batch, length, width = tokens.shape
        return tokens.view(batch, length, self.n_heads, width // self.n_heads).transpose(1, 2)  # (B, H, T, D / H)


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu, "glu": F.glu}


class FeedForward(nn.Module):
    """Two linear layers; with `glu` the first is twice as wide, and one half gates the other."""

    def __init__(self, settings: LayerSettings) -> None:
        super().__init__()
        self.activation = _ACTIVATIONS[settings.activation]
        widening = 2 if settings.activation == "glu" else 1
        self.linear1 = nn.Linear(settings.dim_model, widening * settings.dim_feedforward)
        self.dropout = Dropout(settings.dropout)
        self.linear2 = nn.Linear(settings.dim_feedforward, settings.dim_model)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        transformed: Tensor = self.linear2(self.dropout(self.activation(self.linear1(tokens))))
        return transformed


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward network."""

    def __init__(self, settings: LayerSettings) -> None:
        super().__init__()
        self.pre_norm = settings.pre_norm
        self.self_attention = Attention(settings)
        self.feed_forward = FeedForward(settings)
        self.norm1 = nn.LayerNorm(settings.dim_model)
        self.norm2 = nn.LayerNorm(settings.dim_model)
        self.dropout = Dropout(settings.dropout)

    def forward(
        self, tokens: Tensor, position: Tensor, allowed: Tensor | None = None, wanted: int | None = None
    ) -> Tensor:
        """(B, T, D) and its position to (B, T, D), or the first `wanted` tokens; `allowed` is for these, too."""
        value = self.norm1(tokens) if self.pre_norm else tokens
        key = value + position
        attended = self.self_attention(key[:, :wanted], key, value, allowed)
        tokens = tokens[:, :wanted] + self.dropout(attended)
        if self.pre_norm:
            tokens = tokens + self.dropout(self.feed_forward(self.norm2(tokens)))
        else:
            tokens = self.norm1(tokens)
            tokens = self.norm2(tokens + self.dropout(self.feed_forward(tokens)))
        return tokens


class DecoderLayer(nn.Module):
    """Self-attention, attention to the encoder's memory, then a feed-forward network."""

    def __init__(self, settings: LayerSettings) -> None:
        super().__init__()
        self.pre_norm = settings.pre_norm
        self.self_attention = Attention(settings)
        self.cross_attention = Attention(settings)
        self.feed_forward = FeedForward(settings)
        self.norm1 = nn.LayerNorm(settings.dim_model)
        self.norm2 = nn.LayerNorm(settings.dim_model)
        self.norm3 = nn.LayerNorm(settings.dim_model)
        self.dropout = Dropout(settings.dropout)

    def forward(
        self, tokens: Tensor, position: Tensor, memory: Tensor, memory_position: Tensor, seen: Tensor | None = None
    ) -> Tensor:
        """(B, Q, D) and its position, a memory (B, T, D) and its position, to (B, Q, D); `seen` as in `Decoder`."""
        keys = memory + memory_position
        tokens = self.attend_to_itself(tokens, position)
        if self.pre_norm:
            tokens = tokens + self.dropout(self.cross_attention(self.norm2(tokens) + position, keys, memory, seen))
            tokens = tokens + self.dropout(self.feed_forward(self.norm3(tokens)))
        else:
            tokens = self.norm2(tokens + self.dropout(self.cross_attention(tokens + position, keys, memory, seen)))
            tokens = self.norm3(tokens + self.dropout(self.feed_forward(tokens)))
        return tokens

    def attend_to_itself(self, tokens: Tensor, position: Tensor) -> Tensor:
        """The self-attention, the first part of `forward`."""
        if self.pre_norm:
            value = self.norm1(tokens)
            tokens = tokens + self.dropout(self.self_attention(value + position, value + position, value))
        else:
            query = tokens + position
            tokens = self.norm1(tokens + self.dropout(self.self_attention(query, query, tokens)))
        return tokens


class Encoder(nn.Module):
    """A stack of encoder layers; with `pre_norm` it ends in a LayerNorm, as the layers themselves do not."""

    def __init__(self, settings: LayerSettings, n_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(settings) for _ in range(n_layers))
        self.norm = nn.LayerNorm(settings.dim_model) if settings.pre_norm else nn.Identity()

    def forward(
        self, tokens: Tensor, position: Tensor, allowed: Tensor | None = None, wanted: int | None = None
    ) -> Tensor:
        """(B, T, D) and its position to (B, T, D).

        With `wanted` the last layer computes only the first `wanted` tokens; then `allowed` is (B, 1, T).
        """
        for layer in self.layers[:-1]:
            tokens = layer(tokens, position, allowed)
        tokens = self.layers[-1](tokens, position, allowed, wanted)
        normed: Tensor = self.norm(tokens)
        return normed


class Decoder(nn.Module):
    """A stack of decoder layers; it always ends in a LayerNorm, with and without `pre_norm`."""

    def __init__(self, settings: LayerSettings, n_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(settings) for _ in range(n_layers))
        self.norm = nn.LayerNorm(settings.dim_model)

    def forward(self, position: Tensor, memory: Tensor, memory_position: Tensor, seen: Tensor | None = None) -> Tensor:
        """Queries that start at zero and differ by their position (B, Q, D), to (B, Q, D).

        `seen` (B, 1, T) says which tokens of the memory the queries may attend to; by default all.
        """
        tokens = position.new_zeros(position.shape)
        for layer in self.layers:
            tokens = layer(tokens, position, memory, memory_position, seen)
        normed: Tensor = self.norm(tokens)
        return normed


def reset_parameters(module: nn.Module) -> None:
    """Xavier-uniform matrices, as DETR and ACT start."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
