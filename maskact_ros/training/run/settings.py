"""`TrainSettings`: the settings of a training run; RUN/run.json stores them for --resume."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from maskact_ros.core.documents import shortened
from maskact_ros.core.paths import resolve_path
from maskact_ros.core.specification import STAGES
from maskact_ros.training.errors import TrainingError
from maskact_ros.training.run.augment import PRESETS, Augmentation, augmentation_from_dict

PRECISIONS = ("auto", "fp32", "bf16")  # fp16 would need scaled losses, and GPUs for training have bf16
CACHE_FEATURES = ("auto", "always", "never")
MOST_STEPS = _MOST = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """One training run; paths are absolute.

    Raises:
        TrainingError: a value is not allowed.
    """

    datasets: tuple[Path, ...]
    config: Path
    out: Path
    stage: str = "stage2"
    init: Path | None = None  # a checkpoint with initial weights
    steps: int = 20_000
    batch_size: int = 32  # pictures a step, of all processes together
    seed: int = 0
    threads: int = 0  # of torch on the CPU; 0 leaves it to torch
    augment: Augmentation = field(default=PRESETS["standard"])
    ema: float = 0.0  # decay of the averaged weights; 0 is off
    val_episodes: float = 0.1  # share of held-out episodes
    eval_every: int = 500  # steps between two held-out losses, each of which saves the run
    warmup: int = 200  # steps until the learning rates are at their full value
    clip_norm: float = 10.0  # largest norm of the gradient
    device: str = "auto"
    precision: str = "auto"  # of a step's computation; weights stay in single precision
    compile: bool = False  # whether torch.compile compiles the transformers
    cache: Path | None = None  # folder of decoded frames and features; None is .cache in the dataset
    cache_features: str = "auto"  # whether to cache a frozen backbone's features

    def __post_init__(self) -> None:
        if not self.datasets:
            raise TrainingError("--dataset is missing; allowed: one or more folders of datasets")
        _check("stage", self.stage, self.stage in STAGES, " or ".join(STAGES))
        for name, least in (("steps", 1), ("batch_size", 1), ("seed", 0), ("threads", 0), ("eval_every", 1)):
            value = getattr(self, name)
            _check(name, value, least <= value <= _MOST, f"an integer from {least} to {_MOST:g}")
        _check("warmup", self.warmup, 0 <= self.warmup <= _MOST, f"an integer from 0 to {_MOST:g}")
        _check("ema", self.ema, 0 <= self.ema < 1, "0 for off, or a decay below 1 such as 0.999")
        _check("val_episodes", self.val_episodes, 0 <= self.val_episodes < 1, "a share from 0 to below 1")
        _check("clip_norm", self.clip_norm, 0 < self.clip_norm <= _MOST, "a number above 0")
        _check("precision", self.precision, self.precision in PRECISIONS, ", ".join(PRECISIONS))
        known = self.cache_features in CACHE_FEATURES
        _check("cache_features", self.cache_features, known, ", ".join(CACHE_FEATURES))
        known = self.device in ("auto", "cpu", "cuda")
        _check("device", self.device, known, "auto, cpu or cuda (CUDA_VISIBLE_DEVICES picks one)")

    def to_dict(self) -> dict[str, Any]:
        """JSON's types; `from_dict` gives the same settings back."""
        values = asdict(self)
        for f in fields(self):
            if isinstance(value := values[f.name], Path):
                values[f.name] = str(value)
        return values | {"datasets": [str(path) for path in self.datasets]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainSettings:
        """From what `to_dict` gave; a run's folder may have moved, so `out` is whatever it is now.

        Raises:
            MaskACTError: an entry is missing, unknown or of another type.
        """
        # A run that was begun before there was a cache of features goes on without.
        values = {"cache_features": "never"} | values
        _check_types(values)
        values["augment"] = augmentation_from_dict(values["augment"])
        for name in ("config", "out", "init", "cache"):
            values[name] = resolve_path(values[name]) if values[name] is not None else None
        return cls(**values | {"datasets": tuple(resolve_path(path) for path in values["datasets"])})


_TYPES: dict[str, tuple[tuple[type, ...], str]] = {  # by a field's annotation: JSON's types, and the same in words
    "int": ((int,), "an integer"),
    "float": ((int, float), "a number"),
    "str": ((str,), "a text"),
    "bool": ((bool,), "true or false"),
    "Path": ((str,), "a path"),
    "Path | None": ((str, type(None)), "a path or null"),
    "tuple[Path, ...]": ((list,), "a list of paths"),
    "Augmentation": ((dict,), "an object"),
}


def _check_types(values: dict[str, Any]) -> None:
    declared = {f.name: str(f.type) for f in fields(TrainSettings)}
    if differing := sorted(declared.keys() ^ values.keys()):
        raise TrainingError(f"settings: {shortened(differing[0])} is missing or unknown")
    for name, value in values.items():
        types, words = _TYPES[declared[name]]
        wrong = not isinstance(value, types) or (isinstance(value, bool) and bool not in types)
        if wrong or (isinstance(value, list) and not all(isinstance(item, str) for item in value)):
            raise TrainingError(f"settings: {name} is {shortened(repr(value))}; allowed: {words}")


def _check(name: str, value: Any, fine: bool, allowed: str) -> None:
    if not fine:
        raise TrainingError(f"--{name.replace('_', '-')} is {value}; allowed: {allowed}")
