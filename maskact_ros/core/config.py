"""The MaskACT configuration: every parameter of the specification, once, with type, default and allowed values.

In: a dictionary, a JSON file, or flat ROS parameters. Out: a frozen, validated `MaskACTConfig`.
The specification's `None` means "off" (or, for `lora_config`, "the default adapter"); ROS parameters have no
`None`, so there it is spelled `none`, a word that YAML, `ros2 param set` and `ros2 param dump` all leave alone.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from maskact_ros.core import kinds
from maskact_ros.core.documents import read_json, shortened
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.kinds import LoraConfig
from maskact_ros.core.paths import resolve_path

PATCH_SIZE = 16  # pixels a side; every DINOv3 backbone of the specification cuts the image so
LATENT_LABEL = -1  # the label of the latent and state tokens in `label_attention_rules`
NONE = "none"  # how ROS parameters spell the specification's None
BACKBONES = ("dinov3_vits16", "dinov3_vitb16", "dinov3_vitl16")
STAGES = ("stage1", "stage2")

# No real policy comes near these; beyond them, a mistyped number would ask for more memory than there is.
_MOST_STEPS, _DEEPEST, _LARGEST_IMAGE = 10_000, 200, 8192

# What may change, and when: `checkpoint` is fixed by the trained weights, `training` matters to the trainer only,
# `runtime` may differ from the checkpoint's value when the policy runs.
Scope = Literal["checkpoint", "training", "runtime"]


class ConfigError(MaskACTError):
    """A parameter that does not fit: the text names it, its value and what is allowed."""


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


def _parameter(
    spec_type: str,
    default: Any,
    description: str,
    kind: kinds.Kind,
    *,
    scope: Scope = "checkpoint",
    extra: bool = False,
) -> Any:
    metadata = {
        "type": spec_type,
        "default": default,
        "description": description,
        "scope": scope,
        "allowed": kind.allowed,
        "parse": kind.parse,
        "extra": extra,
    }
    return field(default_factory=lambda: kind.parse(default), metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class MaskACTConfig:
    """Every parameter of MaskACT; construct it from untrusted values with `from_dict`.

    Raises:
        ConfigError: a value, or a combination of values, is not allowed.
    """

    n_obs_steps: int = _parameter(
        "int", 1, "Observation window size; only 1 is supported.", kinds.integer(1, _MOST_STEPS)
    )
    chunk_size: int = _parameter("int", 100, "Length of the predicted action sequence.", kinds.integer(1, _MOST_STEPS))
    n_action_steps: int = _parameter(
        "int",
        100,
        "Actions of a chunk to execute before the next takes over; no more than chunk_size.",
        kinds.integer(1, _MOST_STEPS),
        scope="runtime",
    )

    training_stage: str = _parameter(
        "str", "stage2", "stage1 trains the mask only, stage2 everything.", kinds.choice(*STAGES), scope="training"
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
        "Encoder's learning rate in stage 2, as a ratio of optimizer_lr.",
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
    )

    vision_backbone: str = _parameter("str", "dinov3_vitb16", "DINOv3 model of the encoder.", kinds.choice(*BACKBONES))
    freeze_backbone: bool = _parameter(
        "bool", True, "Whether the backbone's own weights stay as they are.", kinds.boolean(), scope="training"
    )
    dino_model_dir: str = _parameter(
        "str", "dinov3-vitb16", "Folder of the DINOv3 model to start training from.", kinds.path(), scope="training"
    )
    use_lora: bool = _parameter("bool", True, "Whether the encoder carries LoRA adapters.", kinds.boolean())
    lora_config: LoraConfig | None = _parameter(
        "dict", None, "LoRA settings; none stands for r = 16, alpha = 16 on q, k and v.", kinds.optional(kinds.lora())
    )

    use_mask: bool = _parameter("bool", True, "Whether masks are predicted.", kinds.boolean())
    num_mask: int = _parameter("int", 4, "Number of mask classes, background included.", kinds.integer(2, 127))
    mask_importance_weights: tuple[float, ...] | None = _parameter(
        "list[float]",
        None,
        "Importance of each class when the pixels of a patch vote for its label; none weighs all alike.",
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
        "For a label, the labels its tokens may attend to; -1 is latent and state. Labels left out attend to all.",
        kinds.optional(kinds.rules()),
        scope="runtime",
    )

    pre_norm: bool = _parameter("bool", False, "Whether layers normalise before instead of after.", kinds.boolean())
    dim_model: int = _parameter("int", 512, "Width of the transformer.", kinds.integer(4, kinds.WIDEST))
    n_heads: int = _parameter("int", 8, "Attention heads of the transformer.", kinds.integer(1, kinds.WIDEST))
    dim_feedforward: int = _parameter(
        "int", 3200, "Width of the feed-forward layers.", kinds.integer(1, 4 * kinds.WIDEST)
    )
    feedforward_activation: str = _parameter(
        "str", "relu", "Activation of the feed-forward layers.", kinds.choice("relu", "gelu", "glu")
    )
    n_encoder_layers: int = _parameter("int", 4, "Layers of the transformer's encoder.", kinds.integer(1, _DEEPEST))
    n_decoder_layers: int = _parameter("int", 1, "Layers of the transformer's decoder.", kinds.integer(1, _DEEPEST))

    use_vae: bool = _parameter("bool", True, "Whether training encodes the actions with a VAE.", kinds.boolean())
    latent_dim: int = _parameter("int", 32, "Width of the VAE's latent.", kinds.integer(1, kinds.WIDEST))
    n_vae_encoder_layers: int = _parameter("int", 4, "Layers of the VAE's encoder.", kinds.integer(1, _DEEPEST))

    optimizer_lr: float = _parameter(
        "float", 1e-4, "Learning rate of the model.", kinds.number(0, open_below=True), scope="training"
    )
    optimizer_lr_backbone: float = _parameter(
        "float", 1e-5, "Learning rate of the encoder in stage 1.", kinds.number(0), scope="training"
    )
    optimizer_betas: tuple[float, float] = _parameter(
        "tuple[float, float]", [0.9, 0.999], "Adam's betas.", kinds.betas(), scope="training"
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
        "float", 10.0, "Weight of the VAE's KL divergence in the loss.", kinds.number(0), scope="training", extra=True
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
        "Width of the mask head; 256 is the reference's, a small policy does with less.",
        kinds.integer(1, kinds.WIDEST),
        extra=True,
    )

    dropped_labels: tuple[int, ...] | None = _parameter(
        "list[int]",
        None,
        "Labels whose patches the transformer does not see, such as the background's; none drops no patch.",
        kinds.optional(kinds.labels()),
        extra=True,
    )

    position_in_tokens: bool = _parameter(
        "bool",
        False,
        "Whether tokens carry position and label in their values too: a backbone of relative positions needs it.",
        kinds.boolean(),
        extra=True,
    )

    def __post_init__(self) -> None:
        for parameter in PARAMETERS.values():
            value = getattr(self, parameter.name)
            object.__setattr__(self, parameter.name, _parsed(parameter, value))
        self._check_combinations()

    def _check_combinations(self) -> None:
        if self.n_obs_steps != 1:
            raise _error("n_obs_steps", self.n_obs_steps, "1, the only window that is supported")
        if self.n_action_steps > self.chunk_size:
            raise _error("n_action_steps", self.n_action_steps, f"at most chunk_size, which is {self.chunk_size}")
        if self.dim_model % 4:
            raise _error("dim_model", self.dim_model, "a multiple of 4, for the 2-D position table")
        if self.dim_model % self.n_heads:
            raise _error("dim_model", self.dim_model, f"a multiple of n_heads, which is {self.n_heads}")
        if self.image_size % PATCH_SIZE:
            raise _error("image_size", self.image_size, f"a multiple of {PATCH_SIZE}, the patch size")
        if self.mask_importance_weights is not None and len(self.mask_importance_weights) != self.num_mask:
            raise _error(
                "mask_importance_weights",
                list(self.mask_importance_weights),
                f"as many numbers as num_mask, which is {self.num_mask}",
            )
        if self.dropped_labels is not None and not (self.use_mask and self.dropped_labels[-1] < self.num_mask):
            raise _error(
                "dropped_labels",
                list(self.dropped_labels),
                f"none, or labels from 0 to {self.num_mask - 1} (num_mask is {self.num_mask}) where use_mask is true",
            )
        for label, allowed in (self.label_attention_rules or {}).items():
            for named in (label, *allowed):
                if not LATENT_LABEL <= named < self.num_mask:
                    raise ConfigError(
                        f"label_attention_rules names the label {named} (in the rule of {label}); allowed: 0 to "
                        f"{self.num_mask - 1} (num_mask is {self.num_mask}), and -1 for latent and state"
                    )

    @property
    def lora(self) -> LoraConfig:
        """The adapter in effect: `lora_config`, or the default it stands for."""
        return self.lora_config or LoraConfig()

    @property
    def patches_per_side(self) -> int:
        """Patches along one side of the image; the encoder makes its square of them."""
        return self.image_size // PATCH_SIZE

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MaskACTConfig:
        """Build a configuration from JSON's types; what is left out takes the specification's default.

        Raises:
            ConfigError: an unknown key, a wrong type, or a value that is not allowed.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"the configuration is {_shown(values)}; allowed: a JSON object of parameters")
        values = dict(values)
        if (kind := values.pop("type", "mask_act")) != "mask_act":
            raise _error("type", kind, "mask_act")
        for key in values:
            if key not in PARAMETERS:
                raise ConfigError(unknown_key(f"{key} (value {_shown(values[key])})", key, PARAMETERS))
        return cls(**values)

    @classmethod
    def from_json(cls, path: str | Path) -> MaskACTConfig:
        """Read a JSON file; raises MaskACTError that names the file."""
        path = resolve_path(path)
        values = read_json(path)
        try:
            return cls.from_dict(values)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """JSON's types, every parameter, `type` first; `from_dict` gives the same configuration back."""
        return {"type": "mask_act"} | {name: _plain(getattr(self, name)) for name in PARAMETERS}

    def to_parameters(self) -> dict[str, Any]:
        """Flat ROS parameters with their effective values: dictionaries as `name.key`, None as `none`."""
        flat: dict[str, Any] = {}
        for name in PARAMETERS:
            value = getattr(self, name)
            if name == "normalization_mapping":
                flat |= {f"{name}.{key}": item for key, item in value.items()}
            elif name == "lora_config":
                flat |= {f"{name}.{key}": item for key, item in _plain(self.lora).items()}
            elif name == "label_attention_rules":
                for label in range(LATENT_LABEL, self.num_mask):
                    allowed = (value or {}).get(label)
                    flat[f"{name}.{label}"] = NONE if allowed is None else list(allowed)
            else:
                flat[name] = NONE if value is None else _plain(value)
        return flat

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> MaskACTConfig:
        """The inverse of `to_parameters`; an adapter like the default one becomes None, which means the same.

        Raises:
            ConfigError: as `from_dict`.
        """
        values: dict[str, Any] = {}
        for flat_name, value in parameters.items():
            name, _, key = flat_name.partition(".")
            if not key:
                values[name] = None if value == NONE else value
            elif name != "label_attention_rules" or value != NONE:
                if not isinstance(entries := values.setdefault(name, {}), dict):
                    raise _error(name, entries, f"either a value or entries such as {flat_name}, not both")
                entries[key] = value
        config = cls.from_dict(values)
        return config if config.lora_config != LoraConfig() else cls.from_dict(values | {"lora_config": None})


def unknown_key(shown: str, key: str, known: Mapping[str, Any], *, kind: str = "parameter") -> str:
    """One sentence on a key that does not exist, with the closest that does."""
    close = difflib.get_close_matches(str(key), known, n=1)
    hint = f"did you mean {close[0]}?" if close else "allowed: " + ", ".join(known)
    return f"unknown {kind} {shown}; {hint}"


def _error(name: str, value: Any, allowed: str) -> ConfigError:
    return ConfigError(f"{name} is {_shown(value)}; allowed: {allowed}")


def _parsed(parameter: Parameter, value: Any) -> Any:
    try:
        return parameter.parse(value)
    except (ValueError, TypeError, OverflowError):
        hint = ""
        if isinstance(value, str) and parameter.type in ("int", "float") and value != NONE:
            hint = " (text, not a number: YAML wants 1.0e-4 where JSON writes 1e-4)"
        raise _error(parameter.name, value, parameter.allowed + hint) from None


def _shown(value: Any) -> str:
    try:
        text = json.dumps(_plain(value))
    except (TypeError, ValueError):
        text = repr(value)
    return shortened(text)


def _plain(value: Any) -> Any:
    """JSON's types from a parameter's value."""
    if isinstance(value, LoraConfig):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _declared(item: Field[Any]) -> Parameter:
    return Parameter(name=item.name, **item.metadata)


PARAMETERS: Mapping[str, Parameter] = MappingProxyType({f.name: _declared(f) for f in fields(MaskACTConfig)})
