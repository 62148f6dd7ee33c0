"""The DINOv3 backbone: its settings, its weights on disk, and the `transformers` model built from them.

In: a folder in DINOv3's published layout, or the name of a size. Out: a `DINOv3ViTModel`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from maskact_ros.core.config import PATCH_SIZE
from maskact_ros.core.dimensions import DimensionError, check_backbone
from maskact_ros.core.documents import read_json, shortened
from maskact_ros.core.foreign_file import reading
from maskact_ros.core.kinds import LoraConfig
from maskact_ros.core.paths import resolve_path
from maskact_ros.policy.errors import PolicyError

# Published hyper-parameters (Siméoni et al. 2025, arXiv:2508.10104); common ones are in `preset`.
_SIZES = {
    "dinov3_vits16": {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 6},
    "dinov3_vitb16": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
    },
    "dinov3_vitl16": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
    },
}
_FIXED = {"model_type": "dinov3_vit", "patch_size": PATCH_SIZE, "num_channels": 3}
_LARGEST = 1e9  # of any number in the settings


@dataclass(frozen=True)
class _Entry:
    """What an entry of the settings may be."""

    allowed: str  # the end of an error's sentence
    fits: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


_INTEGER = _Entry("an integer", lambda value: isinstance(value, int) and not isinstance(value, bool))


def _are_integers(value: Any) -> bool:
    sides = value if isinstance(value, (list, tuple)) else [value]
    return 1 <= len(sides) <= 2 and all(_INTEGER.fits(side) for side in sides)


_NUMBER = _Entry("a finite number", _is_number)
_NUMBER_OR_NONE = _Entry("a finite number or null", lambda value: value is None or _is_number(value))
_FLAG = _Entry("true or false", lambda value: isinstance(value, bool))
_ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu", "swish")
# The entries that define the network, all that transformers gets to see. What else a configuration holds can ask for
# code: an attention implementation that is fetched from a hub, classes to import, a quantiser's plug-in.
_ALLOWED = {
    **dict.fromkeys(("patch_size", "num_channels", "hidden_size", "intermediate_size"), _INTEGER),
    **dict.fromkeys(("num_hidden_layers", "num_attention_heads", "num_register_tokens"), _INTEGER),
    "image_size": _Entry("an integer, or two", _are_integers),
    "hidden_act": _Entry(", ".join(_ACTIVATIONS), lambda value: value in _ACTIVATIONS),
    **dict.fromkeys(("query_bias", "key_bias", "value_bias", "proj_bias", "mlp_bias", "use_gated_mlp"), _FLAG),
    **dict.fromkeys(("attention_dropout", "drop_path_rate", "initializer_range"), _NUMBER),
    **dict.fromkeys(("layer_norm_eps", "layerscale_value", "rope_theta"), _NUMBER),
    **dict.fromkeys(("pos_embed_shift", "pos_embed_jitter", "pos_embed_rescale"), _NUMBER_OR_NONE),
}


def preset(vision_backbone: str) -> dict[str, Any]:
    """The DINOv3 settings of one of the configuration's `vision_backbone` sizes."""
    # The published models all have four register tokens; transformers' default is none.
    return _FIXED | {"num_register_tokens": 4, "image_size": 224} | _SIZES[vision_backbone]


def read_settings(folder: Path) -> dict[str, Any]:
    """The DINOv3 settings in a folder's `config.json`; raises MaskACTError."""
    path = folder / "config.json"
    settings = read_json(path)
    for name, expected in _FIXED.items():
        if (value := settings.get(name, expected if name != "model_type" else None)) != expected:
            raise PolicyError(f"{path}: {name} is {shortened(repr(value))}; allowed: {expected!r}")
    return settings


def read_weights(folder: Path) -> dict[str, Tensor] | None:
    """Tensors of `model.safetensors`, or of the shards that its index lists; None when the folder has neither.

    Raises:
        MaskACTError: a file cannot be read.
    """
    index = folder / "model.safetensors.index.json"
    shards = ["model.safetensors"]
    if resolve_path(index).exists():
        shards = _shards(index)
    elif not resolve_path(folder / shards[0]).exists():
        return None
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        tensors |= read_tensors(folder / shard)
    return tensors


def _shards(index: Path) -> list[str]:
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise PolicyError(f"{index}: its weight_map does not say which file each tensor is in")
    for name, shard in places.items():
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise PolicyError(
                f"{index}: {shortened(repr(name))} is in {shortened(repr(shard))}; allowed: a file beside the index"
            )
    return sorted(set(places.values()))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of one safetensors file; raises PolicyError."""
    with reading(path, "safetensors", PolicyError):
        tensors: dict[str, Tensor] = load_file(path)
    return tensors


def build_backbone(settings: Mapping[str, Any]) -> nn.Module:
    """A `DINOv3ViTModel` with random weights; raises PolicyError for invalid settings."""
    # Imported here: it is slow, and the process that runs only ACT needs neither it nor peft.
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    own = {name: settings[name] for name in _ALLOWED if name in settings}
    _check_settings(DINOv3ViTConfig().to_dict() | own)
    _check_types(own)
    try:
        config = DINOv3ViTConfig(**own, attn_implementation="sdpa")
        model: nn.Module = DINOv3ViTModel(config).float()
    except Exception as error:  # noqa: BLE001 transformers has no error class of its own for bad settings
        raise PolicyError(f"backbone: transformers refuses its settings ({' '.join(str(error).split())})") from None
    return model


def _check_types(settings: Mapping[str, Any]) -> None:
    """Raise PolicyError on an entry of a type that it cannot be."""
    for name, value in settings.items():
        if not _ALLOWED[name].fits(value):
            raise PolicyError(f"backbone: {name} is {shortened(repr(value))}; allowed: {_ALLOWED[name].allowed}")


def _check_settings(settings: Mapping[str, Any]) -> None:
    """Raise PolicyError for settings that transformers accepts, but that make no vision transformer."""
    for name, value in settings.items():
        if isinstance(value, (int, float)) and not abs(value) <= _LARGEST:
            raise PolicyError(f"backbone: {name} is {shortened(repr(value))}; allowed: a number up to {_LARGEST:g}")
    try:
        check_backbone(settings)
    except DimensionError as error:
        raise PolicyError(error.args[0]) from None
    width, heads = settings["hidden_size"], settings["num_attention_heads"]
    if width % (4 * heads):
        raise PolicyError(
            f"backbone: hidden_size is {width}; allowed: a multiple of 4 for each of its {heads} attention heads"
        )


def layers_of(backbone: nn.Module) -> nn.ModuleList:
    """The backbone's transformer layers, first to last; releases of `transformers` keep them in different places."""
    return next(module for module in backbone.modules() if isinstance(module, nn.ModuleList))


def add_lora(backbone: nn.Module, lora: LoraConfig) -> None:
    """Put LoRA adapters into the backbone, in place, and freeze all else in it; raises PolicyError."""
    import peft

    settings = peft.LoraConfig(
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        target_modules=list(lora.target_modules),
        lora_dropout=lora.lora_dropout,
        bias=lora.bias,
        use_rslora=True,
    )
    try:
        peft.inject_adapter_in_model(settings, backbone)
    except ValueError:
        raise PolicyError(
            f"lora_config.target_modules is {list(lora.target_modules)}; allowed: linear layers of the backbone, "
            "such as q_proj, k_proj, v_proj, o_proj, up_proj and down_proj"
        ) from None


def merge_lora(backbone: nn.Module) -> None:
    """Add each adapter's product to its weight, and remove the adapter, in place. Outputs do not change."""
    from peft.tuners.lora import LoraLayer

    adapted = [name for name, module in backbone.named_modules() if isinstance(module, LoraLayer)]
    with torch.no_grad():
        for name in adapted:
            layer: Any = backbone.get_submodule(name)
            layer.merge()
            parent, _, child = name.rpartition(".")
            setattr(backbone.get_submodule(parent), child, layer.get_base_layer())


def canonical_name(name: str) -> str:
    """A backbone tensor's name, the same for all releases of transformers, and without peft's prefix.

    transformers 4 calls a layer `layer.0.`, transformers 5 `model.layer.0.`; a peft model puts `base_model.model.`
    before either. The name may have a prefix of its own, as in a checkpoint.
    """
    dotted = f".{name}".replace(".base_model.model.", ".").replace(".model.layer.", ".layer.")
    return dotted[1:]
