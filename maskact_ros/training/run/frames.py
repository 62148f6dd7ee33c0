"""`FrameCache`: a dataset's pictures and masks at the model's size, decoded once and read from memory-mapped files.

In: a dataset and a checkpoint's geometry. Out: `rgb` (N, S, S, 3) and `masks` (N, S, S) uint8. Runs of the same
dataset, geometry and size share a cache; its folder is complete or absent. It may have come with a stranger's dataset:
it says of which pictures it was made, and some of them are decoded again and compared.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.documents import read_json
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.folders import complete_or_absent
from maskact_ros.core.geometry import ImageGeometry
from maskact_ros.core.outputs import Kind, OutputError, output_path
from maskact_ros.core.progress import Progress
from maskact_ros.data.datasets.dataset import Dataset
from maskact_ros.training.errors import TrainingError

_RGB, _MASKS, _ABOUT = "rgb.npy", "masks.npy", "about.json"
_COMPARED = 64  # frames, at most, that are decoded again to see whether a cache is what it says
_ROUNDING = 2.0  # of 255, on the mean of a picture: what decoders of other machines may differ by
_FRAMES = Kind(
    name="a cache of frames",
    marker=_ABOUT,
    read=lambda folder: read_json(folder / _ABOUT),
    files=r"\w+\.npy|about\.json",
)


@dataclass(frozen=True, eq=False)
class FrameCache:
    """All frames of one dataset, row by row."""

    rgb: NDArray[np.uint8]  # (N, S, S, 3)
    masks: NDArray[np.uint8] | None  # (N, S, S) class ids; None if the dataset has none
    largest_class: int  # the largest class id in the masks; 0 without masks
    key: str  # identifies the dataset's pictures, geometry and size, in names of files


def fingerprint(dataset: Dataset) -> str:
    """16 hexadecimal digits that change with a dataset's rows, and with its pictures if it has an identity."""
    digest = hashlib.sha256()
    for rows in (dataset.stamps_ns, dataset.states, dataset.actions):
        digest.update(np.ascontiguousarray(rows).tobytes())
    digest.update(repr(dataset.mask_classes).encode())
    # The same rows may be recorded with another look, or labelled again. Older datasets have no identity, so their
    # fingerprint does not change, and their caches and runs remain valid.
    digest.update(dataset.identity.encode())
    return digest.hexdigest()[:16]


def open_frames(dataset: Dataset, parent: Path, geometry: ImageGeometry, size: int) -> FrameCache:
    """The cache in `parent`, made if it is not there yet.

    Raises:
        MaskACTError: the cache cannot be written, or the dataset's frames do not match its rows.
    """
    key = f"{fingerprint(dataset)}-{geometry.mode}-{geometry.interpolation}-{size}"
    folder = output_path(parent) / f"frames-{key}"
    made_from = dataset.pictures_digest()
    reason = ""
    if os.path.lexists(folder):
        reason = _why_not_believed(dataset, folder, made_from, geometry, size)
    if reason:
        print(f"{folder}: decoded frames that are not used, as {reason}; they are decoded anew")
    if reason or not folder.exists():
        try:
            with complete_or_absent(folder, _FRAMES, overwrite=bool(reason)) as partial:
                _decode(dataset, partial, geometry, size, made_from)
        except OutputError as error:
            if not (folder / _ABOUT).is_file() or _why_not_believed(dataset, folder, made_from, geometry, size):
                raise TrainingError(f"{error}; --cache takes another folder") from None  # else a run was faster
    return _opened(folder, key)


def _opened(folder: Path, key: str = "") -> FrameCache:
    """The cache in a folder; raises OSError, ValueError, KeyError or MaskACTError where there is none."""
    about = read_json(folder / _ABOUT)
    return FrameCache(
        rgb=np.load(folder / _RGB, mmap_mode="r"),
        masks=np.load(folder / _MASKS, mmap_mode="r") if about["masks"] else None,
        largest_class=about["largest_class"],
        key=key,
    )


def _why_not_believed(dataset: Dataset, folder: Path, made_from: str, geometry: ImageGeometry, size: int) -> str:
    """What speaks against a cache, which may have come with the dataset; empty where it is what its pictures give."""
    rows, with_masks = len(dataset.states), dataset.mask_classes is not None
    try:
        about = read_json(folder / _ABOUT)
        if about.get("made_from") != made_from:
            return "they do not say that they were made from the pictures that are there"
        cache = _opened(folder)
    except (OSError, ValueError, KeyError, MaskACTError):
        return "they are not whole"
    arrays = [(cache.rgb, (rows, size, size, 3))] + ([(cache.masks, (rows, size, size))] if with_masks else [])
    if any(array is None or array.shape != shape or array.dtype != np.uint8 for array, shape in arrays):
        return "they are of another size"
    if type(cache.largest_class) is not int or (cache.masks is None) == with_masks:
        return "they are not whole"
    for row in sorted(random.SystemRandom().sample(range(rows), min(rows, _COMPARED))):  # which, nobody can foresee
        episode = next(e for e in dataset.episodes if e.start <= row < e.start + e.length)
        frame = next(dataset.frames(episode.index, row - episode.start))
        if _apart(cache.rgb[row], geometry.to_model(frame.rgb, size)) > _ROUNDING:
            return f"frame {row} is not the dataset's"
        if cache.masks is not None and frame.mask is not None:
            if (cache.masks[row] != geometry.labels_to_model(frame.mask, size)).any():
                return f"the mask of frame {row} is not the dataset's"
            if frame.mask.max() > cache.largest_class:
                return "they name another largest class"
    return ""


def _apart(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.abs(one.astype(np.int16) - other).mean())


def _decode(dataset: Dataset, folder: Path, geometry: ImageGeometry, size: int, made_from: str) -> None:
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
    about = {"masks": with_masks, "largest_class": largest, "made_from": made_from}
    (folder / _ABOUT).write_text(json.dumps(about), encoding="utf-8")


def _mapped(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.uint8]]:
    """A new .npy file, memory-mapped for writing."""
    array: Any = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)  # type: ignore[no-untyped-call]
    return array  # type: ignore[no-any-return]


def _check_space(folder: Path, needed: int) -> None:
    """Raise OSError if the frames do not fit: writing to a mapped file on a full disk would kill the process."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(28, f"they need {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free", os.fspath(folder))
