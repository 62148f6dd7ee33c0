"""`FrameCache`: a dataset's pictures and masks at the model's size, decoded once and read from mapped files.

In: a dataset and a checkpoint's geometry. Out: `rgb` (N, S, S, 3) and `masks` (N, S, S) uint8. Runs of the same
dataset, geometry and size share a cache; its folder is complete or absent.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.geometry import ImageGeometry
from maskact_ros.core.paths import resolve_path
from maskact_ros.core.progress import Progress
from maskact_ros.data.datasets.dataset import Dataset
from maskact_ros.training.errors import TrainingError

_RGB, _MASKS, _ABOUT = "rgb.npy", "masks.npy", "about.json"


@dataclass(frozen=True, eq=False)
class FrameCache:
    """All frames of one dataset, row by row."""

    rgb: NDArray[np.uint8]  # (N, S, S, 3)
    masks: NDArray[np.uint8] | None  # (N, S, S) class ids; None where the dataset has none
    largest_class: int  # that occurs in the masks; 0 without masks
    key: str  # of the dataset's pictures, geometry and size, for names of files


def fingerprint(dataset: Dataset) -> str:
    """16 hexadecimal digits that change with a dataset's rows, and with its pictures where it has an identity."""
    digest = hashlib.sha256()
    for rows in (dataset.stamps_ns, dataset.states, dataset.actions):
        digest.update(np.ascontiguousarray(rows).tobytes())
    digest.update(repr(dataset.mask_classes).encode())
    # The same rows may have been seen under another look, or labelled again. Datasets of before have no identity: what
    # was decoded of them, and the runs that they began, keep their fingerprint.
    digest.update(dataset.identity.encode())
    return digest.hexdigest()[:16]


def open_frames(dataset: Dataset, parent: Path, geometry: ImageGeometry, size: int) -> FrameCache:
    """The cache in `parent`, made if it is not there yet.

    Raises:
        MaskACTError: the cache cannot be written, or the dataset's frames are not what its rows say.
    """
    key = f"{fingerprint(dataset)}-{geometry.mode}-{geometry.interpolation}-{size}"
    name = f"frames-{key}"
    folder = resolve_path(parent) / name
    if not (folder / _ABOUT).exists():
        partial = folder.with_name(f".{name}.{uuid.uuid4().hex}")
        try:
            partial.mkdir(parents=True)
            _decode(dataset, partial, geometry, size)
            if not folder.exists():  # another run may have been faster
                partial.rename(folder)
        except OSError as error:
            if not (folder / _ABOUT).exists():
                raise TrainingError(
                    f"{folder}: the decoded frames cannot be written ({error.strerror}); --cache takes another folder"
                ) from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    return FrameCache(
        rgb=np.load(folder / _RGB, mmap_mode="r"),
        masks=np.load(folder / _MASKS, mmap_mode="r") if about["masks"] else None,
        largest_class=about["largest_class"],
        key=key,
    )


def _decode(dataset: Dataset, folder: Path, geometry: ImageGeometry, size: int) -> None:
    rows = len(dataset.states)
    with_masks = dataset.mask_classes is not None
    _check_space(folder, rows * size * size * (4 if with_masks else 3))
    rgb = _mapped(folder / _RGB, (rows, size, size, 3))
    masks = _mapped(folder / _MASKS, (rows, size, size)) if with_masks else None
    largest = 0
    with Progress("decoding frames", rows) as progress:
        for episode in dataset.episodes:
            row, end = episode.start, episode.start + episode.length
            for frame in dataset.frames(episode.index):
                if row == end:
                    break
                rgb[row] = geometry.to_model(frame.rgb, size)
                if masks is not None:
                    if frame.mask is None:
                        raise TrainingError(f"dataset row {row} has no mask, though the dataset names mask classes")
                    masks[row] = geometry.labels_to_model(frame.mask, size)
                    largest = max(largest, int(frame.mask.max()))
                row += 1
                progress.advance(1)
            if row != end:
                frames = row - episode.start
                raise TrainingError(f"episode {episode.index} has {frames} frames; allowed: {episode.length}, as rows")
    for array in (rgb, masks):
        if array is not None:
            array.flush()
    (folder / _ABOUT).write_text(json.dumps({"masks": with_masks, "largest_class": largest}), encoding="utf-8")


def _mapped(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.uint8]]:
    """A new .npy file, written as an array."""
    array: Any = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)  # type: ignore[no-untyped-call]
    return array  # type: ignore[no-any-return]


def _check_space(folder: Path, needed: int) -> None:
    """Raise OSError where the frames would not fit: writing to a mapped file on a full disk ends the process."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(28, f"they need {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free", os.fspath(folder))
