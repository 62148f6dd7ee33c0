"""The reference's HDF5 → rows of ours: `data/demo_*` with images (T, H, W, 3), masks, and joints or tcps (T, D).

It holds no actions and no times: the action of a row is the state of the next one, and rows are at the policy's rate.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.images import MOST_PIXELS
from maskact_ros.core.robot import RobotSpec
from maskact_ros.data.datasets.lerobot_layout import DatasetError, Row
from maskact_ros.data.datasets.pictures import single_channel
from maskact_ros.data.importers.hdf5_file import data_set, member, opened, whole
from maskact_ros.data.importers.source import ImportOptions, Source

IMAGES, MASKS, STATES = "images", "masks", ("joints", "tcps")
_BLOCK = 16  # pictures read at once; such files are compressed in blocks


def read(path: Path, robot: RobotSpec, options: ImportOptions) -> Source:
    """Find everything but the pictures; raises DatasetError."""
    for option in ("camera", "masks", "joints", "action_at"):
        if getattr(options, option) is not None:
            shown = f"--{option.replace('_', '-')}"
            raise DatasetError(
                f"{path}: {shown} is for LeRobotDatasets; an HDF5 file of the reference has no choice there"
            )
    with opened(path) as file:
        groups = _demos(path, file)
        demos = list(groups)
        first = groups[demos[0]]
        state = options.state or next((name for name in STATES if name in first), STATES[0])
        states = {demo: _states(path, group, demo, state, len(robot.joints)) for demo, group in groups.items()}
        masked = MASKS in first
        for demo, group in groups.items():
            _check_pictures(path, group, demo, len(states[demo]), masked=masked)
    if masked and options.mask_classes is None:
        raise DatasetError(f"{path}: its masks have class ids without names; --mask-classes gives them")
    if not masked and options.mask_classes is not None:
        raise DatasetError(f"{path}: --mask-classes is given, but there are no masks")
    starts = np.cumsum([0, *(len(values) for values in states.values())])

    def rows(number: int) -> Iterator[Row]:
        demo = demos[number]
        values = states[demo]
        with opened(path) as file:
            for n, (rgb, mask) in zip(range(len(values) - 1), _pictures(path, file[demo], demo), strict=False):
                stamp_ns = round((starts[number] + n) * 1e9 / robot.policy_rate_hz)
                yield Row(stamp_ns=stamp_ns, state=values[n], action=values[n + 1], rgb=rgb, mask=mask)

    return Source(
        task=options.task or "do the task",
        mask_classes=options.mask_classes,
        episodes=tuple((demo.removeprefix("data/"), len(states[demo]) - 1) for demo in demos),
        rows=rows,
        notes={
            "images": IMAGES,
            "masks": MASKS if masked else "none",
            "state": state,
            "action": f"{state} of the next row, as the file has no actions; last rows go",
            "stamps": f"counted at the policy's rate, {robot.policy_rate_hz:g} Hz, as the file has none",
        },
    )


def _demos(path: Path, file: Any) -> dict[str, Any]:
    """Groups data/demo_0, data/demo_1, … in the order of their numbers."""
    data = member(path, file, "data")
    names = [name for name in data or () if re.fullmatch(r"demo_[0-9]{1,9}", name)]
    if not names:
        raise DatasetError(f"{path}: no data/demo_0 and so on in it; it has {', '.join(file) or 'nothing'}")
    names.sort(key=lambda name: int(name.removeprefix("demo_")))
    return {f"data/{name}": member(path, data, name) for name in names}


def _states(path: Path, group: Any, demo: str, name: str, joints: int) -> NDArray[np.float64]:
    found = data_set(path, group, name)
    if found is None:
        raise DatasetError(f"{path}: {demo} has no {name}; it has {', '.join(group)}")
    if found.ndim != 2 or found.shape[1] != joints:
        raise DatasetError(f"{path}: {demo}/{name} has shape {found.shape}; allowed: (T, {joints}), the robot's joints")
    values = whole(path, found)
    wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(wrong):
        raise DatasetError(f"{path}: {demo}/{name} is not finite in row {wrong[0]}")
    return values


def _check_pictures(path: Path, demo: Any, shown: str, length: int, *, masked: bool) -> None:
    images = data_set(path, demo, IMAGES)
    if images is None or images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        found = "missing" if images is None else f"{images.dtype} of shape {images.shape}"
        raise DatasetError(f"{path}: {shown}/{IMAGES} is {found}; allowed: uint8 of shape (T, H, W, 3)")
    masks = data_set(path, demo, MASKS)
    if (masks is not None) != masked:
        raise DatasetError(f"{path}: {shown} has {'no ' if masked else ''}{MASKS}, unlike the demonstration before")
    for name, pictures in ((IMAGES, images), (MASKS, masks)):
        if pictures is not None and len(pictures) != length:
            raise DatasetError(f"{path}: {shown}/{name} has {len(pictures)} rows; allowed: {length}, as the states")
    for name, pictures in ((IMAGES, images), (MASKS, masks)):
        if pictures is not None and pictures.ndim > 2 and not 0 < math.prod(pictures.shape[1:3]) <= MOST_PIXELS:
            size = f"{pictures.shape[2]}x{pictures.shape[1]}"
            raise DatasetError(f"{path}: {shown}/{name} is {size}; allowed: 1 to {MOST_PIXELS} pixels")
    if masks is not None and (masks.ndim not in (3, 4) or masks.dtype != np.uint8):
        raise DatasetError(f"{path}: {shown}/{MASKS} is {masks.dtype} of shape {masks.shape}; allowed: uint8 class ids")


def _pictures(path: Path, demo: Any, shown: str) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8] | None]]:
    images, masks = demo[IMAGES], demo.get(MASKS)
    for start in range(0, len(images), _BLOCK):
        end = min(len(images), start + _BLOCK)
        try:
            pictures = images[start:end]  # (B, H, W, 3)
            labels = [None] * len(pictures) if masks is None else masks[start:end]
        except OSError as error:
            raise DatasetError(f"{path}: {shown} cannot be read from row {start} on ({error})") from None
        for n, (rgb, mask) in enumerate(zip(pictures, labels, strict=True), start=start):
            yield rgb, None if mask is None else single_channel(mask, f"{path}: {shown}/{MASKS} of row {n}")
