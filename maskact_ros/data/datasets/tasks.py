"""`meta/tasks.parquet` of a LeRobotDataset: what each `task_index` stands for."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from maskact_ros.data.datasets.lerobot_layout import DatasetError
from maskact_ros.data.datasets.parquet_file import opened, read_columns, whole_numbers

TASKS = "meta/tasks.parquet"


def read_tasks(folder: Path) -> dict[int, str]:
    """The texts by their index; raises DatasetError."""
    path = folder / TASKS
    with opened(path) as table:
        schema = table.schema_arrow
        texts = [f.name for f in schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
    if not texts:
        raise DatasetError(f"{path}: no column of texts; it has {', '.join(schema.names)}")
    read = read_columns(path, ["task_index", texts[0]])
    indices = whole_numbers(read["task_index"], f"{path}: column task_index").tolist()
    tasks = dict(zip(indices, read[texts[0]].to_pylist(), strict=True))
    if len(tasks) != len(indices) or not all(isinstance(text, str) for text in tasks.values()):
        raise DatasetError(f"{path}: allowed: one text for each task_index")
    return tasks
