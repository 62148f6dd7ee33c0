"""Every parameter of MaskACT's specification, declared once: type, default, meaning, allowed values, and what fixes it.

config/maskact.yaml and the reference page are made of these declarations; `config` checks values against them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from maskact_ros.core import kinds
from maskact_ros.core.kinds import LoraConfig

BACKBONES = ("dinov3_vits16", "dinov3_vitb16", "dinov3_vitl16")
STAGES = ("stage1", "stage2")

# No real policy comes near these; beyond them, a mistyped number would ask for more memory than there is.
_MOST_STEPS, _DEEPEST, _LARGEST_IMAGE = 10_000, 200, 8192

# What may change, and when: `checkpoint` is fixed by the trained weights, `training` matters to the trainer only,
# `runtime` may differ from the checkpoint's value when the policy runs.
Scope = Literal["checkpoint", "training", "runtime"]


@dataclass(frozen=True)
class Parameter:
    """What the table of the specification says of one parameter, and what its values may be."""

    name: str
    type: str  # as the specification writes it
    default: Any
    description: str
    scope: Scope
    allowed: str  # the end of an error's sentence: "an integer >= 1"
    parse: Callable[[Any], Any]  # raises ValueError or TypeError on a value that is not allowed
    extra: bool  # not in the specification's table
    heading: str  # of the group that begins with this parameter; else empty


def _parameter(
    spec_type: str,
    default: Any,
    description: str,
    kind: kinds.Kind,
    *,
    scope: Scope = "checkpoint",
    extra: bool = False,
    heading: str = "",
) -> Any:
    metadata = {
        "type": spec_type,
        "default": default,
        "description": description,
        "scope": scope,
        "allowed": kind.allowed,
        "parse": kind.parse,
        "extra": extra,
        "heading": heading,
    }
    return field(default_factory=lambda: kind.parse(default), metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Specification:
    """The declarations as fields, in the specification's order; `MaskACTConfig` adds the checks and conversions."""

    n_obs_steps: int = _parameter(
        "int",
        1,
        "Length of the observation window in steps; only 1 is supported.",
        kinds.integer(1, _MOST_STEPS),
        heading="Input and output",
    )
    chunk_size: int = _parameter("int", 100, "Length of a predicted chunk, in actions.", kinds.integer(1, _MOST_STEPS))
    n_action_steps: int = _parameter(
        "int",
        100,
        "Actions of a chunk to execute before the next chunk takes over; at most chunk_size.",
        kinds.integer(1, _MOST_STEPS),
        scope="runtime",
    )

    training_stage: str = _parameter(
        "str",
        "stage2",
        "Stage of training: stage1 trains the masks only, stage2 everything.",
        kinds.choice(*STAGES),
        scope="training",
        heading="Training stages",
    )
    mask_loss_weight: float = _parameter(
        "float", 0.3, "Weight of the mask loss in stage 2.", kinds.number(0), scope="training"
    )
    action_loss_weight: float = _parameter(
        "float", 1.0, "Weight of the action loss in stage 2.", kinds.number(0), scope="training"
    )
    stage2_dino_lr_ratio: float = _parameter(
        "float",
        0.1,
        "Learning rate of the encoder in stage 2, as a share of optimizer_lr.",
        kinds.number(0),
        scope="training",
    )
    stage2_freeze_mask_head: bool = _parameter(
        "bool", False, "Whether stage 2 freezes the mask head.", kinds.boolean(), scope="training"
    )

    normalization_mapping: Mapping[str, str] = _parameter(
        "dict",
        {"VISUAL": "MEAN_STD", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"},
        "How images, state and action are normalised.",
        kinds.normalization(),
        heading="Normalisation",
    )

    vision_backbone: str = _parameter(
        "str", "dinov3_vitb16", "DINOv3 model of the encoder.", kinds.choice(*BACKBONES), heading="Vision encoder"
    )
    freeze_backbone: bool = _parameter(
        "bool", True, "Whether the backbone's own weights stay as they are.", kinds.boolean(), scope="training"
    )
    dino_model_dir: str = _parameter(
        "str", "dinov3-vitb16", "Folder of the DINOv3 model that training starts from.", kinds.path(), scope="training"
    )
    use_lora: bool = _parameter("bool", True, "Whether the encoder carries LoRA adapters.", kinds.boolean())
    lora_config: LoraConfig | None = _parameter(
        "dict", None, "LoRA settings; none means r = 16, alpha = 16 on q, k and v.", kinds.optional(kinds.lora())
    )

    use_mask: bool = _parameter(
        "bool", True, "Whether masks are predicted.", kinds.boolean(), heading="Mask prediction"
    )
    num_mask: int = _parameter("int", 4, "Number of mask classes, background included.", kinds.integer(2, 127))
    mask_importance_weights: tuple[float, ...] | None = _parameter(
        "list[float]",
        None,
        "Weight of each class when the pixels of a patch vote for its label; none weighs all the same.",
        kinds.optional(kinds.weights()),
        scope="runtime",
    )
    image_size: int = _parameter(
        "int", 480, "Side of the square image that the model sees, in pixels.", kinds.integer(1, _LARGEST_IMAGE)
    )
    use_aux_head: bool = _parameter("bool", False, "Whether training adds an auxiliary mask head.", kinds.boolean())
    label_attention_rules: Mapping[int, tuple[int, ...]] | None = _parameter(
        "dict",
        None,
        "For a label, the labels that its tokens may attend to; -1 is latent and state. Labels left out attend to all.",
        kinds.optional(kinds.rules()),
        scope="runtime",
    )

    pre_norm: bool = _parameter(
        "bool", False, "Whether layers normalise before instead of after.", kinds.boolean(), heading="Transformer"
    )
    dim_model: int = _parameter("int", 512, "Width of the transformer.", kinds.integer(4, kinds.WIDEST))
    n_heads: int = _parameter("int", 8, "Attention heads of the transformer.", kinds.integer(1, kinds.WIDEST))
    dim_feedforward: int = _parameter(
        "int", 3200, "Width of the feed-forward layers.", kinds.integer(1, 4 * kinds.WIDEST)
    )
    feedforward_activation: str = _parameter(
        "str", "relu", "Activation of the feed-forward layers.", kinds.choice("relu", "gelu", "glu")
    )
    n_encoder_layers: int = _parameter(
        "int", 4, "Layers of the encoder of the transformer.", kinds.integer(1, _DEEPEST)
    )
    n_decoder_layers: int = _parameter("int", 1, "Layers of the transformer's decoder.", kinds.integer(1, _DEEPEST))

    use_vae: bool = _parameter(
        "bool", True, "Whether training encodes the actions with a VAE.", kinds.boolean(), heading="VAE"
    )
    latent_dim: int = _parameter("int", 32, "Width of the VAE's latent.", kinds.integer(1, kinds.WIDEST))
    n_vae_encoder_layers: int = _parameter("int", 4, "Layers of the VAE's encoder.", kinds.integer(1, _DEEPEST))

    optimizer_lr: float = _parameter(
        "float",
        1e-4,
        "Learning rate of the model.",
        kinds.number(0, open_below=True),
        scope="training",
        heading="Optimisation",
    )
    optimizer_lr_backbone: float = _parameter(
        "float", 1e-5, "Learning rate of the encoder in stage 1.", kinds.number(0), scope="training"
    )
    optimizer_betas: tuple[float, float] = _parameter(
        "tuple[float, float]", [0.9, 0.999], "Decay rates (betas) of Adam.", kinds.betas(), scope="training"
    )
    optimizer_weight_decay: float = _parameter("float", 1e-3, "Adam's weight decay.", kinds.number(0), scope="training")
    temporal_ensemble_coeff: float | None = _parameter(
        "float",
        None,
        "Temporal ensembling: chunk i, 0 the oldest, weighs exp(-coeff * i); none switches it off.",
        kinds.optional(kinds.number(-100, 100)),  # e^-100 is nothing beside 1
        scope="runtime",
    )

    kl_weight: float = _parameter(
        "float",
        10.0,
        "Weight of the KL divergence of the VAE in the loss.",
        kinds.number(0),
        scope="training",
        extra=True,
        heading="Extras, not in the specification's tables",
    )
    dropout: float = _parameter(
        "float",
        0.1,
        "Dropout of the transformer while training.",
        kinds.number(0, 1, open_above=True),
        scope="training",
        extra=True,
    )

    mask_head_channels: int = _parameter(
        "int",
        256,
        "Width of the mask head. The reference has 256; a small policy needs less.",
        kinds.integer(1, kinds.WIDEST),
        extra=True,
    )

    dropped_labels: tuple[int, ...] | None = _parameter(
        "list[int]",
        None,
        "Labels whose patches the transformer does not see, such as that of the background; none drops no patch.",
        kinds.optional(kinds.labels()),
        extra=True,
    )

    position_in_tokens: bool = _parameter(
        "bool",
        False,
        "Whether the values of tokens carry position and label, too. A backbone with relative positions needs it.",
        kinds.boolean(),
        extra=True,
    )


def declared(kind: type[Specification]) -> dict[str, Parameter]:
    """The declarations by name."""
    return {item.name: Parameter(name=item.name, **item.metadata) for item in fields(kind)}
