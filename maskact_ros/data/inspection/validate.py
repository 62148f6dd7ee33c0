"""`maskact validate`: is a dataset what it says it is? All findings, each with its file, episode and row.

In: a dataset's folder. Out: findings, none for a sound dataset; every number and every picture has been looked at.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from maskact_ros.core.documents import read_yaml
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.paths import resolve_path
from maskact_ros.core.progress import Progress
from maskact_ros.core.robot import RobotSpec
from maskact_ros.data.datasets.dataset import CONTRACT, REPORT, Dataset, read_report, read_robot
from maskact_ros.data.datasets.lerobot_layout import ACTION, STATE, Layout
from maskact_ros.data.datasets.lerobot_reader import INFO, LeRobotFolder
from maskact_ros.data.datasets.tasks import TASKS, read_tasks
from maskact_ros.data.inspection.findings import Finding, Remark, inside, of_error
from maskact_ros.data.inspection.stream_latency import check_latency
from maskact_ros.data.inspection.validate_motion import check_motion
from maskact_ros.data.inspection.validate_pictures import check_masks, check_pictures
from maskact_ros.data.inspection.validate_rows import check_rows, check_statistics, check_times

_MOST_TIMES = 2  # as many rows as there are; beyond, episodes are not just a little wrong


def run(folder: Path) -> int:
    """Print what is wrong, or what is there; the exit code, 1 when anything is wrong."""
    count = 0
    with Progress("pictures", None) as progress:
        for item in validate(folder):
            if isinstance(item, Finding):
                count += 1
                print(item)
            elif isinstance(item, Remark):
                print(item)
            else:
                progress.advance(item)
    if count:
        print(f"{folder}: {count} findings")
        return 1
    print(f"{folder}: sound; {summary(Dataset.open(folder))}")
    return 0


def summary(dataset: Dataset) -> str:
    """What is in a dataset, in a line."""
    rows, camera = len(dataset.states), dataset.robot.only_camera
    masks = "no masks" if dataset.mask_classes is None else f"masks of {', '.join(dataset.mask_classes)}"
    return (
        f"{len(dataset.episodes)} episodes, {rows} rows at {dataset.fps:g} Hz ({rows / dataset.fps:.0f} s) of "
        f"{dataset.robot.name}, {len(dataset.robot.joints)} joints, "
        f"camera {camera.name} {camera.width}x{camera.height}, {masks}"
    )


def validate(folder: str | Path) -> Iterator[Finding | Remark | int]:
    """All that is wrong with a dataset or to be known, and between that, how many pictures were looked at since."""
    folder = resolve_path(folder)
    try:
        source = LeRobotFolder.open(folder)
        robot = read_robot(folder)
        layout = Layout(robot=robot)
        features = layout.features()
    except MaskACTError as error:
        yield of_error(error, folder)
        return
    yield from _manifest(source, robot, features)
    yield from _totals(source)
    yield from _tasks(source)
    yield from _episodes(source)
    yield from _empty_files(source)
    source = replace(source, files=tuple(file for file in source.files if file.rows))
    if not source.files:
        return
    yield from check_rows(source, len(robot.joints))
    with contextlib.suppress(MaskACTError):  # which _manifest tells
        yield from check_times(source, read_report(folder))
    yield from check_motion(source, robot)
    yield from check_statistics(source)
    claimed = sum(episode.length for episode in source.episodes)
    if claimed > _MOST_TIMES * source.rows:  # each claims all pictures, and each would be decoded again and again
        yield Finding("meta/episodes", f"the pictures are not looked at, as episodes of {claimed} rows share them")
        return
    yield from check_pictures(source, layout)
    yield from check_masks(source, layout)


def _manifest(
    source: LeRobotFolder, robot: RobotSpec, features: Mapping[str, Mapping[str, Any]]
) -> Iterator[Finding | Remark]:
    if source.fps != robot.policy_rate_hz:
        yield Finding(INFO, f"fps is {source.fps:g}, but the robot's policy_rate_hz {robot.policy_rate_hz:g}")
    for name, feature in features.items():
        if name not in source.features:
            yield Finding(INFO, f"no feature {name}")
        elif (shape := list(source.features[name]["shape"])) != feature["shape"]:
            yield Finding(INFO, f"{name} has shape {shape}; allowed for robot {robot.name}: {feature['shape']}")
    for name in (STATE, ACTION):
        names = source.features.get(name, {}).get("names")
        if names is not None and names != list(robot.joint_names):
            yield Finding(INFO, f"{name} is of {names}, but the robot's joints are {list(robot.joint_names)}")
    try:
        report = read_report(source.folder)
        if not (source.folder / CONTRACT).is_file():
            yield Finding(CONTRACT, "missing; it tells how the dataset was made")
        elif not isinstance(read_yaml(source.folder / CONTRACT), dict):
            yield Finding(CONTRACT, "is no mapping of entries; it tells how the dataset was made")
    except MaskACTError as error:
        yield of_error(error, source.folder)
        return
    yield from check_latency(report)
    for episode in source.episodes:
        frames = report.of(episode.index).get("frames")
        if frames != episode.length:
            yield Finding(f"{REPORT}, episode {episode.index}", f"{frames} frames; the dataset has {episode.length}")


def _totals(source: LeRobotFolder) -> Iterator[Finding]:
    for entry, found in (("total_episodes", len(source.episodes)), ("total_frames", source.rows)):
        if source.info.get(entry) != found:
            yield Finding(INFO, f"{entry} is {source.info.get(entry)}; there are {found}")


def _tasks(source: LeRobotFolder) -> Iterator[Finding]:
    """Without their texts, LeRobot cannot load a dataset."""
    try:
        tasks = read_tasks(source.folder)
        used = {index for file in source.files for index in np.unique(source.file_column(file, "task_index")).tolist()}
    except MaskACTError as error:
        yield of_error(error, source.folder)
        return
    for index in sorted(used - set(tasks)):
        yield Finding(TASKS, f"has no task {index}, which rows have")
    if source.info.get("total_tasks", len(tasks)) != len(tasks):
        yield Finding(INFO, f"total_tasks is {source.info['total_tasks']}; there are {len(tasks)}")


def _empty_files(source: LeRobotFolder) -> Iterator[Finding]:
    for file in source.files:
        if not file.rows:
            yield Finding(inside(source.folder, str(file.path)), "has no rows; allowed: at least 1")


def _episodes(source: LeRobotFolder) -> Iterator[Finding]:
    """They are 0, 1, … and follow each other without gap or overlap, each in its data file."""
    files = {file.path: file for file in source.files}
    start = 0
    for number, episode in enumerate(source.episodes):
        where = f"meta/episodes, episode {episode.index}"
        if episode.index != number:
            yield Finding(where, f"is where episode {number} belongs")
        if episode.start != start:
            yield Finding(where, f"begins at row {episode.start}; allowed: {start}, where the one before ends")
        if episode.length < 1 or episode.end - episode.start != episode.length:
            yield Finding(where, f"length is {episode.length}, but it goes from row {episode.start} to {episode.end}")
        shown = inside(source.folder, str(episode.data_file))
        file = files.get(episode.data_file)
        if file is None:
            yield Finding(where, f"its data file {shown} is missing")
        elif not file.start <= episode.start <= episode.end <= file.start + file.rows:
            held = f"{file.start} to {file.start + file.rows}"
            yield Finding(where, f"has rows {episode.start} to {episode.end}, its data file {shown} {held}")
        for name, span in episode.videos.items():
            if span.end - span.first != episode.length:
                yield Finding(where, f"has {episode.length} rows, but {span.end - span.first} frames of {name}")
        start = episode.end
    if start != source.rows:
        yield Finding("meta/episodes", f"the episodes have {start} rows together, the data files {source.rows}")
