"""ACT for the robot: features of the chosen patches, to actions in the robot's units.

Rules, labels and the choice of patches are inputs. The first self-attention of the queries is constant, and is computed
beforehand.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskact_ros.core.config import LATENT_LABEL
from maskact_ros.policy.deploy.label_groups import Groups
from maskact_ros.policy.deploy.packed_layers import Product, attend, attend_in_groups, compute_in
from maskact_ros.policy.model.act import IMAGE, LATENT, PREFIX, STATE
from maskact_ros.policy.model.maskact import Planner
from maskact_ros.policy.model.transformer import Attention, DecoderLayer, EncoderLayer, FeedForward


class DeployedPlanner(nn.Module):
    """ACT, with the normalisation of its inputs and output, for one picture."""

    latent_token: Tensor
    prefix_position: Tensor
    patch_positions: Tensor
    label_positions: Tensor | None
    queries: Tensor
    start: Tensor

    def __init__(self, planner: Planner) -> None:
        """Copy the planner's weights."""
        super().__init__()
        act = planner.act
        layers: Any = act.encoder.layers
        decoder_layers: Any = act.decoder.layers
        self.state_normalizer, self.action_normalizer = planner.state_normalizer, planner.action_normalizer
        self.position_in_tokens = act.position_in_tokens
        modality = act.modality_embedding.weight.detach()
        labels = None if act.label_embedding is None else act.label_embedding.weight.detach().clone()
        with torch.no_grad():
            constants = {
                "latent_token": act.latent_projection(modality.new_zeros(1, act.latent_dim)),  # (1, D)
                "prefix_position": modality[[LATENT, STATE]],  # (2, D)
                "patch_positions": act.positions + modality[IMAGE],  # (N, D)
                "label_positions": labels,  # (C, D), if there are masks
                "queries": act.action_queries.detach().clone(),  # (K, D)
                "start": _after_first_attention(decoder_layers[0], act.action_queries),  # (K, D)
            }
        for name, constant in constants.items():
            self.register_buffer(name, constant, persistent=False)
        self.state_projection = Product.joined(act.state_projection)
        self.encoder = nn.ModuleList(_EncoderLayer(layer) for layer in layers)
        self.encoder_norm = act.encoder.norm
        # Self-attention of all layers but the first, whose result is `start`.
        self.between = nn.ModuleList(_QueryAttention(layer) for layer in decoder_layers[1:])
        self.decoder = nn.ModuleList(_DecoderLayer(layer) for layer in decoder_layers)
        self.decoder_norm = act.decoder.norm
        self.action_head = Product.joined(act.action_head)
        self.precision = modality.dtype  # of the attention

    def forward(
        self,
        features: Tensor,
        patches: Tensor,
        state: Tensor,
        labels: Tensor | None = None,
        rules: Tensor | None = None,
        groups: Groups | None = None,
    ) -> Tensor:
        """Actions (K, J) in the robot's units.

        Args:
            features: (M, D) of the chosen patches.
            patches: (M,) int64, their places in the grid.
            state: (J,) joint positions.
            labels: (M,) int64; needed if the policy has masks.
            rules: (L, L) bool, as `rules.rule_table`; without them every token attends to every other.
            groups: an alternative to `rules`, faster, for patches in the order of `label_groups.attention_groups`.
        """
        patch_position = self.patch_positions[patches]  # (M, D)
        if self.label_positions is not None:
            assert labels is not None
            patch_position = patch_position + self.label_positions[labels]
        position = torch.cat([self.prefix_position, patch_position])  # (2 + M, D)
        state_token = self.state_projection(self.state_normalizer(state)[None])
        tokens = torch.cat([self.latent_token, state_token, features.to(position.dtype)])  # (2 + M, D)
        if self.position_in_tokens:
            tokens = tokens + position
        bias = None
        if rules is not None and groups is None:
            assert labels is not None
            bias = label_attention_bias(labels, rules).to(self.precision)
        for layer in self.encoder:
            tokens = layer(tokens, position, bias, groups)
        memory = self.encoder_norm(tokens)
        keys = memory + position
        decoded = self.start
        for index, layer in enumerate(self.decoder):
            if index:
                decoded = self.between[index - 1](decoded, self.queries)
            decoded = layer(decoded, self.queries, keys, memory)
        actions: Tensor = self.action_normalizer.inverse(self.action_head(self.decoder_norm(decoded)))
        return actions

    def compute_in(self, precision: torch.dtype) -> None:
        """Let the transformer's products compute in another precision, in place.

        Tokens, their norms, the state and the actions stay in single precision.
        """
        self.precision = precision
        for part in (self.encoder, self.between, self.decoder):
            compute_in(part, precision)


def label_attention_bias(labels: Tensor, rules: Tensor) -> Tensor:
    """(2 + M, 2 + M) from the patches' labels (M,): 0 where a token may attend to another, else -inf.

    The same as `attention.label_attention_mask`, but computed from one row for each label.
    """
    index = torch.cat([labels.new_full((PREFIX,), LATENT_LABEL), labels]) - LATENT_LABEL
    allowed = rules[:, index]  # (L, 2 + M)
    allowed = allowed | ~allowed.any(dim=1, keepdim=True)
    zero = torch.zeros((), device=rules.device)
    return torch.where(allowed, zero, -torch.inf)[index]


def _after_first_attention(layer: DecoderLayer, queries: Tensor) -> Tensor:
    """(K, D) after the self-attention of the first decoder layer, whose input is zeros."""
    zeros = torch.zeros_like(queries)[None]
    return layer.attend_to_itself(zeros, queries[None])[0].detach()


class _FeedForward(nn.Module):
    def __init__(self, feed_forward: FeedForward) -> None:
        super().__init__()
        self.activation = feed_forward.activation
        self.linear1 = Product.joined(feed_forward.linear1)
        self.linear2 = Product.joined(feed_forward.linear2)

    def added_to(self, tokens: Tensor, inner: Tensor) -> Tensor:
        """tokens (T, D) + the network's output for `inner` (T, D)."""
        wide = self.linear1(inner)
        wide = F.relu_(wide) if self.activation is F.relu else self.activation(wide)
        return self.linear2.added_to(tokens, wide)


class _SelfAttention(nn.Module):
    """Self-attention, with positions in queries and keys, not in values."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.n_heads = attention.n_heads
        self.query_key = Product.joined(attention.q_proj, attention.k_proj)
        self.value = Product.joined(attention.v_proj)

    def forward(
        self, tokens: Tensor, position: Tensor, bias: Tensor | None = None, groups: Groups | None = None
    ) -> Tensor:
        """Tokens (T, D) and their position to (T, D), for `output` to add to them.

        `bias` as in `packed_layers.attend`, `groups` as in `packed_layers.attend_in_groups`.
        """
        query, key = self.query_key.heads(tokens + position, 2 * self.n_heads).chunk(2, dim=1)
        value = self.value.heads(tokens, self.n_heads)
        return attend(query, key, value, bias) if groups is None else attend_in_groups(query, key, value, groups)


class _EncoderLayer(nn.Module):
    def __init__(self, layer: EncoderLayer) -> None:
        super().__init__()
        self.pre_norm = layer.pre_norm
        self.attention = _SelfAttention(layer.self_attention)
        self.output = Product.joined(layer.self_attention.out_proj)
        self.feed_forward = _FeedForward(layer.feed_forward)
        self.norm1, self.norm2 = layer.norm1, layer.norm2

    def forward(self, tokens: Tensor, position: Tensor, bias: Tensor | None, groups: Groups | None) -> Tensor:
        """As `transformer.EncoderLayer`, for one sequence (T, D)."""
        if self.pre_norm:
            tokens = self.output.added_to(tokens, self.attention(self.norm1(tokens), position, bias, groups))
            tokens = self.feed_forward.added_to(tokens, self.norm2(tokens))
        else:
            tokens = self.norm1(self.output.added_to(tokens, self.attention(tokens, position, bias, groups)))
            tokens = self.norm2(self.feed_forward.added_to(tokens, tokens))
        return tokens


class _QueryAttention(nn.Module):
    """A decoder layer's first part: the queries' attention to each other."""

    def __init__(self, layer: DecoderLayer) -> None:
        super().__init__()
        self.pre_norm = layer.pre_norm
        self.attention = _SelfAttention(layer.self_attention)
        self.output = Product.joined(layer.self_attention.out_proj)
        self.norm = layer.norm1

    def forward(self, tokens: Tensor, position: Tensor) -> Tensor:
        """(K, D) and its position to (K, D)."""
        if self.pre_norm:
            tokens = self.output.added_to(tokens, self.attention(self.norm(tokens), position))
        else:
            tokens = self.norm(self.output.added_to(tokens, self.attention(tokens, position)))
        return tokens


class _DecoderLayer(nn.Module):
    """The rest of a decoder layer: attention to the encoder's memory, then a feed-forward network."""

    def __init__(self, layer: DecoderLayer) -> None:
        super().__init__()
        attention = layer.cross_attention
        self.pre_norm, self.n_heads = layer.pre_norm, attention.n_heads
        self.query = Product.joined(attention.q_proj)
        self.key = Product.joined(attention.k_proj)
        self.value = Product.joined(attention.v_proj)
        self.output = Product.joined(attention.out_proj)
        self.feed_forward = _FeedForward(layer.feed_forward)
        self.norm2, self.norm3 = layer.norm2, layer.norm3

    def forward(self, tokens: Tensor, position: Tensor, keys: Tensor, memory: Tensor) -> Tensor:
        """(K, D), its position, and a memory (T, D) with and without its position, to (K, D)."""
        if self.pre_norm:
            tokens = self.output.added_to(tokens, self._attended(self.norm2(tokens) + position, keys, memory))
            tokens = self.feed_forward.added_to(tokens, self.norm3(tokens))
        else:
            tokens = self.norm2(self.output.added_to(tokens, self._attended(tokens + position, keys, memory)))
            tokens = self.norm3(self.feed_forward.added_to(tokens, tokens))
        return tokens

    def _attended(self, queries: Tensor, keys: Tensor, memory: Tensor) -> Tensor:
        query, key = self.query.heads(queries, self.n_heads), self.key.heads(keys, self.n_heads)
        return attend(query, key, self.value.heads(memory, self.n_heads))
