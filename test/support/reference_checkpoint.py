"""The reference's tiny checkpoint, in the layout that the reference saves it in."""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

REFERENCE = Path(__file__).parent / "reference"
BACKBONE = json.loads((REFERENCE / "backbone" / "config.json").read_text())


def reference_tensors() -> dict[str, torch.Tensor]:
    """The reference's weights, generated as its README says."""
    tensors = {}
    for entry in json.loads((REFERENCE / "state_dict.json").read_text()):
        name, shape = entry["name"], tuple(entry["shape"])
        if entry["kind"] == "stat":
            array = np.array(entry["value"]).reshape(shape)
        elif entry["kind"] == "int":
            array = np.zeros(shape, np.int64)
        elif entry["kind"] == "fixed":
            positions, channels = np.arange(shape[1])[:, None], np.arange(shape[2])
            angle = positions / 10000 ** (2 * (channels // 2) / shape[2])
            array = np.where(channels % 2 == 0, np.sin(angle), np.cos(angle))[None]
        else:
            array = _filled(name, shape)
        dtype = torch.int64 if entry["kind"] == "int" else torch.float32
        tensors[name] = torch.tensor(array, dtype=dtype)
    return tensors


def _filled(name: str, shape: tuple[int, ...]) -> np.ndarray:
    s = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    last = name.rpartition(".")[2]
    if last == "running_var":
        return 1 + 0.5 * s**2
    if last == "weight" and len(shape) == 1:
        return 1 + 0.1 * s
    if len(shape) <= 1:
        return 0.1 * s
    if "cls_seg" in name or "embed" in name:
        return s
    return s * np.sqrt(2 / np.prod(shape[1:]))


def write_reference(folder: Path, tensors: dict[str, torch.Tensor], **changes: object) -> Path:
    """A folder in the reference's layout."""
    folder.mkdir()
    config = json.loads((REFERENCE / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    return folder
