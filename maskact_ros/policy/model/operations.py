"""The exact number of operations of a policy for one picture, in matrix products, convolutions and attention.

A multiplication and an addition count as two. Norms, activations, softmax and resizing are not counted, to be
comparable with a machine's speed of matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from maskact_ros.core.checkpoint import PolicySpec
from maskact_ros.core.config import PATCH_SIZE
from maskact_ros.policy.model.mask_head import DILATIONS

_PREFIX = 2  # tokens of latent and state
_TAPS = 9  # of a 3x3 convolution


@dataclass(frozen=True)
class Operations:
    """Operations of the three parts, in 10^9."""

    encoder: float
    mask_head: float  # 0 if the policy has no masks
    act: float

    @property
    def total(self) -> float:
        """The operations of all three parts."""
        return self.encoder + self.mask_head + self.act


def nominal(spec: PolicySpec, *, patches_seen: int | None = None) -> Operations:
    """The operations of the policy's plain modules; ACT sees `patches_seen` patches, by default all."""
    config = spec.config
    patches = config.patches_per_side**2
    seen = patches if patches_seen is None else patches_seen
    return Operations(
        encoder=_encoder(spec) / 1e9,
        mask_head=_mask_head(spec) / 1e9 if config.use_mask else 0.0,
        act=_act(spec, seen) / 1e9,
    )


def left_out(spec: PolicySpec) -> Operations:
    """The operations of `nominal` that the modules of `deploy` skip: those with padding, and constant ones."""
    config = spec.config
    side, width, channels = config.patches_per_side, config.dim_model, config.mask_head_channels
    queries = config.chunk_size
    mask_head = 0
    if config.use_mask:
        for dilation in DILATIONS[1:]:
            if dilation < side:  # `nominal` does not count the padding of larger dilations
                inside = side + 2 * (side - dilation)  # of 3 * side places, those that are no padding, in one direction
                mask_head += 2 * (_TAPS * side**2 - inside**2) * width * channels
        constant = side**2 - 1  # the pooled channels are equal at all places
        mask_head += 2 * constant * _TAPS * channels * channels
    return Operations(encoder=0.0, mask_head=mask_head / 1e9, act=_self_attention(queries, width) / 1e9)


def _encoder(spec: PolicySpec) -> int:
    backbone: dict[str, Any] = {"use_gated_mlp": False} | dict(spec.backbone)
    hidden, inner = int(backbone["hidden_size"]), int(backbone["intermediate_size"])
    patches = spec.config.patches_per_side**2
    tokens = 1 + int(backbone["num_register_tokens"]) + patches
    embedding = 2 * patches * 3 * PATCH_SIZE**2 * hidden
    mlp = 2 * tokens * (3 if backbone["use_gated_mlp"] else 2) * hidden * inner
    layer = _self_attention(tokens, hidden) + mlp
    projection = 2 * patches * hidden * spec.config.dim_model
    return embedding + int(backbone["num_hidden_layers"]) * layer + projection


def _mask_head(spec: PolicySpec) -> int:
    config = spec.config
    side, width, channels = config.patches_per_side, config.dim_model, config.mask_head_channels
    taps = sum(_TAPS if 1 < dilation < side else 1 for dilation in DILATIONS)
    pooling = 2 * width * channels
    pyramid = 2 * side**2 * taps * width * channels
    bottleneck = 2 * side**2 * _TAPS * (1 + len(DILATIONS)) * channels * channels
    return pooling + pyramid + bottleneck + 2 * side**2 * channels * config.num_mask


def _act(spec: PolicySpec, seen: int) -> int:
    config = spec.config
    width, queries, tokens, joints = config.dim_model, config.chunk_size, _PREFIX + seen, len(spec.robot.joints)
    feed_forward = 2 * (3 if config.feedforward_activation == "glu" else 2) * width * config.dim_feedforward
    inputs = 2 * (config.latent_dim + joints) * width
    encoder_layer = _self_attention(tokens, width) + tokens * feed_forward
    cross_attention = 2 * (2 * queries + 2 * tokens) * width**2 + 4 * queries * tokens * width
    decoder_layer = _self_attention(queries, width) + cross_attention + queries * feed_forward
    output = 2 * queries * width * joints
    return inputs + config.n_encoder_layers * encoder_layer + config.n_decoder_layers * decoder_layer + output


def _self_attention(tokens: int, width: int) -> int:
    return 2 * tokens * 4 * width**2 + 4 * tokens**2 * width
