"""A LeRobotDataset v3.0 folder, read lazily: its table's columns as arrays, its pictures one by one.

In: a folder of anybody's. Out: what it says and holds; what cannot be read is one sentence with file and row.
Rows are counted over all data files in the order of their names, as LeRobot does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from maskact_ros.core.documents import read_json, shortened
from maskact_ros.core.paths import resolve_path
from maskact_ros.data.datasets.lerobot_layout import VERSION, DatasetError
from maskact_ros.data.datasets.pictures import labels_of, picture_of, video_frames

INFO, EPISODES, DATA = "meta/info.json", "meta/episodes", "data"
_READ_BYTES = 1 << 20  # at a time, of a column of pictures that may be larger than memory


@dataclass(frozen=True, kw_only=True)
class VideoSpan:
    """Where an episode's frames are in a video file."""

    path: Path
    first: int  # frame, from 0
    end: int  # the frame after the last


@dataclass(frozen=True, kw_only=True)
class EpisodeRows:
    """An episode as meta/episodes tells it."""

    index: int
    start: int  # its first row in the whole table
    end: int  # the row after its last
    length: int  # rows
    data_file: Path
    videos: Mapping[str, VideoSpan]  # by feature


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """A parquet file of the table."""

    path: Path
    start: int  # its first row in the whole table
    rows: int
    columns: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class LeRobotFolder:
    """What a LeRobotDataset says about itself, and the way to its contents."""

    folder: Path
    info: Mapping[str, Any]  # meta/info.json
    fps: float
    features: Mapping[str, Mapping[str, Any]]  # each has dtype and shape
    episodes: tuple[EpisodeRows, ...]
    files: tuple[DataFile, ...]

    @classmethod
    def open(cls, folder: str | Path) -> LeRobotFolder:
        """Read all but rows and pictures; raises MaskACTError when it is no LeRobotDataset v3.0 or torn."""
        folder = resolve_path(folder)
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder; allowed: the folder of a LeRobotDataset {VERSION}")
        if not (folder / INFO).is_file():
            raise DatasetError(f"{folder}: no dataset, it has no {INFO}; allowed: a LeRobotDataset {VERSION}")
        info = read_json(folder / INFO)
        version = info.get("codebase_version")
        if version != VERSION:
            raise DatasetError(
                f"{folder}: codebase_version is {shortened(repr(version))}; allowed: {VERSION}, to which LeRobot's own "
                "converter brings older datasets"
            )
        fps, features = info.get("fps"), info.get("features")
        if not isinstance(fps, (int, float)) or not 0 < fps < math.inf:
            raise DatasetError(f"{folder / INFO}: fps is {shortened(repr(fps))}; allowed: a number > 0")
        if not isinstance(features, dict) or not all(_is_feature(feature) for feature in features.values()):
            raise DatasetError(f"{folder / INFO}: features; allowed: a mapping of names to dtype and shape")
        return cls(
            folder=folder,
            info=info,
            fps=fps,
            features=features,
            episodes=_read_episodes(folder, info, fps),
            files=_data_files(folder),
        )

    @property
    def rows(self) -> int:
        """Rows of all data files."""
        return sum(file.rows for file in self.files)

    def column(self, name: str) -> NDArray[Any]:
        """A column of numbers, (N,) or (N, D); raises DatasetError."""
        return np.concatenate([self.file_column(file, name) for file in self.files])

    def file_column(self, file: DataFile, name: str) -> NDArray[Any]:
        """One data file's part of a column; raises DatasetError."""
        if name not in file.columns:
            raise DatasetError(f"{file.path}: no column {name}; it has {', '.join(sorted(file.columns))}")
        try:
            column = pq.read_table(file.path, columns=[name]).column(name).combine_chunks()
        except (pa.ArrowException, OSError) as error:
            raise _torn(file.path, error) from None
        return _numbers(column, f"{file.path}: column {name}")

    def pictures(self, name: str, episode: EpisodeRows, skip: int = 0) -> Iterator[NDArray[np.uint8]]:
        """An episode's pictures of one camera, RGB (H, W, 3), in order, from its row `skip` on; raises DatasetError."""
        if name in episode.videos:
            span = episode.videos[name]
            yield from video_frames(span.path, first=span.first + skip, count=episode.length - skip, fps=self.fps)
            return
        for shown, content in self.contents(name, episode, skip):
            yield picture_of(content, shown)

    def masks(self, name: str, episode: EpisodeRows, skip: int = 0) -> Iterator[NDArray[np.uint8]]:
        """An episode's label images (H, W), in order, from its row `skip` on; raises DatasetError."""
        for shown, content in self.contents(name, episode, skip):
            yield labels_of(content, shown)

    def contents(self, name: str, episode: EpisodeRows, skip: int = 0) -> Iterator[tuple[str, bytes]]:
        """What to call each picture of an episode's rows from `skip` on, and its PNG or JPEG; raises DatasetError."""
        first, end = episode.start + skip, episode.start + episode.length
        for file in self.files:
            if file.start >= end or file.start + file.rows <= first:
                continue
            if name not in file.columns:
                raise DatasetError(f"{file.path}: no column {name}; it has {', '.join(sorted(file.columns))}")
            for row, cell in _cells(file, name, first, end):
                shown = f"{file.path}: {name} of row {row} (episode {episode.index}, frame {row - episode.start})"
                if not isinstance(cell, bytes):
                    raise DatasetError(f"{shown} holds no picture; allowed: the bytes of a PNG or JPEG")
                yield shown, cell


def _is_feature(feature: Any) -> bool:
    return (
        isinstance(feature, dict) and isinstance(feature.get("dtype"), str) and isinstance(feature.get("shape"), list)
    )


def _torn(path: Path, error: Exception) -> DatasetError:
    return DatasetError(f"{path}: cannot be read as parquet ({shortened(' '.join(str(error).split()))})")


def _parquet_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*/*.parquet"))
    if not files:
        raise DatasetError(f"{folder}: no parquet file; allowed: chunk-000/file-000.parquet and so on")
    return files


def _data_files(folder: Path) -> tuple[DataFile, ...]:
    files, start = [], 0
    for path in _parquet_files(folder / DATA):
        try:
            with pq.ParquetFile(path) as table:
                rows, columns = table.metadata.num_rows, frozenset(table.schema_arrow.names)
        except (pa.ArrowException, OSError) as error:
            raise _torn(path, error) from None
        files.append(DataFile(path=path, start=start, rows=rows, columns=columns))
        start += rows
    return tuple(files)


def _read_episodes(folder: Path, info: Mapping[str, Any], fps: float) -> tuple[EpisodeRows, ...]:
    videos = [name for name, feature in info["features"].items() if feature["dtype"] == "video"]
    needed = [
        "episode_index",
        "length",
        "dataset_from_index",
        "dataset_to_index",
        "data/chunk_index",
        "data/file_index",
    ]
    needed += [
        f"videos/{name}/{entry}"
        for name in videos
        for entry in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
    ]
    episodes = []
    for path in _parquet_files(folder / EPISODES):
        try:
            present = pq.read_schema(path).names
            missing = [name for name in needed if name not in present]
            if missing:
                raise DatasetError(f"{path}: no column {', '.join(missing)}")
            rows = pq.read_table(path, columns=needed).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise _torn(path, error) from None
        for row in rows:
            if None in row.values():
                empty = [name for name, value in row.items() if value is None]
                raise DatasetError(f"{path}: {', '.join(empty)} of episode {row['episode_index']} is empty")
            episodes.append(_episode(folder, info, fps, row, videos))
    return tuple(episodes)


def _episode(
    folder: Path, info: Mapping[str, Any], fps: float, row: Mapping[str, Any], videos: list[str]
) -> EpisodeRows:
    data_path, video_path = info.get("data_path"), info.get("video_path")
    try:
        data_file = folder / str(data_path).format(
            chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
        )
        spans = {
            name: VideoSpan(
                path=folder
                / str(video_path).format(
                    video_key=name,
                    chunk_index=row[f"videos/{name}/chunk_index"],
                    file_index=row[f"videos/{name}/file_index"],
                ),
                first=round(row[f"videos/{name}/from_timestamp"] * fps),
                end=round(row[f"videos/{name}/to_timestamp"] * fps),
            )
            for name in videos
        }
    except (LookupError, ValueError, AttributeError, TypeError, OverflowError):
        raise DatasetError(
            f"{folder / INFO}: data_path is {data_path!r}, video_path {video_path!r}; allowed: LeRobot's patterns"
        ) from None
    return EpisodeRows(
        index=row["episode_index"],
        start=row["dataset_from_index"],
        end=row["dataset_to_index"],
        length=row["length"],
        data_file=data_file,
        videos=spans,
    )


def _numbers(column: pa.Array, shown: str) -> NDArray[Any]:
    """Scalars (N,), or lists of one length (N, D)."""
    if column.null_count:
        raise DatasetError(f"{shown}: {column.null_count} of {len(column)} rows are empty")
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_fixed_size_list(column.type):
        values = _numbers(column.flatten(), shown)
        widths = (
            np.unique(pc.list_value_length(column).to_numpy(zero_copy_only=False)) if len(column) else np.zeros(1, int)
        )
        if len(widths) > 1:
            raise DatasetError(f"{shown}: rows have {widths.min()} to {widths.max()} numbers; allowed: all as many")
        return values.reshape(len(column), -1 if widths[0] else 0)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)):
        raise DatasetError(f"{shown} is of type {column.type}; allowed: numbers")
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _cells(file: DataFile, name: str, first: int, end: int) -> Iterator[tuple[int, Any]]:
    """Rows `first` to `end` of the whole table and what they hold, as far as they are in this file."""
    try:
        with pq.ParquetFile(file.path, buffer_size=_READ_BYTES) as table:
            sizes = [table.metadata.row_group(group).num_rows for group in range(table.metadata.num_row_groups)]
            starts = file.start + np.concatenate([[0], np.cumsum(sizes)])
            groups = [g for g, (low, high) in enumerate(itertools.pairwise(starts)) if low < end and high > first]
            row = int(starts[groups[0]])
            for batch in table.iter_batches(8, row_groups=groups, columns=[name]):
                pictures = batch.column(0)
                if pa.types.is_struct(pictures.type) and pictures.type.get_field_index("bytes") >= 0:
                    pictures = pictures.field("bytes")  # beside a path that nobody needs
                for cell in pictures:
                    if row >= end:
                        return
                    if row >= first:
                        yield row, cell.as_py()
                    row += 1
    except (pa.ArrowException, OSError) as error:
        raise _torn(file.path, error) from None
