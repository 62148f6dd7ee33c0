"""The kinds of values that the specification's parameters have: what is allowed, in words and as a check.

In: a value as JSON, YAML or ROS give it. Out: the value as the configuration keeps it, or a ValueError.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

NORMALIZATIONS = ("MEAN_STD", "MIN_MAX", "IDENTITY")
WIDEST = 16_384  # no real layer comes near; beyond, a mistyped number would ask for more memory than there is


@dataclass(frozen=True)
class Kind:
    """What a value may be: `parse` raises ValueError or TypeError on any other, `allowed` ends the error's sentence."""

    allowed: str
    parse: Callable[[Any], Any]


@dataclass(frozen=True)
class LoraConfig:
    """The LoRA adapter of the encoder; the defaults are what `lora_config: None` stands for.

    Scaling is rank-stabilised, `lora_alpha / sqrt(r)`, as in the reference (Kalajdzievski 2023, arXiv:2312.03732).
    """

    r: int = 16
    lora_alpha: float = 16.0
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")
    lora_dropout: float = 0.1
    bias: str = "none"


def integer(minimum: int, maximum: int) -> Kind:
    """An integer in a closed range."""

    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            raise ValueError
        return value

    return Kind(f"an integer >= {minimum} and <= {maximum}", parse)


def number(
    minimum: float = -math.inf, maximum: float = math.inf, *, open_below: bool = False, open_above: bool = False
) -> Kind:
    """A finite number in a range, closed unless said otherwise."""

    def parse(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError
        below = value <= minimum if open_below else value < minimum
        above = value >= maximum if open_above else value > maximum
        if below or above:
            raise ValueError
        return float(value)

    low = f"{'>' if open_below else '>='} {minimum:g}" if math.isfinite(minimum) else ""
    high = f"{'<' if open_above else '<='} {maximum:g}" if math.isfinite(maximum) else ""
    return Kind("a number " + " and ".join(part for part in (low, high) if part), parse)


def boolean() -> Kind:
    """True or false."""

    def parse(value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value

    return Kind("true or false", parse)


def choice(*options: str) -> Kind:
    """One of a few words."""

    def parse(value: Any) -> str:
        if not isinstance(value, str) or value not in options:
            raise ValueError
        return value

    return Kind("one of " + ", ".join(options), parse)


def path() -> Kind:
    """The path of a folder."""

    def parse(value: Any) -> str:
        if not isinstance(value, str) or not value:
            raise ValueError
        return value

    return Kind("a folder's path", parse)


def optional(kind: Kind) -> Kind:
    """Another kind, or None."""
    return Kind(f"{kind.allowed}, or none (null in JSON)", lambda value: None if value is None else kind.parse(value))


def betas() -> Kind:
    """Adam's two decay rates."""
    beta = number(0, 1, open_above=True).parse

    def parse(value: Any) -> tuple[float, float]:
        first, second = value if isinstance(value, (list, tuple)) else ()
        return beta(first), beta(second)

    return Kind("two numbers >= 0 and < 1", parse)


def weights() -> Kind:
    """A weight for each mask class."""
    weight = number(0).parse

    def parse(value: Any) -> tuple[float, ...]:
        if not isinstance(value, (list, tuple)) or not value:
            raise ValueError
        weights = tuple(weight(item) for item in value)
        if not any(weights):
            raise ValueError  # no class would ever win a vote
        return weights

    return Kind("one number >= 0 for each mask class, and one > 0 among them", parse)


def normalization() -> Kind:
    """A normalisation for each kind of feature; what is left out is MEAN_STD."""
    keys = ("VISUAL", "STATE", "ACTION")

    def parse(value: Any) -> Mapping[str, str]:
        if not isinstance(value, Mapping) or set(value) - set(keys):
            raise ValueError
        merged = {key: value.get(key, "MEAN_STD") for key in keys}
        if set(merged.values()) - set(NORMALIZATIONS):
            raise ValueError
        return merged

    return Kind(f"{', '.join(keys)}, each one of {', '.join(NORMALIZATIONS)}", parse)


def rules() -> Kind:
    """Label attention rules: for a label, the labels that its tokens may attend to."""

    def label(value: Any) -> int:
        # JSON's keys, and the specification's own example, write labels as strings.
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise ValueError
        return int(value)

    def parse(value: Any) -> Mapping[int, tuple[int, ...]] | None:
        if not isinstance(value, Mapping):
            raise ValueError
        rules: dict[int, tuple[int, ...]] = {}
        for key, allowed in value.items():
            if not isinstance(allowed, (list, tuple)) or not allowed or label(key) in rules:
                raise ValueError
            rules[label(key)] = tuple(sorted({label(item) for item in allowed}))
        return dict(sorted(rules.items())) or None

    return Kind('a non-empty list of labels for each ruled label, such as {"0": ["1"], "-1": ["0", "1"]}', parse)


def labels() -> Kind:
    """A few labels of mask classes."""
    label = integer(0, 127).parse

    def parse(value: Any) -> tuple[int, ...]:
        if not isinstance(value, (list, tuple)) or not value:
            raise ValueError
        return tuple(sorted({label(item) for item in value}))

    return Kind("a non-empty list of mask labels", parse)


def lora() -> Kind:
    """Settings of a LoRA adapter; what is left out is as in `LoraConfig`."""
    checks: dict[str, Callable[[Any], Any]] = {
        "r": integer(1, WIDEST).parse,
        "lora_alpha": number(0, open_below=True).parse,
        "lora_dropout": number(0, 1, open_above=True).parse,
        "bias": choice("none", "all", "lora_only").parse,
    }

    def parse(value: Any) -> LoraConfig:
        if isinstance(value, LoraConfig):
            return value
        if not isinstance(value, Mapping) or set(value) - {f.name for f in fields(LoraConfig)}:
            raise ValueError
        settings = {key: check(value[key]) for key, check in checks.items() if key in value}
        if "target_modules" in value:
            modules = value["target_modules"]
            if not isinstance(modules, (list, tuple)) or not modules or not all(isinstance(m, str) for m in modules):
                raise ValueError
            settings["target_modules"] = tuple(modules)
        return LoraConfig(**settings)

    return Kind(
        f"r (an integer >= 1 and <= {WIDEST}), lora_alpha (a number > 0), target_modules (a list of module names), "
        "lora_dropout (>= 0 and < 1) and bias (none, all or lora_only)",
        parse,
    )
