"""A LeRobotDataset v3.0 as other tools write it, by hand: several files, pictures as video or PNG."""

from __future__ import annotations

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

LENGTHS = (5, 7, 24)
FPS = 10
HEIGHT, WIDTH = 48, 64
JOINTS = ("lift", "turn")
CLASSES = ("background", "arm", "cube")
ROBOT = {
    "name": "tiny",
    "policy_rate_hz": float(FPS),
    "joint_states_topic": "joint_states",
    "command_topic": "command",
    "joints": [{"name": name, "lower": -9.0, "upper": 9.0, "velocity": 1.0, "acceleration": 1.0} for name in JOINTS],
    "cameras": [{"name": "top", "image_topic": "image_raw", "width": WIDTH, "height": HEIGHT}],
}


def picture(row: int) -> np.ndarray:
    """RGB that tells its row: grey of its own, red on the left, so that a swap of channels shows."""
    rgb = np.full((HEIGHT, WIDTH, 3), 20 + 6 * row, np.uint8)
    rgb[:, :32] = (200, 40, 20 + 6 * row)
    return rgb


def mask(row: int) -> np.ndarray:
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[10:20, 5:25] = 1
    labels[30:40, row : row + 10] = 2
    return labels


def rows() -> dict[str, np.ndarray]:
    """The table's columns; the episodes' lengths are LENGTHS."""
    count = sum(LENGTHS)
    frame = np.concatenate([np.arange(length) for length in LENGTHS])
    return {
        "observation.state": np.stack([np.arange(count) * 0.01, np.sin(np.arange(count))], axis=1).astype(np.float32),
        "action": np.stack([np.arange(count) * 0.01 + 0.01, np.cos(np.arange(count))], axis=1).astype(np.float32),
        "stamp_ns": 1_000_000_000 + np.arange(count) * 100_000_000,
        "timestamp": (frame / FPS).astype(np.float32),
        "frame_index": frame,
        "episode_index": np.repeat(np.arange(len(LENGTHS)), LENGTHS),
        "index": np.arange(count),
        "task_index": np.zeros(count, np.int64),
    }


def write(folder: Path, *, video: bool = True, masks: bool = True, ours: bool = True) -> Path:
    """Two data files: episodes 0 and 1 in one row group, then episode 2 in two; videos likewise in two files."""
    columns = rows()
    arrays = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 2) if values.ndim == 2 else pa.array(values)
        for name, values in columns.items()
    }
    features = {name: {"dtype": str(v.dtype), "shape": list(v.shape[1:]) or [1]} for name, v in columns.items()}
    for name in ("observation.state", "action"):
        features[name]["names"] = list(JOINTS)
    if video:
        features["observation.images.top"] = image_feature("video")
    else:
        features["observation.images.top"] = image_feature("image")
        arrays["observation.images.top"] = pngs(picture(row)[..., ::-1] for row in range(sum(LENGTHS)))
    if masks:
        classes = {"info": {"classes": list(CLASSES)}} if ours else {}
        features["observation.masks.top"] = image_feature("image", channels=1) | classes
        arrays["observation.masks.top"] = pngs(mask(row) for row in range(sum(LENGTHS)))
    table = pa.table(arrays)

    first = sum(LENGTHS[:2])
    write_parquet(folder / "data/chunk-000/file-000.parquet", table.slice(0, first))
    write_parquet(folder / "data/chunk-000/file-001.parquet", table.slice(first), row_group_size=15)
    if video:
        write_video(folder / "videos/observation.images.top/chunk-000/file-000.mp4", range(first))
        write_video(folder / "videos/observation.images.top/chunk-000/file-001.mp4", range(first, sum(LENGTHS)))

    starts = np.cumsum([0, *LENGTHS])
    episodes = {
        "episode_index": np.arange(3),
        "length": np.array(LENGTHS),
        "dataset_from_index": starts[:-1],
        "dataset_to_index": starts[1:],
        "data/chunk_index": np.zeros(3, int),
        "data/file_index": np.array([0, 0, 1]),
    }
    if video:
        key = "videos/observation.images.top"
        episodes |= {
            f"{key}/chunk_index": np.zeros(3, int),
            f"{key}/file_index": np.array([0, 0, 1]),
            f"{key}/from_timestamp": np.array([0, LENGTHS[0] / FPS, 0.0]),
            f"{key}/to_timestamp": np.array([LENGTHS[0], first, LENGTHS[2]]) / FPS,
        }
    write_parquet(folder / "meta/episodes/chunk-000/file-000.parquet", pa.table(episodes))
    info = {
        "codebase_version": "v3.0",
        "robot_type": "tiny",
        "total_episodes": 3,
        "total_frames": sum(LENGTHS),
        "total_tasks": 1,
        "chunks_size": 1000,
        "fps": FPS,
        "splits": {"train": "0:3"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4" if video else None,
        "features": features,
    }
    (folder / "meta/info.json").write_text(json.dumps(info))
    if ours:
        (folder / "meta/maskact").mkdir()
        (folder / "meta/maskact/robot.yaml").write_text(yaml.safe_dump(ROBOT))
        report = {"episodes": [{"source": f"demo_{i}", "frames": LENGTHS[i]} for i in range(3)]}
        (folder / "meta/maskact/report.json").write_text(json.dumps(report))
    return folder


def image_feature(dtype: str, *, channels: int = 3) -> dict:
    return {"dtype": dtype, "shape": [HEIGHT, WIDTH, channels], "names": ["height", "width", "channels"]}


def pngs(pictures) -> pa.Array:
    cells = [{"bytes": cv2.imencode(".png", image)[1].tobytes(), "path": None} for image in pictures]
    return pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


def write_parquet(path: Path, table: pa.Table, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)


def write_video(path: Path, shown: range) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"g": "6", "bf": "2", "crf": "12"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for row in shown:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(row), format="rgb24")))
        container.mux(stream.encode())
