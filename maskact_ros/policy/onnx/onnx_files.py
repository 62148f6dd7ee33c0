"""The folder that `maskact export` writes, `CHECKPOINT/onnx/PRECISION`: the graphs, and `export.json`.

`export.json` has the hash of the weights, the precision, the inputs' shapes, the outputs' differences from torch's, and
the size and SHA-256 of each file. This module needs neither onnx, onnxruntime nor torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from shlex import quote
from typing import Any, Self

from maskact_ros.core.checkpoint import EXPORT, EXPORT_FILES, EXPORTS, MANIFEST, CheckpointInfo
from maskact_ros.core.documents import parse_json
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.outputs import Kind
from maskact_ros.core.paths import read_bytes, resolve_path
from maskact_ros.policy.errors import PolicyError

ENCODER, MASK_HEAD, PLANNER = "encoder", "mask_head", "planner"
FORMAT = 1
# ONNX's key for a tensor in another file. Our graphs have none; a graph with one is refused: it could be any file.
_EXTERNAL = b"location"
# The JSON types of the record's values.
_KINDS = {
    **dict.fromkeys(("weights_hash", "checkpoint_hash", "precision"), str),
    **dict.fromkeys(("patches", "opset"), int),
    **dict.fromkeys(("made_with", "inputs", "files"), dict),
    "dynamic": bool,
}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The difference between an output and torch's, over all inputs that were tried."""

    largest: float
    tolerance: float
    measure: str  # what was measured, in words

    @property
    def passes(self) -> bool:
        """Whether the difference is within the tolerance; NaN is not."""
        return self.largest <= self.tolerance


@dataclass(frozen=True, kw_only=True)
class Export:
    """The content of `export.json`."""

    weights_hash: str
    checkpoint_hash: str  # SHA-256 of the checkpoint's manifest, which covers the statistics and the settings, too
    precision: str
    dynamic: bool  # whether the planner takes any number of patches, or always all of them
    patches: int  # in a picture
    opset: int
    made_with: dict[str, str]  # versions
    inputs: dict[str, dict[str, list[int | str]]]  # graph -> input -> shape; a free dimension has a name
    differences: dict[str, Difference]  # by graph.output
    files: dict[str, dict[str, Any]]  # bytes and sha256, by name

    @classmethod
    def read(cls, info: CheckpointInfo, precision: str) -> Self:
        """Read the record of a checkpoint's export in a precision, but not the graphs.

        Raises:
            MaskACTError: there is none, it is of another checkpoint, or `export.json` is invalid.
        """
        folder = export_folder(info, precision)
        remedy = export_command(info, precision)
        path = folder / EXPORT
        if not resolve_path(path).is_file():
            raise PolicyError(f"{folder}: there is no such export of the checkpoint; make it with: {remedy}")
        export = cls.read_record(folder)
        if export.checkpoint_hash != checkpoint_hash(info):
            raise PolicyError(
                f"{folder}: the export is of another checkpoint; make it again with: {remedy} --overwrite"
            )
        if export.precision != precision:
            raise PolicyError(f"{path}: the export's precision is {export.precision!r}; its folder is for {precision}")
        return export

    @classmethod
    def read_record(cls, folder: Path) -> Self:
        """What the record in a folder says, whosever it is; raises MaskACTError."""
        path = folder / EXPORT
        return cls._parsed(parse_json(read_bytes(path), path), path)

    @classmethod
    def _parsed(cls, values: Mapping[str, Any], path: Path) -> Self:
        names = {field.name for field in fields(cls)} | {"format"}
        try:
            if values["format"] != FORMAT or set(values) != names:
                raise ValueError
            differences = {name: Difference(**entry) for name, entry in values["differences"].items()}
            rest = {name: values[name] for name in names - {"format", "differences"}}
            if any(type(values[name]) is not kind for name, kind in _KINDS.items()):
                raise ValueError
            if not all(isinstance(shapes, dict) for shapes in rest["inputs"].values()):
                raise ValueError
            if not all(
                isinstance(file["bytes"], int) and isinstance(file["sha256"], str) for file in rest["files"].values()
            ):
                raise ValueError
            return cls(**rest, differences=differences)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise PolicyError(f"{path}: not the record of an export of format {FORMAT}") from None

    def write(self, folder: Path) -> None:
        """Write `export.json`."""
        text = json.dumps({"format": FORMAT} | asdict(self), indent=2, ensure_ascii=False)
        (folder / EXPORT).write_text(text + "\n", encoding="utf-8")

    def graph(self, folder: Path, graph: str) -> bytes:
        """The content of a graph's file.

        Raises:
            MaskACTError: it is missing, does not match `export.json`, or refers to tensors in other files.
        """
        path = folder / file_of(graph)
        if path.name not in self.files:
            raise PolicyError(f"{folder / EXPORT}: does not say the size and hash of {path.name}")
        content = read_bytes(path)
        if hashlib.sha256(content).hexdigest() != self.files[path.name]["sha256"]:
            raise PolicyError(f"{path}: its content has changed since it was exported; export again with --overwrite")
        if _EXTERNAL in content:
            raise PolicyError(f"{path}: wants tensors of other files, which no export has")
        return content


EXPORTED = Kind(name="an export", marker=EXPORT, read=Export.read_record, files=EXPORT_FILES)


def file_of(graph: str) -> str:
    """The name of a graph's file."""
    return f"{graph}.onnx"


def export_folder(info: CheckpointInfo, precision: str) -> Path:
    """The folder of a checkpoint's export in a precision."""
    return info.folder / EXPORTS / precision


def export_command(info: CheckpointInfo, precision: str) -> str:
    """The command that makes the export."""
    return f"maskact export {quote(str(info.folder))} --precision {precision}"


def has_export(info: CheckpointInfo, precision: str) -> bool:
    """Whether there is a complete export of this checkpoint."""
    try:
        Export.read(info, precision)
    except MaskACTError:
        return False
    return True


def checkpoint_hash(info: CheckpointInfo) -> str:
    """SHA-256 of the checkpoint's manifest; raises PathError."""
    return hashlib.sha256(read_bytes(info.folder / MANIFEST)).hexdigest()


def fingerprint(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file."""
    content = path.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
