"""Several datasets of one layout → one, without decoding a picture: videos are linked, rows copied and renumbered."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from maskact_ros.data.datasets.dataset import read_report
from maskact_ros.data.datasets.feature_statistics import FeatureTable
from maskact_ros.data.datasets.lerobot_layout import EPISODES_PATH, FILES_PER_CHUNK, OURS, Layout, data_path, video_path
from maskact_ros.data.datasets.lerobot_meta import write_meta, write_report
from maskact_ros.data.datasets.lerobot_writer import open_data_file

_NUMBERED = ("index", "episode_index")


def assemble(parts: Sequence[Path], folder: Path, layout: Layout, contract: str) -> None:
    """Write into `folder` the dataset that the parts make together, in their order."""
    episodes: list[dict[str, Any]] = []
    tables: list[dict[str, FeatureTable]] = []
    report: dict[str, list[dict[str, Any]]] = {"bags": [], "episodes": []}
    rows = data_files = video_files = 0
    for part in parts:
        offset = {"index": rows, "episode_index": len(episodes)}
        found = pq.read_table(part / EPISODES_PATH).to_pylist()
        for entry in found:
            tables.append(_tables(entry, offset))
            episodes.append(_renumbered(entry, layout, offset, data_files, video_files))
        for number in range(_files(found, "data")):
            _copy_rows(part / data_path(number), folder / data_path(data_files + number), offset)
        data_files += _files(found, "data")
        key = layout.image_key
        for number in range(_files(found, f"videos/{key}")):
            _link(part / video_path(key, number), folder / video_path(key, video_files + number))
        video_files += _files(found, f"videos/{key}")
        rows += sum(entry["length"] for entry in found)
        said = read_report(part).values
        report["bags"] += said["bags"]
        report["episodes"] += [
            entry | {"index": entry["index"] + offset["episode_index"]} for entry in said["episodes"]
        ]
    write_meta(folder, layout, episodes, tables)
    (folder / OURS / "contract.yaml").write_text(contract, encoding="utf-8")
    write_report(folder, report)


def _files(entries: list[dict[str, Any]], kind: str) -> int:
    """How many files of a kind these episodes lie in."""
    if not entries or f"{kind}/file_index" not in entries[-1]:
        return 0
    return _number(entries[-1], kind) + 1


def _number(entry: dict[str, Any], kind: str) -> int:
    return int(entry[f"{kind}/chunk_index"] * FILES_PER_CHUNK + entry[f"{kind}/file_index"])


def _renumbered(
    entry: dict[str, Any], layout: Layout, offset: dict[str, int], data_files: int, video_files: int
) -> dict[str, Any]:
    entry = {name: value for name, value in entry.items() if not name.startswith(("stats/", "meta/"))}
    entry["episode_index"] += offset["episode_index"]
    entry["dataset_from_index"] += offset["index"]
    entry["dataset_to_index"] += offset["index"]
    for kind, base in (("data", data_files), (f"videos/{layout.image_key}", video_files)):
        if f"{kind}/file_index" in entry:
            chunk, file = divmod(_number(entry, kind) + base, FILES_PER_CHUNK)
            entry |= {f"{kind}/chunk_index": chunk, f"{kind}/file_index": file}
    return entry


def _tables(entry: dict[str, Any], offset: dict[str, int]) -> dict[str, FeatureTable]:
    """An episode's statistics, as its row holds them."""
    tables: dict[str, dict[str, Any]] = {}
    for name, value in entry.items():
        if name.startswith("stats/"):
            _, feature, what = name.split("/")
            shift = offset.get(feature, 0) if what not in ("std", "count") else 0
            tables.setdefault(feature, {})[what] = np.array(value, np.float64) + shift
    return dict(tables)


def _copy_rows(source: Path, target: Path, offset: dict[str, int]) -> None:
    with pq.ParquetFile(source) as file, open_data_file(target, file.schema_arrow) as writer:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            for name in _NUMBERED:
                at = table.schema.get_field_index(name)
                numbers = pa.array(table.column(at).to_numpy() + offset[name], pa.int64())
                table = table.set_column(at, table.schema.field(at), numbers)
            writer.write_table(table)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)
