"""The numbers of a dataset, checked: indices, timestamps, stamps, states and actions, and the statistics of all."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.documents import read_json
from maskact_ros.core.errors import MaskACTError
from maskact_ros.data.datasets.dataset import Report, is_stamp, read_stamps
from maskact_ros.data.datasets.feature_statistics import of_vectors
from maskact_ros.data.datasets.lerobot_layout import ACTION, STAMP, STATE
from maskact_ros.data.datasets.lerobot_reader import DataFile, LeRobotFolder
from maskact_ros.data.inspection.findings import Finding, few, inside, of_error, of_rows

STATISTICS = "meta/stats.json"
_TIMESTAMP_TOLERANCE_S = 1e-4  # LeRobot's own
_STAMP_TOLERANCE = 0.5  # policy periods; beyond, a picture is missing or one too many
_RATE_TOLERANCE = 0.05  # more than a conversion ever follows
_SHORTEST_RATED_S = 2.0  # in less, the jitter of two stamps would tell
_STATISTICS_TOLERANCE = 1e-4  # of the feature's extent; other tools compute in single precision


def check_rows(source: LeRobotFolder, joints: int) -> Iterator[Finding]:
    """Column by column and file by file, so that one torn file hides no other."""
    ends = np.minimum(np.cumsum([min(max(0, e.length), source.rows) for e in source.episodes]), source.rows)
    lengths = np.diff(ends, prepend=0)  # as far as there are rows, whatever the episodes claim
    frames = np.concatenate([np.empty(0, int), *(np.arange(length) for length in lengths)])
    expected = {
        "index": np.arange(len(frames)),
        "episode_index": np.repeat(np.arange(len(lengths)), lengths),
        "frame_index": frames,
        "timestamp": frames / source.fps,
    }
    for file in source.files:
        rows = slice(file.start, file.start + file.rows)
        for name in [*expected, STAMP, STATE, ACTION]:
            try:
                values = source.file_column(file, name)
            except MaskACTError as error:
                yield of_error(error, source.folder)
                continue
            values = values.reshape(file.rows, -1)[: len(frames[rows])]  # (rows, D)
            if name in expected:
                yield from _equal(source, file, name, values, expected[name][rows])
            elif name == STAMP:
                if wrong := list(_stamps(source, file, values)):
                    yield from wrong
                    continue
                yield from _steady(source, file, values, frames[rows])
                yield from _rates(source, file, values)
            else:
                yield from _finite(source, file, name, values, joints)


def _equal(
    source: LeRobotFolder, file: DataFile, name: str, values: NDArray[Any], expected: NDArray[Any]
) -> Iterator[Finding]:
    tolerance = _TIMESTAMP_TOLERANCE_S if name == "timestamp" else 0
    wrong = np.flatnonzero(~(np.abs(values[:, 0] - expected) <= tolerance))
    yield from of_rows(source, file, wrong, lambda i: f"{name} is {values[i, 0]:g}; allowed: {expected[i]:g}")


def _stamps(source: LeRobotFolder, file: DataFile, values: NDArray[Any]) -> Iterator[Finding]:
    if values.shape[1] != 1:
        where = str(file.path.relative_to(source.folder))
        yield Finding(where, f"{STAMP} has {values.shape[1]} numbers a row; allowed: 1")
        return
    wrong = np.flatnonzero(~is_stamp(values[:, 0]))
    yield from of_rows(source, file, wrong, lambda i: f"{STAMP} is {values[i, 0]}; allowed: nanoseconds")


def _steady(
    source: LeRobotFolder, file: DataFile, stamps_ns: NDArray[Any], frames: NDArray[np.int64]
) -> Iterator[Finding]:
    """A constant frame rate: within an episode, each picture comes one period after the one before."""
    steps_s = np.diff(stamps_ns[:, 0]) / 1e9
    wrong = 1 + np.flatnonzero((np.abs(steps_s * source.fps - 1) > _STAMP_TOLERANCE) & (frames[1:] > 0))
    yield from of_rows(
        source,
        file,
        wrong,
        lambda i: f"{STAMP} is {steps_s[i - 1]:.4f} s after the row before; allowed: about {1 / source.fps:.4f} s",
    )


def _rates(source: LeRobotFolder, file: DataFile, stamps_ns: NDArray[Any]) -> Iterator[Finding]:
    """Each long enough episode's rows come at fps on average; steps that are wrong by themselves do not count."""
    wrong = []
    for episode in source.episodes:
        start, end = episode.start - file.start, episode.start - file.start + episode.length
        if start < 0 or end > len(stamps_ns) or episode.length < _SHORTEST_RATED_S * source.fps:
            continue
        steps = np.diff(stamps_ns[start:end, 0]) / 1e9 * source.fps  # in periods
        steps = steps[np.abs(steps - 1) <= _STAMP_TOLERANCE]
        if len(steps) and abs(1 / steps.mean() - 1) > _RATE_TOLERANCE:
            wrong.append((episode.index, source.fps / steps.mean()))
    name = str(file.path.relative_to(source.folder))
    findings = (
        Finding(f"{name}, episode {index}", f"its rows come at {rate_hz:.2f} Hz by {STAMP}; fps is {source.fps:g}")
        for index, rate_hz in wrong
    )
    yield from few(findings, len(wrong), name, "episodes")


def check_times(source: LeRobotFolder, report: Report) -> Iterator[Finding]:
    """Episodes of one recording follow each other in time: none reaches into the next one."""
    try:
        stamps_ns = read_stamps(source)
    except MaskACTError:
        return  # which check_rows tells
    for before, episode in itertools.pairwise(source.episodes):
        recording = report.of(episode.index).get("source")
        last, first = before.start + before.length - 1, episode.start
        if not recording or report.of(before.index).get("source") != recording:
            continue
        if 0 <= last < len(stamps_ns) and first < len(stamps_ns) and stamps_ns[first] <= stamps_ns[last]:
            yield Finding(
                f"meta/episodes, episode {episode.index}",
                f"begins {(stamps_ns[last] - stamps_ns[first]) / 1e9:.3f} s before episode {before.index} of the same "
                f"recording ends, by {STAMP}",
            )


def _finite(source: LeRobotFolder, file: DataFile, name: str, values: NDArray[Any], joints: int) -> Iterator[Finding]:
    if values.shape[1] != joints:
        where = str(file.path.relative_to(source.folder))
        yield Finding(where, f"{name} has {values.shape[1]} numbers a row; allowed: {joints}, one for each joint")
        return
    wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
    yield from of_rows(source, file, wrong, lambda i: f"{name} is {values[i].tolist()}; allowed: finite numbers")


def check_statistics(source: LeRobotFolder) -> Iterator[Finding]:
    """Those of numbers are computed anew; those of pictures must be there."""
    try:
        told = read_json(source.folder / STATISTICS)
    except MaskACTError as error:
        yield Finding(STATISTICS, inside(source.folder, str(error)).removeprefix(f"{STATISTICS}: "))
        return
    for name, feature in source.features.items():
        if not isinstance(told.get(name), dict):
            yield Finding(STATISTICS, f"there are none of {name}")
        elif feature["dtype"] not in ("image", "video", "string"):
            try:
                values = source.column(name)
            except MaskACTError:
                continue  # which check_rows tells
            if len(values) and np.isfinite(values).all():
                yield from _recomputed(name, told[name], values.reshape(len(values), -1))


def _recomputed(name: str, told: dict[str, Any], values: NDArray[Any]) -> Iterator[Finding]:
    found = of_vectors(values)
    extent = np.maximum(found["max"] - found["min"], np.abs(found["max"]) * 1e-3) + 1e-9
    for entry in ("count", "min", "max", "mean", "std"):
        try:
            numbers = np.asarray(told[entry], np.float64).reshape(found[entry].shape)
        except (LookupError, TypeError, ValueError):
            yield Finding(STATISTICS, f"{entry} of {name} is missing, or not {found[entry].size} numbers")
            continue
        tolerance = 0 if entry == "count" else _STATISTICS_TOLERANCE * extent
        for i in np.flatnonzero(~(np.abs(numbers - found[entry]) <= tolerance))[:1]:
            yield Finding(
                STATISTICS, f"{entry} of {name}, element {i}, is {numbers[i]:g}; the rows' is {found[entry][i]:g}"
            )
