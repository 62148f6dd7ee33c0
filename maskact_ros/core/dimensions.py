"""What a policy's dimensions cost, known before anything of that size is built.

In: a configuration and its backbone's, which anybody may have written, and the size of the file that holds the weights.
Out: an error when the policy would need more weights than the file can hold, or tables that fill the memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maskact_ros.core.config import MaskACTConfig
from maskact_ros.core.documents import shortened
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.kinds import WIDEST

_WEIGHT_BYTES = 2  # in half precision, the smallest that a checkpoint stores
_LARGEST_TABLE = 2**28  # bytes of a table of positions
_SIZES = {  # of a backbone: least and most
    "hidden_size": (1, WIDEST),
    "intermediate_size": (1, 4 * WIDEST),
    "num_hidden_layers": (1, 200),
    "num_attention_heads": (1, WIDEST),
    "num_register_tokens": (0, WIDEST),
}


class DimensionError(MaskACTError):
    """Dimensions that no policy has, or that do not go with its weights: the text names them."""


def check_backbone(settings: Mapping[str, Any]) -> None:
    """Raise DimensionError on a size that no DINOv3 model has; what is left out is not checked."""
    for name, (least, most) in _SIZES.items():
        value = settings.get(name, least)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise DimensionError(
                f"backbone: {name} is {shortened(repr(value))}; allowed: an integer >= {least} and <= {most}"
            )


def check_dimensions(config: MaskACTConfig, backbone: Mapping[str, Any], weights_bytes: int) -> None:
    """Raise DimensionError when these dimensions cost more than a file of weights of that size can have paid for."""
    check_backbone(backbone)
    for shown, length in (("image_size", config.patches_per_side**2), ("chunk_size", config.chunk_size)):
        if 8 * length * config.dim_model > _LARGEST_TABLE:
            raise DimensionError(
                f"{shown} is {getattr(config, shown)} with a dim_model of {config.dim_model}; allowed: at most "
                f"{_LARGEST_TABLE // 8 // config.dim_model} positions, there are {length}"
            )
    needed = _WEIGHT_BYTES * _least_weights(config, backbone)
    if needed > weights_bytes:
        raise DimensionError(
            f"its dimensions need at least {needed} bytes of weights; there are {weights_bytes}: dim_model is "
            f"{config.dim_model}, layers are {config.n_encoder_layers}, {config.n_decoder_layers} and "
            f"{config.n_vae_encoder_layers}, the backbone's {backbone.get('num_hidden_layers', 'usual')}"
        )


def _least_weights(config: MaskACTConfig, backbone: Mapping[str, Any]) -> int:
    """The weights of the large matrices alone: four of an attention and two of a feed-forward block in each layer."""
    hidden, inner, layers = (
        int(backbone.get(name, 0)) for name in ("hidden_size", "intermediate_size", "num_hidden_layers")
    )
    width, channels = config.dim_model, config.mask_head_channels
    block = 4 * width**2 + 2 * width * config.dim_feedforward
    weights = layers * (4 * hidden**2 + 2 * hidden * inner)
    weights += config.n_encoder_layers * block + config.n_decoder_layers * (block + 4 * width**2)
    weights += config.chunk_size * width
    if config.use_vae:
        weights += config.n_vae_encoder_layers * block
    if config.use_mask:
        weights += 3 * 9 * width * channels + 5 * 9 * channels**2
    if config.use_lora:  # a name without a dot is of a module in every layer
        modules = [name for name in config.lora.target_modules if "." not in name]
        weights += len(modules) * layers * config.lora.r * hidden
    return weights
