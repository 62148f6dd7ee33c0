"""The DINOv3 backbone: its settings, its weights on disk, and the `transformers` model made of them.

In: a folder in the layout that DINOv3 is published in, or the name of a size. Out: a `DINOv3ViTModel`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from maskact_ros.config import PATCH_SIZE, LoraConfig
from maskact_ros.policy.errors import PolicyError

# Published hyper-parameters (Siméoni et al. 2025, arXiv:2508.10104); what they share is in `preset`.
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


def preset(vision_backbone: str) -> dict[str, Any]:
    """The DINOv3 settings of one of the configuration's `vision_backbone` sizes."""
    # transformers' own default is no register tokens; the published models all have four.
    return _FIXED | {"num_register_tokens": 4, "image_size": 224} | _SIZES[vision_backbone]


def read_settings(folder: Path) -> dict[str, Any]:
    """The DINOv3 settings in a folder's `config.json`; raises PolicyError."""
    path = folder / "config.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PolicyError(f"{path}: cannot be read ({error.strerror}); it should say what DINOv3 model it is") from None
    except ValueError:
        raise PolicyError(f"{path}: not JSON") from None
    if not isinstance(settings, dict):
        raise PolicyError(f"{path}: not a JSON object")
    for name, expected in _FIXED.items():
        if (value := settings.get(name, expected if name != "model_type" else None)) != expected:
            raise PolicyError(f"{path}: {name} is {value!r}; allowed: {expected!r}")
    return settings


def read_weights(folder: Path) -> dict[str, Tensor] | None:
    """Tensors of `model.safetensors`, or of the shards that its index lists; None when the folder has neither.

    Raises:
        PolicyError: a file cannot be read.
    """
    index = folder / "model.safetensors.index.json"
    shards = ["model.safetensors"]
    if index.is_file():
        try:
            shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError):
            raise PolicyError(f"{index}: not an index of safetensors files") from None
    elif not (folder / shards[0]).is_file():
        return None
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        tensors |= read_tensors(folder / shard)
    return tensors


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of one safetensors file; raises PolicyError."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise PolicyError(f"{path}: cannot be read as safetensors ({error})") from None


def build_backbone(settings: Mapping[str, Any]) -> nn.Module:
    """A `DINOv3ViTModel` with random weights; raises PolicyError on settings that transformers refuses."""
    # Slow to import, and the process that runs ACT only needs neither this nor peft.
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    try:
        given = {key: value for key, value in settings.items() if key != "model_type"}
        config = DINOv3ViTConfig(**given | {"attn_implementation": "sdpa"})
        model: nn.Module = DINOv3ViTModel(config).float()
    except Exception as error:  # noqa: BLE001 transformers has no error class of its own for bad settings
        raise PolicyError(f"backbone: transformers refuses its settings ({' '.join(str(error).split())})") from None
    return model


def add_lora(backbone: nn.Module, lora: LoraConfig) -> None:
    """Put LoRA adapters into the backbone, in place, and freeze what is not theirs; raises PolicyError."""
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
    """Add each adapter's product to the weight it adapts and drop the adapter, in place: the function stays."""
    from peft.tuners.lora import LoraLayer

    adapted = [name for name, module in backbone.named_modules() if isinstance(module, LoraLayer)]
    with torch.no_grad():
        for name in adapted:
            layer: Any = backbone.get_submodule(name)
            layer.merge()
            parent, _, child = name.rpartition(".")
            setattr(backbone.get_submodule(parent), child, layer.get_base_layer())


def canonical_name(name: str) -> str:
    """A backbone tensor's name without what differs between releases of transformers, and without peft's prefix.

    transformers 4 calls a layer `layer.0.`, transformers 5 `model.layer.0.`; a peft model puts `base_model.model.`
    before either. The name may have a prefix of its own, as in a checkpoint.
    """
    dotted = f".{name}".replace(".base_model.model.", ".").replace(".model.layer.", ".layer.")
    return dotted[1:]
