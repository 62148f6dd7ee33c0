"""A LeRobotDataset v3.0 folder, read lazily: its table's columns as arrays, its pictures one by one.

In: a folder of anybody's. Out: what it says and holds; what cannot be read is one sentence with file and row.
Rows are counted over all data files in the order of their names, as LeRobot does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from maskact_ros.core.documents import read_json, shortened
from maskact_ros.core.paths import resolve_path
from maskact_ros.data.datasets.lerobot_layout import VERSION, DatasetError
from maskact_ros.data.datasets.parquet_file import names_of, numbers, opened, read_columns, whole_numbers
from maskact_ros.data.datasets.path_pattern import expanded
from maskact_ros.data.datasets.pictures import labels_of, picture_of, video_frames

INFO, EPISODES, DATA = "meta/info.json", "meta/episodes", "data"
_FASTEST, _MOST_EPISODES, _LONGEST_S = 10_000, 300_000, 1e9


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
        if not isinstance(fps, (int, float)) or isinstance(fps, bool) or not 0 < fps <= _FASTEST:
            raise DatasetError(
                f"{folder / INFO}: fps is {shortened(repr(fps))}; allowed: a number > 0 and <= {_FASTEST}"
            )
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
        return numbers(read_columns(file.path, [name])[name], f"{file.path}: column {name}")

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


def _parquet_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*/*.parquet"))
    if not files:
        raise DatasetError(f"{folder}: no parquet file; allowed: chunk-000/file-000.parquet and so on")
    return files


def _data_files(folder: Path) -> tuple[DataFile, ...]:
    files, start = [], 0
    for path in _parquet_files(folder / DATA):
        with opened(path) as table:
            rows, columns = table.metadata.num_rows, frozenset(table.schema_arrow.names)
        files.append(DataFile(path=path, start=start, rows=rows, columns=columns))
        start += rows
    return tuple(files)


_INDICES = ("episode_index", "length", "dataset_from_index", "dataset_to_index", "data/chunk_index", "data/file_index")


def _read_episodes(folder: Path, info: Mapping[str, Any], fps: float) -> tuple[EpisodeRows, ...]:
    videos = [name for name, feature in info["features"].items() if feature["dtype"] == "video"]
    indices = [*_INDICES, *(f"videos/{name}/{entry}_index" for name in videos for entry in ("chunk", "file"))]
    times = [f"videos/{name}/{entry}_timestamp" for name in videos for entry in ("from", "to")]
    episodes: list[EpisodeRows] = []
    for path in _parquet_files(folder / EPISODES):
        present = names_of(path)
        if missing := [name for name in (*indices, *times) if name not in present]:
            raise DatasetError(f"{path}: no column {', '.join(missing)}")
        read = read_columns(path, [*indices, *times])
        columns: dict[str, list[int]] = {
            name: whole_numbers(read[name], f"{path}: column {name}").tolist() for name in indices
        }
        for name in times:
            columns[name] = _frames(numbers(read[name], f"{path}: column {name}"), fps, f"{path}: column {name}")
        if len(episodes) + len(columns["length"]) > _MOST_EPISODES:
            raise DatasetError(f"{path}: there are more than {_MOST_EPISODES} episodes; allowed: up to that")
        places = _Places(folder, info)
        episodes += (_episode(places, columns, row, videos) for row in range(len(columns["length"])))
    return tuple(episodes)


def _frames(seconds: NDArray[Any], fps: float, shown: str) -> list[int]:
    """Numbers of frames at times (N,)."""
    if seconds.ndim != 1 or not np.isfinite(seconds).all() or not (np.abs(seconds) <= _LONGEST_S).all():
        raise DatasetError(f"{shown} has what is no time; allowed: seconds up to {_LONGEST_S:g}")
    frames: list[int] = np.round(seconds * fps).astype(np.int64).tolist()
    return frames


@dataclass
class _Places:
    """Where a dataset's files are; each is worked out once."""

    folder: Path
    info: Mapping[str, Any]
    _known: dict[tuple[str | int, ...], Path] = field(default_factory=dict)

    def of(self, entry: str, **values: str | int) -> Path:
        key = (entry, *values.values())
        if key not in self._known:
            shown = f"{self.folder / INFO}: {entry}"
            self._known[key] = expanded(self.folder, self.info.get(entry), values, shown)
        return self._known[key]


def _episode(places: _Places, columns: Mapping[str, list[int]], row: int, videos: list[str]) -> EpisodeRows:
    def place(prefix: str, entry: str, **values: str) -> Path:
        chunk, file = columns[f"{prefix}/chunk_index"][row], columns[f"{prefix}/file_index"][row]
        return places.of(entry, **values, chunk_index=chunk, file_index=file)

    return EpisodeRows(
        index=columns["episode_index"][row],
        start=columns["dataset_from_index"][row],
        end=columns["dataset_to_index"][row],
        length=columns["length"][row],
        data_file=place("data", "data_path"),
        videos={
            name: VideoSpan(
                path=place(f"videos/{name}", "video_path", video_key=name),
                first=columns[f"videos/{name}/from_timestamp"][row],
                end=columns[f"videos/{name}/to_timestamp"][row],
            )
            for name in videos
        },
    )


def _cells(file: DataFile, name: str, first: int, end: int) -> Iterator[tuple[int, Any]]:
    """Rows `first` to `end` of the whole table and what they hold, as far as they are in this file."""
    with opened(file.path) as table:
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
