"""`Dataset`: a finished dataset of this package, as the trainer and whoever looks into it see it.

In: a LeRobotDataset v3.0 whose meta/maskact holds robot.yaml, contract.yaml and report.json. Out: states, actions and
stamps as arrays, and each episode's pictures with their masks, decoded in order when asked for.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.documents import LONGEST_NAME, read_json, shortened
from maskact_ros.core.outputs import Kind
from maskact_ros.core.robot import RobotSpec
from maskact_ros.core.statistics import FeatureStatistics, Statistics
from maskact_ros.data.datasets.lerobot_layout import ACTION, OURS, STAMP, STATE, DatasetError, Layout
from maskact_ros.data.datasets.lerobot_reader import INFO, LeRobotFolder
from maskact_ros.data.datasets.report_checks import check_report

_END_BYTES = 1 << 20
_MOST_CLASSES = 256  # ids of eight bits
_LATEST_NS = 2.0**62  # a century after 1970
ROBOT, CONTRACT, REPORT = f"{OURS}/robot.yaml", f"{OURS}/contract.yaml", f"{OURS}/report.json"


@dataclass(frozen=True, kw_only=True)
class EpisodeInfo:
    """An episode: its rows in the dataset's arrays, and what it was made from."""

    index: int
    start: int
    length: int
    source: str  # the bag or file; empty where nobody wrote it down


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What a camera saw: RGB uint8 (H, W, 3), and class ids uint8 (H, W) where the dataset has masks."""

    rgb: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Rows of one robot at its policy's rate; the action of row n is what was commanded for one period later."""

    folder: Path
    identity: str  # of its own, also among datasets of the same rows; empty where nobody wrote one down
    robot: RobotSpec
    fps: float
    mask_classes: tuple[str, ...] | None  # None without masks
    episodes: tuple[EpisodeInfo, ...]
    states: NDArray[np.float32]  # (N, D)
    actions: NDArray[np.float32]  # (N, D)
    stamps_ns: NDArray[np.int64]  # (N,), of the pictures
    _source: LeRobotFolder = field(repr=False)

    @classmethod
    def open(cls, folder: str | Path) -> Dataset:
        """Read all but the pictures.

        Raises:
            MaskACTError: the folder is no LeRobotDataset v3.0, not of this package, torn, or its rows do not fit its
                episodes or its robot.
        """
        source = LeRobotFolder.open(folder)
        robot = read_robot(source.folder)
        if source.fps != robot.policy_rate_hz:
            raise DatasetError(
                f"{source.folder}: fps is {source.fps:g}, but its robot's policy_rate_hz {robot.policy_rate_hz:g}"
            )
        check_layout(source)
        joints = len(robot.joints)
        report = read_report(source.folder)
        return cls(
            folder=source.folder,
            identity=report.identity,
            robot=robot,
            fps=source.fps,
            mask_classes=mask_classes(source, Layout(robot=robot).mask_key),
            episodes=tuple(
                EpisodeInfo(
                    index=e.index, start=e.start, length=e.length, source=str(report.of(e.index).get("source", ""))
                )
                for e in source.episodes
            ),
            states=_positions(source, STATE, joints),
            actions=_positions(source, ACTION, joints),
            stamps_ns=read_stamps(source),
            _source=source,
        )

    @property
    def statistics(self) -> Statistics:
        """Mean, standard deviation, minimum and maximum of the states and actions, of all rows."""
        return Statistics(state=_statistics(self.states), action=_statistics(self.actions))

    def frames(self, episode_index: int, skip: int = 0) -> Iterator[Frame]:
        """An episode's pictures in order, from its row `skip` on, decoded as they are asked for.

        Raises:
            DatasetError: one is damaged.
        """
        if not 0 <= episode_index < len(self.episodes):
            raise DatasetError(
                f"{self.folder}: episode {episode_index}; allowed: 0 to {len(self.episodes) - 1}, which it has"
            )
        episode = self._source.episodes[episode_index]
        layout = Layout(robot=self.robot)
        pictures = self._source.pictures(layout.image_key, episode, skip)
        if self.mask_classes is None:
            for rgb in pictures:
                yield Frame(rgb=rgb, mask=None)
            return
        for rgb, mask in zip(pictures, self._source.masks(layout.mask_key, episode, skip), strict=True):
            if rgb.shape[:2] != mask.shape:
                raise DatasetError(
                    f"{self.folder}: episode {episode_index} has pictures of {rgb.shape[1]}x{rgb.shape[0]} and masks "
                    f"of {mask.shape[1]}x{mask.shape[0]}; allowed: one size"
                )
            yield Frame(rgb=rgb, mask=mask)

    def pictures_digest(self) -> str:
        """SHA-256 of the names, sizes, beginnings and ends of all files that hold rows and pictures.

        Both formats keep a table of all that they hold at an end, so that other pictures are another digest.
        """
        digest = hashlib.sha256()
        videos = {span.path for episode in self._source.episodes for span in episode.videos.values()}
        for path in sorted({*videos, *(file.path for file in self._source.files)}):
            try:
                with path.open("rb") as file:
                    size = file.seek(0, os.SEEK_END)
                    digest.update(repr((path.relative_to(self.folder).as_posix(), size)).encode())
                    for at in (0, max(0, size - _END_BYTES)):
                        file.seek(at)
                        digest.update(file.read(_END_BYTES))
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise DatasetError(f"{path}: cannot be read as a file of {self.folder} ({reason})") from None
        return digest.hexdigest()


def read_robot(folder: Path) -> RobotSpec:
    """The robot whose dataset it is; raises MaskACTError."""
    if not (folder / ROBOT).is_file():
        raise DatasetError(
            f"{folder}: it has no {ROBOT}; maskact import makes a dataset of ours from any LeRobotDataset"
        )
    return RobotSpec.from_yaml(folder / ROBOT)


def mask_classes(source: LeRobotFolder, name: str) -> tuple[str, ...] | None:
    """The names of a mask's classes, by id; None where the dataset has no such masks; raises DatasetError."""
    if name not in source.features:
        return None
    declared = source.features[name].get("info")
    classes = declared.get("classes") if isinstance(declared, Mapping) else None
    if not isinstance(classes, list) or not 0 < len(classes) <= _MOST_CLASSES or not all(map(_is_name, classes)):
        raise DatasetError(
            f"{source.folder / INFO}: info.classes of {name} is {shortened(repr(classes))}; allowed: a list of names, "
            f"at most {_MOST_CLASSES}"
        )
    return tuple(classes)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_NAME


@dataclass(frozen=True, kw_only=True)
class Report:
    """How a dataset was made, as meta/maskact/report.json tells it."""

    values: Mapping[str, Any]

    @property
    def identity(self) -> str:
        """The dataset's; empty when it does not know it."""
        return str(self.values.get("id", ""))

    def of(self, episode: int) -> Mapping[str, Any]:
        """What it tells of an episode; nothing when it does not know it."""
        entries = self.values["episodes"]
        return entries[episode] if 0 <= episode < len(entries) else {}


def read_report(folder: Path) -> Report:
    """The report; raises MaskACTError when there is none, or it is none."""
    values = read_json(folder / REPORT, any_size=True)
    check_report(folder / REPORT, values)
    return Report(values={"episodes": [], "bags": []} | values)


# The caches that training puts into a dataset are made from it, and go with it.
DATASET = Kind(
    name="a dataset",
    marker=REPORT,
    read=read_report,
    files=r"meta/(info\.json|stats\.json|tasks\.parquet|episodes/chunk-\d+/file-\d+\.parquet"
    r"|maskact/(contract\.yaml|robot\.yaml|report\.json))"
    r"|data/chunk-\d+/file-\d+\.parquet|videos/[^/]+/chunk-\d+/file-\d+\.mp4"
    r"|\.cache/(\.?frames-[^/]+/(rgb\.npy|masks\.npy|about\.json)|\.?features-[^/]+)",
)


def check_layout(source: LeRobotFolder) -> None:
    """Raise DatasetError unless every file has rows, and episodes 0, 1, … cover them without gap or overlap."""
    for file in source.files:
        if not file.rows:
            raise DatasetError(f"{file.path}: has no rows; allowed: at least 1")
    if not source.episodes:
        raise DatasetError(f"{source.folder}: it has no episodes; allowed: at least one")
    start = 0
    for number, episode in enumerate(source.episodes):
        if (episode.index, episode.start) != (number, start) or episode.length < 1:
            raise DatasetError(
                f"{source.folder}: episode {episode.index} has {episode.length} rows from {episode.start} on; "
                f"allowed: episode {number}, from row {start} on, at least 1 row"
            )
        start += episode.length
        if episode.end != start:
            raise DatasetError(
                f"{source.folder}: episode {episode.index} ends at row {episode.end}; allowed: {start}, by its length"
            )
    if start != source.rows:
        raise DatasetError(f"{source.folder}: its episodes have {start} rows together, its data files {source.rows}")


def _positions(source: LeRobotFolder, name: str, joints: int) -> NDArray[np.float32]:
    values = vectors(source, name)
    if values.shape[1] != joints:
        raise DatasetError(f"{source.folder}: {name} has {values.shape[1]} numbers a row, its robot {joints} joints")
    return values


def vectors(source: LeRobotFolder, name: str) -> NDArray[np.float32]:
    """A column of finite numbers (N, D); raises DatasetError."""
    values = source.column(name)
    values = values.reshape(len(values), -1)
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    wrong = np.flatnonzero(~np.isfinite(single).all(axis=1))
    if len(wrong):
        raise DatasetError(f"{source.folder}: {name} of row {wrong[0]} is not finite ({len(wrong)} such rows)")
    return single


def read_stamps(source: LeRobotFolder) -> NDArray[np.int64]:
    """The pictures' stamps in nanoseconds (N,); raises DatasetError on what is none."""
    values = source.column(STAMP)
    if values.size != source.rows:
        raise DatasetError(
            f"{source.folder}: {STAMP} has {values.size} numbers in {source.rows} rows; allowed: one each"
        )
    values = values.reshape(-1)
    if len(wrong := np.flatnonzero(~is_stamp(values))):
        raise DatasetError(
            f"{source.folder}: {STAMP} of row {wrong[0]} is {values[wrong[0]]}; allowed: nanoseconds "
            f"({len(wrong)} such rows)"
        )
    return values.astype(np.int64)


def is_stamp(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether numbers can be times in nanoseconds: finite, and of less than 63 bits."""
    possible: NDArray[np.bool_] = np.isfinite(values) & (np.abs(values.astype(np.float64)) < _LATEST_NS)
    return possible


def _statistics(values: NDArray[np.float32]) -> FeatureStatistics:
    exact = values.astype(np.float64)  # (N, D)
    return FeatureStatistics(
        mean=tuple(exact.mean(axis=0).tolist()),
        std=tuple(exact.std(axis=0).tolist()),
        min=tuple(exact.min(axis=0).tolist()),
        max=tuple(exact.max(axis=0).tolist()),
    )
