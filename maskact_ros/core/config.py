"""The MaskACT configuration: the values of the specification's parameters, checked one by one and together.

In: a dictionary, a JSON file, or flat ROS parameters. Out: a frozen, validated `MaskACTConfig`.
The specification's `None` means "off" (or, for `lora_config`, "the default adapter"); ROS parameters have no
`None`, so there it is spelled `none`, a word that YAML, `ros2 param set` and `ros2 param dump` all leave alone.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from maskact_ros.core.documents import read_json, shortened
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.kinds import LoraConfig
from maskact_ros.core.paths import resolve_path
from maskact_ros.core.specification import Parameter, Specification, declared

PATCH_SIZE = 16  # pixels a side; every DINOv3 backbone of the specification cuts the image so
LATENT_LABEL = -1  # the label of the latent and state tokens in `label_attention_rules`
NONE = "none"  # how ROS parameters spell the specification's None


class ConfigError(MaskACTError):
    """A parameter that does not fit: the text names it, its value and what is allowed."""


@dataclass(frozen=True, kw_only=True)
class MaskACTConfig(Specification):
    """Every parameter of MaskACT; construct it from untrusted values with `from_dict`.

    Raises:
        ConfigError: a value, or a combination of values, is not allowed.
    """

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


PARAMETERS: Mapping[str, Parameter] = MappingProxyType(declared(MaskACTConfig))
