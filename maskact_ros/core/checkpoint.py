"""The checkpoint folder: everything that a policy needs, self-contained; read here without loading torch.

`config.json` (MaskACTConfig and the sections geometry, mask_classes, robot), `backbone.json` (the DINOv3
configuration), `stats.json`, `model.safetensors`, and `manifest.json` with the size and SHA-256 of each; and, by
choice, `onnx`, what `maskact export` made of them. A folder is complete or absent: it is written under a temporary
name and renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from maskact_ros.core.config import MaskACTConfig
from maskact_ros.core.dimensions import check_dimensions
from maskact_ros.core.documents import parse_json, read_json, shortened
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.folders import complete_or_absent
from maskact_ros.core.geometry import ImageGeometry
from maskact_ros.core.outputs import Kind, OutputError, output_path
from maskact_ros.core.paths import read_bytes, resolve_path
from maskact_ros.core.robot import RobotSpec
from maskact_ros.core.statistics import Statistics

CONFIG, BACKBONE, STATISTICS, WEIGHTS = "config.json", "backbone.json", "stats.json", "model.safetensors"
MANIFEST = "manifest.json"
EXPORTS, EXPORT = "onnx", "export.json"  # a folder for each precision, with that file in it
FORMAT = 1


class CheckpointError(MaskACTError):
    """A folder that is no whole checkpoint: the text names the folder, the file and what is wrong with it."""


def default_mask_classes(num_mask: int) -> tuple[str, ...]:
    """Names of the mask classes where nobody gave any: background, robot, object, object 2 …"""
    return ("background", "robot", "object", *(f"object {i}" for i in range(2, num_mask - 1)))[:num_mask]


@dataclass(frozen=True, kw_only=True)
class PolicySpec:
    """What defines a policy, all but its weights.

    Raises:
        CheckpointError: the mask classes do not fit num_mask.
        StatisticsError: the statistics do not serve the configuration's normalisation and the robot's joints.
    """

    config: MaskACTConfig
    robot: RobotSpec
    statistics: Statistics
    backbone: Mapping[str, Any]  # the DINOv3 configuration, as transformers writes it
    geometry: ImageGeometry = field(default_factory=ImageGeometry)
    mask_classes: tuple[str, ...]  # names of the num_mask classes

    def __post_init__(self) -> None:
        if len(set(self.mask_classes)) != self.config.num_mask:
            raise CheckpointError(
                f"mask_classes is {list(self.mask_classes)}; allowed: as many different names as num_mask, "
                f"which is {self.config.num_mask}"
            )
        self.statistics.check(self.config.normalization_mapping, len(self.robot.joints))


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo(PolicySpec):
    """A checkpoint folder as read: its policy's definition, and the hash that identifies its weights."""

    folder: Path
    weights_hash: str  # SHA-256 of model.safetensors, in hexadecimal digits

    @classmethod
    def read(cls, folder: str | Path) -> CheckpointInfo:
        """Read all but the weights, of which only the size is checked; see `verify`.

        Raises:
            MaskACTError: the folder or a file is missing, truncated, changed, not valid, or no checkpoint's.
        """
        folder = resolve_path(folder)
        listed = _manifest(folder)
        content = {name: _checked_json(folder / name, listed[name]) for name in (CONFIG, BACKBONE, STATISTICS)}
        _check_size(folder / WEIGHTS, listed[WEIGHTS])
        try:
            config, geometry, mask_classes = parse_policy(content[CONFIG])
            check_dimensions(config, content[BACKBONE], listed[WEIGHTS]["bytes"])
            return cls(
                config=config,
                robot=RobotSpec.from_dict(content[CONFIG].get("robot")),
                geometry=geometry,
                mask_classes=mask_classes,
                statistics=Statistics.from_dict(content[STATISTICS]),
                backbone=content[BACKBONE],
                folder=folder,
                weights_hash=listed[WEIGHTS]["sha256"],
            )
        except MaskACTError as error:
            raise CheckpointError(f"checkpoint {folder}: {error}") from None

    def verify(self) -> None:
        """Raise CheckpointError unless the weights are what the manifest says; reads the whole file."""
        path = self.folder / WEIGHTS
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
        if digest != self.weights_hash:
            raise CheckpointError(f"{path}: its content has changed since the checkpoint was written")


def parse_policy(values: Any) -> tuple[MaskACTConfig, ImageGeometry, tuple[str, ...]]:
    """Configuration, geometry and mask classes from a policy's JSON; the last two sections may be left out.

    A `robot` section, which a checkpoint's `config.json` has, is passed over.

    Raises:
        MaskACTError: an entry is not valid.
    """
    values = dict(values) if isinstance(values, Mapping) else values
    sections: dict[str, Any] = {}
    if isinstance(values, dict):
        sections = {name: values.pop(name) for name in ("geometry", "mask_classes", "robot") if name in values}
    config = MaskACTConfig.from_dict(values)
    classes = sections.get("mask_classes", list(default_mask_classes(config.num_mask)))
    if not isinstance(classes, list) or not all(isinstance(name, str) and name for name in classes):
        raise CheckpointError(f"mask_classes is {shortened(repr(classes))}; allowed: a list of names")
    return config, ImageGeometry.from_dict(sections.get("geometry", {})), tuple(classes)


def write_checkpoint(
    folder: str | Path,
    spec: PolicySpec,
    write_weights: Callable[[Path], None],
    *,
    overwrite: bool = False,
    sources: Iterable[Path] = (),
) -> CheckpointInfo:
    """Write a checkpoint; `write_weights` is given the path of the safetensors file to write.

    Raises:
        MaskACTError: the folder exists and `overwrite` is not set, or holds more than a checkpoint or one of the
            `sources`, or cannot be written.
    """
    folder = output_path(folder)
    with (
        _as_checkpoint_error(),
        complete_or_absent(folder, CHECKPOINT, overwrite=overwrite, sources=sources) as partial,
    ):
        config = spec.config.to_dict() | {
            "geometry": spec.geometry.to_dict(),
            "mask_classes": list(spec.mask_classes),
            "robot": spec.robot.to_dict(),
        }
        _write_json(partial / CONFIG, config)
        _write_json(partial / BACKBONE, dict(spec.backbone))
        _write_json(partial / STATISTICS, spec.statistics.to_dict())
        write_weights(partial / WEIGHTS)
        shutil.copymode(partial / CONFIG, partial / WEIGHTS)  # safetensors lets only the owner read
        listed = {name: _fingerprint(partial / name) for name in (CONFIG, BACKBONE, STATISTICS, WEIGHTS)}
        _write_json(partial / MANIFEST, {"format": FORMAT, "files": listed})
    values = {f.name: getattr(spec, f.name) for f in fields(PolicySpec)}
    return CheckpointInfo(folder=folder, weights_hash=listed[WEIGHTS]["sha256"], **values)


@contextmanager
def _as_checkpoint_error() -> Iterator[None]:
    try:
        yield
    except OutputError as error:
        raise CheckpointError(error) from None


def _manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """The manifest's entries of the four files, each with a size and a hash of the right type."""
    if not folder.is_dir():
        raise CheckpointError(f"checkpoint {folder}: there is no such folder")
    path = folder / MANIFEST
    if not resolve_path(path).is_file():
        raise CheckpointError(f"{folder}: not a checkpoint, it has no {MANIFEST}")
    values = read_json(path)
    if values.get("format") != FORMAT or not isinstance(values.get("files"), dict):
        raise CheckpointError(f"{path}: not the manifest of a checkpoint of format {FORMAT}")
    for name in (CONFIG, BACKBONE, STATISTICS, WEIGHTS):
        entry = values["files"].get(name)
        if not (
            isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and isinstance(entry.get("sha256"), str)
        ):
            raise CheckpointError(f"{path}: does not say the size and hash of {name}")
    listed: dict[str, dict[str, Any]] = values["files"]
    return listed


def _check_size(path: Path, entry: Mapping[str, Any]) -> None:
    if not resolve_path(path).is_file():
        raise CheckpointError(f"{path}: missing from the checkpoint")
    if (size := path.stat().st_size) != entry["bytes"]:
        kind = "truncated" if size < entry["bytes"] else "too long"
        raise CheckpointError(f"{path}: {kind}, it has {size} bytes and the manifest says {entry['bytes']}")


def _checked_json(path: Path, entry: Mapping[str, Any]) -> dict[str, Any]:
    _check_size(path, entry)
    content = read_bytes(path)
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise CheckpointError(f"{path}: its content has changed since the checkpoint was written")
    return parse_json(content, path)


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        os.fsync(file.fileno())  # the rename must not reach the disk before the content
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


EXPORT_FILES = r"export\.json|[a-z_]+\.onnx|tensorrt/[^/]+"  # in the folder of a precision
CHECKPOINT = Kind(
    name="a checkpoint",
    marker=MANIFEST,
    read=_manifest,
    # Exports are made of weights that are to be replaced; those with a hidden name, a killed export left.
    files=rf"{'|'.join(map(re.escape, (CONFIG, BACKBONE, STATISTICS, WEIGHTS, MANIFEST)))}"
    rf"|{EXPORTS}/(\w+|\.\w+\.[0-9a-f]{{32}}(\.replaced)?)/({EXPORT_FILES})",
)
