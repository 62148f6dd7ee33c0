"""`DatasetWriter`: rows of episodes → a LeRobotDataset v3.0 folder, complete or absent.

In: `Row`s, one episode after the other. Out: `meta/`, `data/` and `videos/` as that format lays them out, with the
robot, the class names and a report per episode inside (`meta/maskact/`). Memory holds a few tens of MiB of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from maskact_ros.core.folders import complete_or_absent
from maskact_ros.data.datasets.dataset import DATASET
from maskact_ros.data.datasets.feature_statistics import FeatureTable, PictureStatistics, of_vectors
from maskact_ros.data.datasets.lerobot_layout import (
    ACTION,
    DATA_FILE_MB,
    FILES_PER_CHUNK,
    IMAGE,
    OURS,
    STAMP,
    STATE,
    VIDEO_FILE_MB,
    DatasetError,
    Layout,
    Row,
    data_path,
    video_path,
)
from maskact_ros.data.datasets.lerobot_meta import write_meta, write_report
from maskact_ros.data.datasets.video import VideoWriter

__all__ = ["DatasetError", "DatasetWriter", "Layout", "Row", "open_data_file"]

_ROW_GROUP_BYTES = 32 * 2**20
_LOOK_EVERY = 10  # pictures; statistics need no more
PICTURE_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]
MASK_PNG = [  # areas of one id: runs along the rows are all there is to find
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
]


@dataclass
class _Episode:
    """The rows of an episode that its statistics need once it ends."""

    states: list[NDArray[np.float32]] = field(default_factory=list)
    actions: list[NDArray[np.float32]] = field(default_factory=list)
    stamps_ns: list[int] = field(default_factory=list)
    picture: PictureStatistics = field(default_factory=lambda: PictureStatistics(3))
    mask: PictureStatistics = field(default_factory=lambda: PictureStatistics(1))


class DatasetWriter:
    """Writes a dataset; as a context manager, it is there when the block ends well, and absent when it does not."""

    def __init__(self, folder: Path, layout: Layout, *, overwrite: bool = False, sources: Iterable[Path] = ()):
        self.documents: dict[str, str] = {}  # further files of meta/maskact
        self.report: dict[str, Any] = {}  # further entries of its report.json
        self._layout = layout
        self._target: AbstractContextManager[Path] = complete_or_absent(
            folder, DATASET, overwrite=overwrite, sources=sources
        )
        self._schema = layout.schema()
        self._columns: dict[str, list[Any]] = {name: [] for name in self._schema.names}
        self._waiting_bytes = 0
        self._data: pq.ParquetWriter | None = None
        self._video: VideoWriter | None = None
        self._data_file, self._video_file = -1, -1
        self._video_from = 0  # the episode's first picture in its file
        self._episode = _Episode()
        self._episodes: list[dict[str, Any]] = []
        self._tables: list[dict[str, FeatureTable]] = []
        self._reports: list[dict[str, Any]] = []
        self._rows = 0  # of whole episodes

    def __enter__(self) -> Self:
        self._folder = self._target.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            try:
                self._finish()
            except BaseException as late:
                self._abandon()
                if not self._target.__exit__(type(late), late, late.__traceback__):
                    raise
                return
        else:
            self._abandon()
        self._target.__exit__(kind, error, traceback)

    def add(self, row: Row) -> None:
        """Append a row to the episode; raises DatasetError when it does not fit the layout."""
        self.check(row)
        episode, layout = self._episode, self._layout
        frame_index = len(episode.stamps_ns)
        if self._data is None:
            self._data = self._next_data_file()
        if layout.pictures == "video" and self._video is None:
            self._video = self._next_video_file()
        values: dict[str, Any] = {
            STATE: row.state.astype(np.float32),
            ACTION: row.action.astype(np.float32),
            STAMP: row.stamp_ns,
            "timestamp": frame_index / layout.fps,
            "frame_index": frame_index,
            "episode_index": len(self._episodes),
            "index": self._rows + frame_index,
            "task_index": 0,
        }
        if self._video is not None:
            self._video.add(row.rgb)
        else:
            values[layout.image_key] = self._png(row.rgb[:, :, ::-1], PICTURE_PNG, frame_index)
        if row.mask is not None:
            values[layout.mask_key] = self._png(row.mask, MASK_PNG, frame_index)
        for name, value in values.items():
            self._columns[name].append(value)
        episode.states.append(values[STATE])
        episode.actions.append(values[ACTION])
        episode.stamps_ns.append(row.stamp_ns)
        if frame_index % _LOOK_EVERY == 0:
            episode.picture.add(row.rgb)
            if row.mask is not None:
                episode.mask.add(row.mask[:, :, None])
        if self._waiting_bytes >= _ROW_GROUP_BYTES:
            self._write_row_group()

    def end_episode(self, source: str, notes: Mapping[str, Any] | None = None) -> None:
        """Close the episode, which has rows; `source` and `notes` go into the report."""
        length = len(self._episode.stamps_ns)
        assert length > 0
        assert self._data is not None
        self._write_row_group()
        index = len(self._episodes)
        entry: dict[str, Any] = {
            "episode_index": index,
            "tasks": [self._layout.task],
            "length": length,
            "data/chunk_index": self._data_file // FILES_PER_CHUNK,
            "data/file_index": self._data_file % FILES_PER_CHUNK,
            "dataset_from_index": self._rows,
            "dataset_to_index": self._rows + length,
        }
        if self._video is not None:
            video, fps = f"videos/{self._layout.image_key}", self._layout.fps
            entry[f"{video}/chunk_index"] = self._video_file // FILES_PER_CHUNK
            entry[f"{video}/file_index"] = self._video_file % FILES_PER_CHUNK
            entry[f"{video}/from_timestamp"] = self._video_from / fps
            entry[f"{video}/to_timestamp"] = (self._video_from + length) / fps
            self._video_from += length
        self._episodes.append(entry)
        self._tables.append(self._episode_table(index, length))
        self._reports.append({"index": index, "source": source, "frames": length, **(notes or {})})
        self._rows += length
        self._episode = _Episode()
        self._close_full_files()

    def check(self, row: Row) -> None:
        """Raise DatasetError when a row does not fit the layout."""
        robot, classes = self._layout.robot, self._layout.mask_classes
        camera, joints = robot.only_camera, len(robot.joints)
        for name, vector in ((STATE, row.state), (ACTION, row.action)):
            if vector.shape != (joints,) or not np.isfinite(vector).all():
                raise DatasetError(f"{name} at stamp {row.stamp_ns} is {vector}; allowed: {joints} finite numbers")
        if row.rgb.shape != (camera.height, camera.width, 3):
            raise DatasetError(
                f"the picture at stamp {row.stamp_ns} is {row.rgb.shape[1]}x{row.rgb.shape[0]}; "
                f"allowed, as the robot says of camera {camera.name}: {camera.width}x{camera.height}"
            )
        if (row.mask is None) != (classes is None):
            raise DatasetError(f"the row at stamp {row.stamp_ns} has {'no' if row.mask is None else 'a'} mask")
        if row.mask is not None and classes is not None:
            if row.mask.shape != row.rgb.shape[:2]:
                raise DatasetError(
                    f"the mask at stamp {row.stamp_ns} is {row.mask.shape[1]}x{row.mask.shape[0]}; "
                    f"allowed, as its picture: {camera.width}x{camera.height}"
                )
            if (largest := int(row.mask.max())) >= len(classes):
                raise DatasetError(
                    f"the mask at stamp {row.stamp_ns} has class id {largest}; "
                    f"allowed: 0 to {len(classes) - 1}, {', '.join(classes)}"
                )

    def _png(self, picture: NDArray[np.uint8], options: list[int], frame_index: int) -> dict[str, Any]:
        content = cv2.imencode(".png", picture, options)[1].tobytes()
        self._waiting_bytes += len(content)
        return {"bytes": content, "path": f"frame-{frame_index:06d}.png"}

    def _write_row_group(self) -> None:
        assert self._data is not None
        if self._columns[STAMP]:
            arrays = [_array(self._columns[entry.name], entry.type) for entry in self._schema]
            self._data.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        for values in self._columns.values():
            values.clear()
        self._waiting_bytes = 0

    def _episode_table(self, index: int, length: int) -> dict[str, FeatureTable]:
        episode, frames = self._episode, np.arange(length)
        numbers = {
            STAMP: np.array(episode.stamps_ns),
            "timestamp": frames / self._layout.fps,
            "frame_index": frames,
            "episode_index": np.full(length, index),
            "index": frames + self._rows,
            "task_index": np.zeros(length),
        }
        tables = {name: of_vectors(values[:, None]) for name, values in numbers.items()}
        tables |= {STATE: of_vectors(np.stack(episode.states)), ACTION: of_vectors(np.stack(episode.actions))}
        tables[self._layout.image_key] = episode.picture.table()
        if self._layout.mask_classes is not None:
            tables[self._layout.mask_key] = episode.mask.table()
        return tables

    def _next_data_file(self) -> pq.ParquetWriter:
        self._data_file += 1
        return open_data_file(self._folder / data_path(self._data_file), self._schema)

    def _next_video_file(self) -> VideoWriter:
        self._video_file += 1
        self._video_from = 0
        path = self._folder / video_path(self._layout.image_key, self._video_file)
        path.parent.mkdir(parents=True, exist_ok=True)
        camera = self._layout.robot.only_camera
        return VideoWriter(path, width=camera.width, height=camera.height, fps=self._layout.fps)

    def _close_full_files(self) -> None:
        path = self._folder / data_path(self._data_file)
        if self._data is not None and path.stat().st_size >= DATA_FILE_MB * 2**20:
            self._data.close()
            self._data = None
        if self._video is not None and self._video.path.stat().st_size >= VIDEO_FILE_MB * 2**20:
            self._video.close()
            self._video = None

    def _finish(self) -> None:
        if self._episode.stamps_ns:
            raise DatasetError("the last episode was not ended")
        if self._data is not None:
            self._data.close()
        if self._video is not None:
            self._video.close()
        write_meta(self._folder, self._layout, self._episodes, self._tables)
        ours = self._folder / OURS
        for name, text in self.documents.items():
            (ours / name).write_text(text, encoding="utf-8")
        write_report(self._folder, {**self.report, "episodes": self._reports})

    def _abandon(self) -> None:
        if self._data is not None:
            self._data.close()
        if self._video is not None:
            self._video.abandon()


def open_data_file(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A data file to write row groups to; PNGs are not compressed once more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = [entry.name for entry in schema if entry.type != IMAGE]
    return pq.ParquetWriter(
        path,
        schema,
        compression={entry.name: "snappy" if entry.type != IMAGE else "none" for entry in schema},
        use_dictionary=False,
        write_statistics=plain,
    )


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(values)), kind.list_size)
    return pa.array(values, kind)
