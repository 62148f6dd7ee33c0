"""The beginning of a run: the policy's definition, and a model with its initial weights.

In: settings and datasets. Out: a `MaskACT` of the stage, and a line that names the source of its weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from maskact_ros.core.checkpoint import CheckpointInfo, PolicySpec
from maskact_ros.core.config import PARAMETERS, MaskACTConfig
from maskact_ros.core.geometry import ImageGeometry
from maskact_ros.core.statistics import SMALLEST_SCALE, Statistics
from maskact_ros.data.datasets.dataset import Dataset
from maskact_ros.policy.commands import (
    BackboneSource,
    WrittenPolicy,
    find_backbone,
    read_policy,
    untrained_policy,
)
from maskact_ros.policy.model.maskact import MaskACT
from maskact_ros.policy.model.weights import load_part
from maskact_ros.training.errors import TrainingError
from maskact_ros.training.run.settings import TrainSettings

_HEADS = ("mask_head.", "auxiliary_head.")
_OF_HEADS = ("use_aux_head", "num_mask", "mask_head_channels")
# The parameters that define encoder and mask heads, the parts that a stage 1 checkpoint provides.
_PERCEPTION = ("normalization_mapping", "use_lora", "lora_config", "dim_model", *_OF_HEADS)


def open_datasets(settings: TrainSettings) -> list[Dataset]:
    """All datasets of a run; raises MaskACTError if they have different robots or classes."""
    datasets = [Dataset.open(folder) for folder in settings.datasets]
    first = datasets[0]
    for dataset in datasets[1:]:
        names = {"mine": str(dataset.folder), "theirs": str(first.folder)}
        found = dataset.robot.differences(first.robot, **names)
        if dataset.mask_classes != first.mask_classes:
            found.append(
                f"mask classes: {dataset.folder} has {_listed(dataset.mask_classes)}, "
                f"{first.folder} has {_listed(first.mask_classes)}"
            )
        if found:
            raise TrainingError("datasets that do not go together: " + "; ".join(found))
    if not sum(len(dataset.states) for dataset in datasets):
        raise TrainingError(f"{first.folder}: the dataset has no rows")
    return datasets


def initial_model(settings: TrainSettings, datasets: Sequence[Dataset]) -> tuple[MaskACT, str]:
    """The model before the first step.

    Raises:
        MaskACTError: the policy's JSON is not valid, or does not match the dataset or --init.
    """
    written = read_policy(settings.config)
    config, geometry = replace(written.config, training_stage=settings.stage), written.geometry
    _check_masks(config, datasets[0])
    statistics = _statistics(datasets)
    if settings.init is None:
        classes = _mask_classes(settings, written, datasets[0], None)
        backbone = find_backbone(config, settings.config)
        spec = _spec(config, geometry, classes, statistics, datasets[0], backbone)
        return untrained_policy(
            spec, backbone, settings.seed
        ), f"a new policy; backbone: {backbone.origin}{_still(spec)}"

    info = CheckpointInfo.read(settings.init)
    info.verify()
    with_planner = info.config.training_stage == "stage2"
    _check_goes_on(info, config, geometry, datasets[0], with_planner)
    classes = _mask_classes(settings, written, datasets[0], info)
    if with_planner:
        statistics = info.statistics  # the planner's weights are valid only with its own statistics
    backbone = BackboneSource(settings=info.backbone, weights=None, folder=info.folder, origin=str(info.folder))
    spec = _spec(config, geometry, classes, statistics, datasets[0], backbone)
    model = untrained_policy(spec, backbone, settings.seed)
    if with_planner:
        load_part(info, model)
        return model, f"all weights of {info.folder}, with its statistics"
    load_part(info, model.perception, "perception.", without=() if config.use_mask else _HEADS)
    return model, f"encoder and mask head of {info.folder}, which is of stage 1; a new planner{_still(spec)}"


def _spec(
    config: MaskACTConfig,
    geometry: ImageGeometry,
    classes: tuple[str, ...],
    statistics: Statistics,
    dataset: Dataset,
    backbone: BackboneSource,
) -> PolicySpec:
    return PolicySpec(
        config=config,
        robot=dataset.robot,
        statistics=statistics,
        backbone=backbone.settings,
        geometry=geometry,
        mask_classes=classes,
    )


def _still(spec: PolicySpec) -> str:
    """Which joints never move in the datasets; empty where all of them do."""
    told = [
        f"{joint}'s {feature}"
        for feature, statistics in (("state", spec.statistics.state), ("action", spec.statistics.action))
        for joint, std in zip(spec.robot.joint_names, statistics.std or (), strict=False)
        if std <= SMALLEST_SCALE
    ]
    return f"; never moves, so it is centred and not scaled: {', '.join(told)}" if told else ""


def _statistics(datasets: Sequence[Dataset]) -> Statistics:
    """The statistics of the rows of all datasets."""
    states, actions = ([getattr(dataset, name) for dataset in datasets] for name in ("states", "actions"))
    return replace(datasets[0], states=np.concatenate(states), actions=np.concatenate(actions)).statistics


def _check_masks(config: MaskACTConfig, dataset: Dataset) -> None:
    """Raise TrainingError for a dataset whose masks do not match the policy's."""
    if not config.use_mask:
        return
    if dataset.mask_classes is None:
        if config.training_stage == "stage1":
            raise TrainingError(f"--stage is stage1, which trains masks, and {dataset.folder} has none")
    elif len(dataset.mask_classes) != config.num_mask:
        raise TrainingError(
            f"num_mask is {config.num_mask}; allowed: {len(dataset.mask_classes)}, as {dataset.folder} has the mask "
            f"classes {_listed(dataset.mask_classes)}"
        )


def _mask_classes(
    settings: TrainSettings, written: WrittenPolicy, dataset: Dataset, info: CheckpointInfo | None
) -> tuple[str, ...]:
    """The mask classes of the dataset, else of the policy's JSON, else of the initial checkpoint, else the defaults.

    Labels, a mask head's weights, and the JSON's rules and weights are by id, so another order would assign them to
    other classes. Other names for the same ids are allowed, unless the JSON contradicts them.

    Raises:
        TrainingError: they are not the same.
    """
    if not written.config.use_mask:
        return written.mask_classes
    ours = _Named(str(settings.config), written.mask_classes) if written.names_classes else None
    data = _Named(str(dataset.folder), dataset.mask_classes) if dataset.mask_classes is not None else None
    init = _Named(f"--init {info.folder}", info.mask_classes) if info is not None else None
    for one, other in ((ours, data), (ours, init), (data, init)):
        if one is None or other is None or one.classes == other.classes:
            continue
        if one is ours or sorted(one.classes) == sorted(other.classes):
            raise TrainingError(
                f"mask classes: {one.where} has {_listed(one.classes)}, {other.where} has {_listed(other.classes)}; "
                "allowed: the same names in the same order"
            )
    named = data or ours or init
    return written.mask_classes if named is None else named.classes


@dataclass(frozen=True)
class _Named:
    """Mask classes, and their source."""

    where: str
    classes: tuple[str, ...]


def _check_goes_on(
    info: CheckpointInfo, config: MaskACTConfig, geometry: ImageGeometry, dataset: Dataset, with_planner: bool
) -> None:
    """Raise TrainingError with every difference due to which the checkpoint's weights cannot be used."""
    names = [n for n, p in PARAMETERS.items() if p.scope == "checkpoint"] if with_planner else list(_PERCEPTION)
    if not with_planner and info.config.use_mask and not config.use_mask:
        names = [name for name in names if name not in _OF_HEADS]  # the heads are not loaded
    elif not with_planner:
        names.append("use_mask")
    theirs, ours = info.config.to_dict(), config.to_dict()
    found = [
        f"{name} is {ours[name]} and the checkpoint's {theirs[name]}" for name in names if ours[name] != theirs[name]
    ]
    if geometry != info.geometry:
        found.append(f"geometry is {geometry.to_dict()} and the checkpoint's {info.geometry.to_dict()}")
    if with_planner:
        found += dataset.robot.differences(info.robot, mine="dataset", theirs="checkpoint")
    if found:
        raise TrainingError(f"--init {info.folder} does not go with the policy to train: " + "; ".join(found))


def _listed(classes: tuple[str, ...] | None) -> str:
    return "none" if classes is None else ", ".join(classes)
