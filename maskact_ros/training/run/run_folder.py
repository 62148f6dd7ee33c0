"""`RunFolder`: a training run's files, from which it can be resumed.

run.json: settings and policy, written once · state.safetensors: weights, optimizer and averages at one step, replaced
by a rename · checkpoint/: the same step's policy, for the nodes · best/: the policy of the lowest held-out loss.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from maskact_ros.core.checkpoint import PolicySpec, parse_policy
from maskact_ros.core.dimensions import check_dimensions
from maskact_ros.core.documents import parse_json, read_json, shortened
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.folders import clear_leftovers
from maskact_ros.core.foreign_file import reading
from maskact_ros.core.outputs import OutputError, clear_partials, refuse_link, replaced_file
from maskact_ros.core.paths import regular_size
from maskact_ros.core.robot import RobotSpec
from maskact_ros.core.statistics import Statistics
from maskact_ros.policy.model.backbone import canonical_name
from maskact_ros.policy.model.maskact import MaskACT
from maskact_ros.policy.model.weights import load_tensors, save_checkpoint
from maskact_ros.training.errors import TrainingError
from maskact_ros.training.run.run_log import CURVES, EVENTS, LOG
from maskact_ros.training.run.settings import MOST_STEPS, TrainSettings

_RUN, _STATE, _CHECKPOINT, _BEST = "run.json", "state.safetensors", "checkpoint", "best"
_NAMES = (_RUN, _STATE, _CHECKPOINT, _BEST, LOG, CURVES, EVENTS)  # what a run writes into its folder
_MODEL, _EMA, _OPTIMIZER = "model/", "ema/", "optimizer/"


@dataclass(frozen=True)
class Progressed:
    """A run's progress."""

    step: int = 0  # steps that are done
    best_loss: float | None = None  # lowest held-out loss so far

    @classmethod
    def parse(cls, text: str, path: Path) -> Progressed:
        """From the text in a state's file; raises MaskACTError."""
        values = parse_json(text.encode(), path)
        step, best = values.get("step"), values.get("best_loss")
        if set(values) != {"step", "best_loss"} or type(step) is not int or not 0 <= step <= MOST_STEPS:
            raise TrainingError(f"{path}: does not say how far the run has come")
        if best is not None and not isinstance(best, (int, float)):
            raise TrainingError(f"{path}: best_loss is {shortened(repr(best))}; allowed: a number")
        return cls(step=step, best_loss=best)


@dataclass(frozen=True, eq=False)
class Learner:
    """All that a step changes: the model, its optimizer, and the average of its weights if there is one."""

    model: MaskACT
    optimizer: torch.optim.Optimizer
    ema: MaskACT | None

    @property
    def policy(self) -> MaskACT:
        """The policy to evaluate and save: the average if there is one."""
        return self.ema if self.ema is not None else self.model


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @property
    def checkpoint(self) -> Path:
        """The folder of the latest checkpoint."""
        return self.path / _CHECKPOINT

    @property
    def has_state(self) -> bool:
        """Whether there is a saved state: a run that was killed before its first save has none."""
        return (self.path / _STATE).exists()

    def check_new(self, sources: Sequence[Path] = ()) -> None:
        """Raise TrainingError where there is a run already, a source of the run, or something that it would replace."""
        if self.path.resolve() in [source.resolve() for source in sources]:
            raise TrainingError(f"{self.path}: is what the run reads, so no run is written there; give another --out")
        if (self.path / _RUN).exists():
            raise TrainingError(f"{self.path}: holds a run already; --resume goes on with it, or give another --out")
        if found := [name for name in _NAMES if os.path.lexists(self.path / name)]:
            raise TrainingError(
                f"{self.path}: holds {', '.join(found)}, which a run would replace, and no run that wrote it; allowed: "
                "a folder without such names"
            )

    def create(self, settings: TrainSettings, spec: PolicySpec, fingerprints: Sequence[str]) -> None:
        """Write run.json; raises TrainingError if there is a run already."""
        self.check_new()
        policy = spec.config.to_dict() | {
            "geometry": spec.geometry.to_dict(),
            "mask_classes": list(spec.mask_classes),
            "robot": spec.robot.to_dict(),
        }
        values = {
            "settings": settings.to_dict(),
            "policy": policy,
            "backbone": dict(spec.backbone),
            "statistics": spec.statistics.to_dict(),
            "fingerprints": list(fingerprints),
        }
        self.path.mkdir(parents=True, exist_ok=True)
        with replaced_file(self.path / _RUN, "a run", ours=True) as partial:
            partial.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def settings(self) -> TrainSettings:
        """The settings that the run was started with, but `out` is this folder."""
        try:
            return TrainSettings.from_dict({**_section(self._about(), "settings"), "out": str(self.path)})
        except MaskACTError as error:
            raise TrainingError(f"{self.path / _RUN}: {error}") from None

    def spec(self, fingerprints: Sequence[str]) -> PolicySpec:
        """The policy's definition; raises TrainingError if a dataset has changed."""
        values = self._about()
        if list(fingerprints) != values.get("fingerprints"):
            raise TrainingError(f"{self.path}: a dataset has changed since the run was started; start a new run")
        try:
            policy, backbone = _section(values, "policy"), _section(values, "backbone")
            config, geometry, classes = parse_policy(policy)
            if self.has_state:
                check_dimensions(config, backbone, regular_size(self.path / _STATE))
            return PolicySpec(
                config=config,
                robot=RobotSpec.from_dict(policy.get("robot")),
                statistics=Statistics.from_dict(values.get("statistics")),
                backbone=backbone,
                geometry=geometry,
                mask_classes=classes,
            )
        except MaskACTError as error:
            raise TrainingError(f"{self.path / _RUN}: {error}") from None

    def save(self, learner: Learner, progressed: Progressed) -> None:
        """Write the state and the checkpoint. Raises MaskACTError; then the last ones are still complete."""
        self._save_state(learner, progressed)
        self._save_policy(_CHECKPOINT, learner)

    def save_best(self, learner: Learner) -> None:
        """Write the policy as the best one so far; raises MaskACTError."""
        self._save_policy(_BEST, learner)

    def clear(self) -> None:
        """Remove partial files and checkpoints of a killed run; only one process of a run may call it."""
        for name in (_RUN, _STATE, LOG, CURVES):
            clear_partials(self.path / name)
        for name in (_CHECKPOINT, _BEST):
            clear_leftovers(self.path / name)

    def restore(self, learner: Learner) -> Progressed:
        """Load the state.

        Raises:
            MaskACTError: the state cannot be read, or is of another policy.
        """
        path = self.path / _STATE
        with reading(path, "safetensors", TrainingError), safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is no dictionary
        progressed = Progressed.parse(metadata.get("progress", ""), path)
        load_tensors(learner.model, _under(_MODEL, tensors), str(path))
        if learner.ema is not None:
            load_tensors(learner.ema, _under(_EMA, tensors), str(path))
        moments = _under(_OPTIMIZER, tensors)
        for name, parameter in _trained(learner):
            kept = {key.rpartition("/")[2]: t for key, t in moments.items() if key.rpartition("/")[0] == name}
            if any(tensor.shape not in (parameter.shape, ()) for tensor in kept.values()):
                raise TrainingError(f"{path}: the optimizer's state of {name} is of another shape than it")
            if kept:  # a parameter without a gradient has no moments
                learner.optimizer.state[parameter] = {
                    key: tensor.to(parameter.device)  # the count of steps, too, as the fused AdamW needs it
                    for key, tensor in kept.items()
                }
        return progressed

    def _save_state(self, learner: Learner, progressed: Progressed) -> None:
        tensors = _named(_MODEL, learner.model)
        if learner.ema is not None:
            tensors |= _named(_EMA, learner.ema)
        for name, parameter in _trained(learner):
            for key, value in learner.optimizer.state.get(parameter, {}).items():
                tensors[f"{_OPTIMIZER}{name}/{key}"] = value.contiguous()
        progress = json.dumps({"step": progressed.step, "best_loss": progressed.best_loss})
        try:
            with replaced_file(self.path / _STATE, "a state", ours=True) as partial:
                save_file(tensors, partial, metadata={"progress": progress})
                shutil.copymode(self.path / _RUN, partial)  # safetensors lets only the owner read
        except SafetensorError as error:
            raise self._unwritten(_STATE, error) from None
        except OutputError as error:
            raise TrainingError(f"{error}; what was there before is whole") from None

    def _save_policy(self, name: str, learner: Learner) -> None:
        try:
            save_checkpoint(self.path / name, learner.policy, overwrite=True)
        except (OSError, SafetensorError) as error:
            raise self._unwritten(name, error) from None

    def _unwritten(self, name: str, error: Exception) -> MaskACTError:
        reason = getattr(error, "strerror", None) or str(error)
        return TrainingError(f"{self.path / name}: cannot be written ({reason}); what was there before is whole")

    def _about(self) -> dict[str, Any]:
        if not (self.path / _RUN).is_file():
            raise TrainingError(f"{self.path}: no run to resume, it has no {_RUN}")
        for name in _NAMES:  # a run that somebody sent may have a link for any of them
            refuse_link(self.path / name)
        return read_json(self.path / _RUN)


def _section(values: dict[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(section := values.get(name), dict):
        raise TrainingError(f"{name} is {shortened(repr(section))}; allowed: an object")
    return section


def _named(prefix: str, model: MaskACT) -> dict[str, Tensor]:
    return {prefix + canonical_name(name): tensor.contiguous() for name, tensor in model.state_dict().items()}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _trained(learner: Learner) -> list[tuple[str, torch.nn.Parameter]]:
    return [(canonical_name(name), p) for name, p in learner.model.named_parameters() if p.requires_grad]
