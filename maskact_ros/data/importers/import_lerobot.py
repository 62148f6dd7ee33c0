"""Any LeRobotDataset v3.0 → rows of ours: the robot's joints picked by name, one camera, actions shifted if need be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.robot import RobotSpec
from maskact_ros.data.datasets.dataset import check_layout, mask_classes, read_stamps, vectors
from maskact_ros.data.datasets.lerobot_layout import ACTION, OURS, STAMP, STATE, DatasetError, Row
from maskact_ros.data.datasets.lerobot_reader import LeRobotFolder
from maskact_ros.data.datasets.tasks import TASKS, read_tasks
from maskact_ros.data.importers.source import ImportOptions, Source

IN_ORDER = ("in-order",)


def read(folder: Path, robot: RobotSpec, options: ImportOptions) -> Source:
    """Find everything but the pictures; raises MaskACTError that names the option which settles what is open."""
    if options.state is not None:
        raise DatasetError(f"{folder}: --state is for HDF5 files; a LeRobotDataset's is {STATE}")
    source = LeRobotFolder.open(folder)
    check_layout(source)
    if source.fps != robot.policy_rate_hz:
        raise DatasetError(
            f"{folder}: fps is {source.fps:g}, but policy_rate_hz of robot {robot.name} is {robot.policy_rate_hz:g}; "
            "allowed: the same, in a robot.yaml of its own if need be"
        )
    camera = _camera(source, options)
    masks, classes = _masks(source, camera, options)
    states = _joints(source, STATE, robot, options)
    actions = _joints(source, ACTION, robot, options)
    stamped = STAMP in source.features
    # Our own, also where another tool has dropped meta/maskact: its actions are those of a period later already.
    ours = stamped or (folder / OURS).is_dir()
    shift = 0 if (options.action_at or ("t+dt" if ours else "t")) == "t+dt" else 1
    stamps_ns = read_stamps(source) if stamped else np.round(np.arange(source.rows) * 1e9 / source.fps)

    def rows(number: int) -> Iterator[Row]:
        episode = source.episodes[number]
        labels = source.masks(masks, episode) if masks else iter([None] * episode.length)
        pictures = zip(source.pictures(camera, episode), labels, strict=True)
        for n, (rgb, mask) in zip(range(episode.start, episode.start + episode.length - shift), pictures, strict=False):
            yield Row(stamp_ns=int(stamps_ns[n]), state=states[n], action=actions[n + shift], rgb=rgb, mask=mask)

    return Source(
        task=options.task or _task(source),
        mask_classes=classes,
        episodes=tuple((f"episode {episode.index}", episode.length - shift) for episode in source.episodes),
        rows=rows,
        notes={
            "images": camera,
            "masks": masks or "none",
            "joints": ", ".join(options.joints or robot.joint_names),
            "action": "the row's own" if shift == 0 else "that of the next row, as it was commanded at t; last rows go",
            "stamps": STAMP if stamped else "counted, as the source has none",
        },
    )


def _camera(source: LeRobotFolder, options: ImportOptions) -> str:
    cameras = [
        name
        for name, feature in source.features.items()
        if feature["dtype"] in ("image", "video") and not name.startswith("observation.masks.")
    ]
    if options.camera is None and len(cameras) == 1:
        return cameras[0]
    if options.camera not in cameras:
        given = "not given" if options.camera is None else repr(options.camera)
        raise DatasetError(
            f"{source.folder}: --camera is {given}; allowed: {', '.join(cameras) or 'none, it has none'}"
        )
    return options.camera


def _masks(source: LeRobotFolder, camera: str, options: ImportOptions) -> tuple[str | None, tuple[str, ...] | None]:
    usual = camera.replace("observation.images.", "observation.masks.")
    name = options.masks or (usual if usual != camera and usual in source.features else None)
    if name is None:
        if options.mask_classes is not None:
            raise DatasetError(f"{source.folder}: --mask-classes is given, but there are no masks; --masks names them")
        return None, None
    if name not in source.features or source.features[name]["dtype"] != "image":
        images = [key for key, feature in source.features.items() if feature["dtype"] == "image"]
        raise DatasetError(f"{source.folder}: --masks is {name!r}; allowed: {', '.join(images) or 'none, it has none'}")
    classes = options.mask_classes
    if classes is None and source.features[name].get("info"):
        classes = mask_classes(source, name)
    if classes is None:
        raise DatasetError(f"{source.folder}: {name} has class ids without names; --mask-classes gives them")
    return name, classes


def _joints(source: LeRobotFolder, name: str, robot: RobotSpec, options: ImportOptions) -> NDArray[np.float64]:
    """The robot's joints (N, D) out of a feature's columns, found by name."""
    values = vectors(source, name).astype(np.float64)
    if options.joints == IN_ORDER:
        if values.shape[1] != len(robot.joints):
            raise DatasetError(
                f"{source.folder}: {name} has {values.shape[1]} numbers a row, robot {robot.name} {len(robot.joints)} "
                "joints; allowed with --joints in-order: as many"
            )
        return values
    names = _names(source.features[name].get("names"))
    wanted = options.joints or robot.joint_names
    if len(wanted) != len(robot.joints):
        raise DatasetError(f"--joints has {len(wanted)} names; allowed: {len(robot.joints)}, one for each robot joint")
    if len(names) != values.shape[1]:
        raise DatasetError(
            f"{source.folder}: {name} has {values.shape[1]} numbers a row and {len(names)} names; where its order is "
            f"that of robot {robot.name}, --joints in-order says so"
        )
    missing = [joint for joint in wanted if joint not in names]
    if missing:
        raise DatasetError(
            f"{source.folder}: {name} has no {', '.join(missing)}; it has {', '.join(names)}: --joints names those of "
            f"{', '.join(robot.joint_names)}, in that order"
        )
    return values[:, [names.index(joint) for joint in wanted]]


def _names(names: Any) -> list[str]:
    """A feature's names: LeRobot has lists, and mappings of one list; `.pos` is how its robots mark positions."""
    if isinstance(names, Mapping) and len(names) == 1:
        names = next(iter(names.values()))
    return [str(name).removesuffix(".pos") for name in names] if isinstance(names, list) else []


def _task(source: LeRobotFolder) -> str:
    try:
        tasks = list(read_tasks(source.folder).values())
    except DatasetError as error:
        raise DatasetError(f"{error}; --task says what is done") from None
    if len(tasks) != 1:
        raise DatasetError(f"{source.folder}: {len(tasks)} tasks in {TASKS}; --task says in a sentence what is done")
    return tasks[0]
