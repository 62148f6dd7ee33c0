"""The commands for policies: make an untrained one, import the reference's, predict once.

Each prints its results, and raises MaskACTError with one sentence. They are independent of argparse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from maskact_ros.core.checkpoint import CHECKPOINT, WEIGHTS, CheckpointInfo, PolicySpec, parse_policy
from maskact_ros.core.config import ConfigError, MaskACTConfig
from maskact_ros.core.dimensions import check_dimensions
from maskact_ros.core.documents import read_json
from maskact_ros.core.errors import MaskACTError, printable
from maskact_ros.core.geometry import ImageGeometry
from maskact_ros.core.images import rgb_from_file
from maskact_ros.core.outputs import MARK, check_file, check_folder, output_path, replaced_file
from maskact_ros.core.paths import resolve_path
from maskact_ros.core.robot import RobotSpec
from maskact_ros.core.statistics import Statistics
from maskact_ros.policy.errors import PolicyError
from maskact_ros.policy.importers.reference import load_reference
from maskact_ros.policy.model.backbone import preset, read_settings, read_weights
from maskact_ros.policy.model.maskact import MaskACT
from maskact_ros.policy.model.weights import load_backbone, load_checkpoint, save_checkpoint

_PREDICTION = "a prediction"
_LARGEST_UNTRAINED = 2**31  # bytes in half precision, of weights that nobody has yet: three times a large DINOv3


def init_checkpoint(
    config_json: Path, out: Path, robot: RobotSpec, *, seed: int = 0, overwrite: bool = False
) -> CheckpointInfo:
    """Write an untrained checkpoint from a policy's JSON: MaskACTConfig, and optionally `geometry` and `mask_classes`.

    The backbone comes from `dino_model_dir`, which is relative to the JSON's folder; the statistics come from the
    robot's limits.

    Raises:
        MaskACTError: the JSON, the backbone's folder or the seed is not valid, or `out` exists.
    """
    policy = read_policy(config_json)
    backbone = find_backbone(policy.config, config_json)
    sources = (config_json, backbone.folder)
    check_folder(output_path(out), CHECKPOINT, overwrite=overwrite, sources=sources)  # before the work
    spec = PolicySpec(
        config=policy.config,
        robot=robot,
        statistics=Statistics.from_limits(robot),
        backbone=backbone.settings,
        geometry=policy.geometry,
        mask_classes=policy.mask_classes,
    )
    model = untrained_policy(spec, backbone, seed)
    info = save_checkpoint(out, model, overwrite=overwrite, sources=sources)
    print(f"{out}: untrained policy of seed {seed}; backbone: {backbone.origin}")
    return info


def shrink(checkpoint: Path, out: Path, *, overwrite: bool = False) -> CheckpointInfo:
    """Write a copy of a checkpoint with its weights in half precision; raises MaskACTError."""
    check_folder(output_path(out), CHECKPOINT, overwrite=overwrite, sources=(checkpoint,))  # before the work
    model = load_checkpoint(CheckpointInfo.read(checkpoint))
    info = save_checkpoint(out, model, half=True, overwrite=overwrite, sources=(checkpoint,))
    before, after = ((folder / WEIGHTS).stat().st_size / 1e6 for folder in (checkpoint, out))
    print(f"{out}: weights in half precision, {after:.1f} MB instead of {before:.1f}")
    return info


@dataclass(frozen=True, kw_only=True)
class WrittenPolicy:
    """The content of a policy's JSON."""

    config: MaskACTConfig
    geometry: ImageGeometry
    mask_classes: tuple[str, ...]
    names_classes: bool  # whether it names its classes; else they have default names


def read_policy(config_json: Path) -> WrittenPolicy:
    """Read a policy's JSON; raises MaskACTError that names the file."""
    values = read_json(resolve_path(config_json))
    try:
        config, geometry, classes = parse_policy(values)
    except MaskACTError as error:
        raise ConfigError(f"{config_json}: {error}") from None
    return WrittenPolicy(config=config, geometry=geometry, mask_classes=classes, names_classes="mask_classes" in values)


@dataclass(frozen=True, kw_only=True, eq=False)
class BackboneSource:
    """The source of an untrained policy's backbone."""

    settings: Mapping[str, Any]  # the DINOv3 configuration
    weights: Mapping[str, torch.Tensor] | None  # None: random weights
    folder: Path
    origin: str  # the source in words


def find_backbone(config: MaskACTConfig, config_json: Path) -> BackboneSource:
    """The backbone in `dino_model_dir`, relative to the JSON's folder, or else a random one of `vision_backbone`.

    Raises:
        MaskACTError: the folder is not valid, or the configuration names one that does not exist.
    """
    folder = resolve_path(config.dino_model_dir, base=resolve_path(config_json.parent))
    if folder.exists():
        settings, weights = read_settings(folder), read_weights(folder)
        origin = f"weights of {folder}" if weights else f"random weights (no weights in {folder}, its config.json only)"
        return BackboneSource(settings=settings, weights=weights, folder=folder, origin=origin)
    if config.dino_model_dir != MaskACTConfig().dino_model_dir:  # the user has set a folder
        raise ConfigError(f"{config_json}: dino_model_dir is {config.dino_model_dir}, and there is no folder {folder}")
    origin = f"random weights of a {config.vision_backbone} (there is no folder {folder})"
    return BackboneSource(settings=preset(config.vision_backbone), weights=None, folder=folder, origin=origin)


def untrained_policy(spec: PolicySpec, backbone: BackboneSource, seed: int) -> MaskACT:
    """A policy with random weights by a seed, except for a backbone with weights; raises PolicyError."""
    if not 0 <= seed < 2**63:
        raise PolicyError(f"the seed is {seed}; allowed: an integer >= 0 and < 2^63")
    given = sum(tensor.nbytes for tensor in (backbone.weights or {}).values())
    check_dimensions(spec.config, spec.backbone, given + _LARGEST_UNTRAINED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MaskACT(spec)
    if backbone.weights is not None:
        load_backbone(model, backbone.weights, str(backbone.folder))
    return model


def import_reference(
    reference_dir: Path, out: Path, backbone_dir: Path, robot: RobotSpec | None = None, *, overwrite: bool = False
) -> CheckpointInfo:
    """Write the checkpoint of a folder in the reference's layout; raises MaskACTError as `load_reference`."""
    sources = (reference_dir, backbone_dir)
    check_folder(output_path(out), CHECKPOINT, overwrite=overwrite, sources=sources)  # before the work
    imported = load_reference(reference_dir, backbone_dir, robot)
    info = save_checkpoint(out, imported.model, overwrite=overwrite, sources=sources)
    for remark in imported.remarks:
        print(printable(remark))
    print(f"{out}: imported from {reference_dir}")
    return info


def predict_once(checkpoint: Path, image_file: Path, state: Sequence[float], out_npz: Path) -> None:
    """Write the policy's outputs for one observation, at full precision.

    `features` (N, D), `chunk` (K, J) and, where the policy has masks, `pixel_logits` (C, S, S) and
    `patch_labels` (N,).

    Raises:
        MaskACTError: the checkpoint or the image cannot be read, or the state has a wrong number of values.
    """
    out_npz = output_path(out_npz)
    check_file(out_npz, _PREDICTION)  # before the work
    info = CheckpointInfo.read(checkpoint)
    joints = info.robot.joint_names
    if len(state) != len(joints) or not np.isfinite(state).all():
        raise PolicyError(f"the state is {list(state)}; allowed: {len(joints)} finite numbers, for {', '.join(joints)}")
    rgb = rgb_from_file(image_file)
    image = info.geometry.to_model(rgb, info.config.image_size)
    model = load_checkpoint(info).eval()
    with torch.inference_mode():
        encoded = model.encode(torch.from_numpy(image)[None])
        seen = encoded.segmentation
        chunk = model.act(
            encoded.features,
            None if seen is None else seen.patch_labels,
            torch.tensor([list(state)], dtype=torch.float32),
        )
    result: dict[str, torch.Tensor] = {"features": encoded.features, "chunk": chunk}
    if seen is not None:
        result |= {"pixel_logits": seen.pixel_logits, "patch_labels": seen.patch_labels.to(torch.int8)}
    for name, tensor in result.items():
        if not tensor.isfinite().all():
            raise PolicyError(f"not all of the {name} is finite, made of {image_file} and the state {list(state)}")
    _describe(info, rgb.shape[:2], np.array(state), result)
    arrays: dict[str, Any] = {name: tensor[0].numpy() for name, tensor in result.items()}
    with replaced_file(out_npz, _PREDICTION) as partial:
        with partial.open("wb") as file:
            np.savez(file, **arrays)
        with ZipFile(partial, "a") as archive:
            archive.comment = MARK.encode()


def _describe(
    info: CheckpointInfo, size: tuple[int, ...], state: NDArray[np.float64], seen: dict[str, torch.Tensor]
) -> None:
    """Print labels and actions, and notes on inputs that the nodes would have refused."""
    robot = info.robot
    if info.config.training_stage == "stage1":
        print("note: a checkpoint of stage 1: its masks are trained, its planner is not, so the chunk means nothing")
    expected = [(camera.height, camera.width) for camera in robot.cameras]
    if size not in expected:
        print(f"note: the image is {size[1]}x{size[0]}; the nodes would refuse it, as the robot's is another size")
    for joint, position in zip(robot.joints, state, strict=True):
        if not joint.lower <= position <= joint.upper:
            limits = f"{joint.lower:g} to {joint.upper:g}"
            print(f"note: {printable(joint.name)} is at {position:g}, beyond its limits {limits}")
    if "patch_labels" in seen:
        shares = torch.bincount(seen["patch_labels"][0].long(), minlength=len(info.mask_classes)) * 100
        shares = shares / seen["patch_labels"].shape[1]
        named = zip(info.mask_classes, shares.tolist(), strict=True)
        print("patches: " + ", ".join(f"{printable(name)} {share:.0f} %" for name, share in named))
    chunk = seen["chunk"][0]
    for name, first, last in zip(robot.joint_names, chunk[0].tolist(), chunk[-1].tolist(), strict=True):
        print(f"{printable(name)}: first {first:.3f}, last {last:.3f} (point {len(chunk)})")
