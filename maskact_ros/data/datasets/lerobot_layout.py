"""What a LeRobotDataset v3.0 of ours holds: features, columns, file names, and the `Row` that all of it is made of.

The format's own columns (timestamp, frame_index, episode_index, index, task_index) are beside ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.robot import RobotSpec
from maskact_ros.data.datasets.video import CODEC, PIXELS

VERSION = "v3.0"
STATE, ACTION, STAMP = "observation.state", "action", "stamp_ns"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"
OURS = "meta/maskact"  # contract.yaml, robot.yaml, report.json
FILES_PER_CHUNK, DATA_FILE_MB, VIDEO_FILE_MB = 1000, 100, 200
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
Pictures = Literal["video", "png"]


class DatasetError(MaskACTError):
    """Rows that do not make a dataset: the text names the feature, its value and what is allowed."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What every row of a dataset has; raises DatasetError when the format has no room for it."""

    robot: RobotSpec
    pictures: Pictures = "video"
    mask_classes: tuple[str, ...] | None = None  # names of the ids 0, 1, …; None without masks
    task: str = "do the task"

    def __post_init__(self) -> None:
        rate_hz = self.robot.policy_rate_hz
        if rate_hz != round(rate_hz):
            raise DatasetError(f"policy_rate_hz is {rate_hz:g}; allowed in a LeRobotDataset: a whole number")

    @property
    def fps(self) -> int:
        """Rows per second."""
        return round(self.robot.policy_rate_hz)

    @property
    def image_key(self) -> str:
        """The pictures' feature."""
        return f"observation.images.{self.robot.only_camera.name}"

    @property
    def mask_key(self) -> str:
        """The masks' feature."""
        return f"observation.masks.{self.robot.only_camera.name}"

    def features(self) -> dict[str, dict[str, Any]]:
        """The features as `info.json` declares them."""
        camera, names = self.robot.only_camera, list(self.robot.joint_names)
        size, sides = [camera.height, camera.width], ["height", "width", "channels"]
        vector = {"dtype": "float32", "shape": [len(names)], "names": names}
        image: dict[str, Any] = {"dtype": "image", "shape": [*size, 3], "names": sides}
        if self.pictures == "video":
            image["dtype"] = "video"
            image["info"] = {
                "video.height": camera.height,
                "video.width": camera.width,
                "video.codec": CODEC,
                "video.pix_fmt": PIXELS,
                "video.is_depth_map": False,
                "video.fps": self.fps,
                "video.channels": 3,
                "has_audio": False,
            }
        features = {STATE: vector, ACTION: dict(vector), self.image_key: image}
        if self.mask_classes is not None:
            classes = {"classes": list(self.mask_classes)}
            features[self.mask_key] = {"dtype": "image", "shape": [*size, 1], "names": sides, "info": classes}
        for name in (STAMP, "timestamp", "frame_index", "episode_index", "index", "task_index"):
            number = "float32" if name == "timestamp" else "int64"
            features[name] = {"dtype": number, "shape": [1], "names": None}
        return features

    def schema(self) -> pa.Schema:
        """The columns of the data files."""
        return pa.schema([(name, _column(entry)) for name, entry in self.features().items() if _in_table(entry)])


@dataclass(frozen=True)
class Row:
    """One observation and what was commanded for a policy period later."""

    stamp_ns: int
    state: NDArray[np.float64]  # (D,)
    action: NDArray[np.float64]  # (D,)
    rgb: NDArray[np.uint8]  # (H, W, 3)
    mask: NDArray[np.uint8] | None = None  # (H, W), class ids


def data_path(number: int) -> str:
    """The `number`-th data file."""
    return DATA_PATH.format(chunk_index=number // FILES_PER_CHUNK, file_index=number % FILES_PER_CHUNK)


def video_path(key: str, number: int) -> str:
    """The `number`-th video of a feature."""
    chunk, file = divmod(number, FILES_PER_CHUNK)
    return VIDEO_PATH.format(video_key=key, chunk_index=chunk, file_index=file)


def _in_table(entry: Mapping[str, Any]) -> bool:
    return bool(entry["dtype"] != "video")


def _column(entry: Mapping[str, Any]) -> pa.DataType:
    if entry["dtype"] == "image":
        return IMAGE
    number = pa.float32() if entry["dtype"] == "float32" else pa.int64()
    return number if entry["shape"] == [1] and entry["names"] is None else pa.list_(number, entry["shape"][0])
