"""`meta/` of a LeRobotDataset: info, statistics, tasks, the episodes' table, and the robot."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from maskact_ros.data.datasets.feature_statistics import FeatureTable, pooled
from maskact_ros.data.datasets.lerobot_layout import (
    DATA_FILE_MB,
    DATA_PATH,
    EPISODES_PATH,
    FILES_PER_CHUNK,
    OURS,
    VERSION,
    VIDEO_FILE_MB,
    VIDEO_PATH,
    Layout,
)


def write_meta(
    folder: Path, layout: Layout, episodes: list[dict[str, Any]], tables: list[dict[str, FeatureTable]]
) -> None:
    """Write `meta/`: info, stats, tasks, episodes with their statistics, and the robot."""
    frames = sum(entry["length"] for entry in episodes)
    features = layout.features()
    info = {
        "codebase_version": VERSION,
        "robot_type": layout.robot.name,
        "total_episodes": len(episodes),
        "total_frames": frames,
        "total_tasks": 1,
        "chunks_size": FILES_PER_CHUNK,
        "data_files_size_in_mb": DATA_FILE_MB,
        "video_files_size_in_mb": VIDEO_FILE_MB,
        "fps": layout.fps,
        "splits": {"train": f"0:{len(episodes)}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if layout.pictures == "video" else None,
        "features": features,
    }
    (folder / OURS).mkdir(parents=True, exist_ok=True)
    write_json(folder / "meta/info.json", info)
    named = [name for name in features if tables and name in tables[0]]
    stats = {name: pooled([episode[name] for episode in tables]) for name in named}
    write_json(folder / "meta/stats.json", {name: _lists(table) for name, table in stats.items()})
    _write_tasks(folder / "meta/tasks.parquet", layout.task)
    rows = [
        {
            **entry,
            **{f"stats/{name}/{what}": value for name in named for what, value in _lists(table[name]).items()},
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        for entry, table in zip(episodes, tables, strict=True)
    ]
    path = folder / EPISODES_PATH
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    robot = yaml.safe_dump(layout.robot.to_dict(), sort_keys=False, allow_unicode=True)
    (folder / OURS / "robot.yaml").write_text(robot, encoding="utf-8")


def write_report(folder: Path, values: Mapping[str, Any]) -> None:
    """Write how the dataset was made, and an id that no other dataset has, not even one of the same rows."""
    write_json(folder / OURS / "report.json", {"id": uuid.uuid4().hex, **values})


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write values as JSON, to be read by people, too."""
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _write_tasks(path: Path, task: str) -> None:
    """The table of tasks, which readers take for a pandas frame whose index is the text."""
    table = pa.table({"task_index": pa.array([0], pa.int64()), "task": pa.array([task])})
    column = {"field_name": "task_index", "name": "task_index", "metadata": None}
    index = {"field_name": "task", "name": "task", "metadata": None}
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            column | {"pandas_type": "int64", "numpy_type": "int64"},
            index | {"pandas_type": "unicode", "numpy_type": "object"},
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(pandas)}), path)


def _lists(table: FeatureTable) -> dict[str, Any]:
    return {
        name: numbers.astype(int).tolist() if name == "count" else numbers.tolist() for name, numbers in table.items()
    }
