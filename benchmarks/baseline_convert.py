"""Converts a bag as simple scripts do: all messages in lists, the nearest by stamp, a PNG for each picture.

`benchmarks convert` compares with it. A video is encoded from the PNGs afterwards, with the same settings as ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

OPTIONS = {"preset": "ultrafast", "crf": "20", "g": "10", "bf": "0"}


def convert(bag: Path, out: Path, *, topics: dict[str, str | None], fps: int, video: bool) -> int:
    """Write pictures, masks and a table to `out`; `topics` has image, mask, state and action. Returns the frames."""
    with AnyReader([bag], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
        recorded: dict[str, list[tuple[int, Any]]] = {name: [] for name in topics}
        for connection, received_ns, raw in reader.messages():
            for name, topic in topics.items():
                if connection.topic == topic:
                    message = reader.deserialize(raw, connection.msgtype)
                    recorded[name].append((_stamp_ns(message, received_ns), message))
    for folder in ("images", "masks"):
        (out / folder).mkdir(parents=True)
    states, actions, stamps = [], [], []
    for frame, (stamp_ns, image) in enumerate(recorded["image"]):
        rgb = np.array(image.data, np.uint8).reshape(image.height, image.width, 3)
        cv2.imwrite(str(out / "images" / f"{frame:06d}.png"), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        mask = _nearest(recorded["mask"], stamp_ns)
        labels = np.array(mask.data, np.uint8).reshape(mask.height, mask.width)
        cv2.imwrite(str(out / "masks" / f"{frame:06d}.png"), labels)
        states.append(np.array(_nearest(recorded["state"], stamp_ns).position).tolist())
        actions.append(np.array(_nearest(recorded["action"], stamp_ns + 10**9 // fps).data).tolist())
        stamps.append(stamp_ns)
    table = pa.table({"stamp_ns": stamps, "observation.state": states, "action": actions})
    pq.write_table(table, out / "data.parquet")
    if video:
        _encode(out, fps)
    return len(stamps)


def _stamp_ns(message: Any, received_ns: int) -> int:
    header = getattr(message, "header", None)
    return received_ns if header is None else header.stamp.sec * 10**9 + header.stamp.nanosec


def _nearest(messages: list[tuple[int, Any]], stamp_ns: int) -> Any:
    distances = [abs(at_ns - stamp_ns) for at_ns, _ in messages]
    return messages[int(np.argmin(distances))][1]


def _encode(out: Path, fps: int) -> None:
    files = sorted((out / "images").glob("*.png"))
    with av.open(str(out / "video.mp4"), "w") as container:
        height, width = cv2.imread(str(files[0])).shape[:2]
        stream = container.add_stream("libx264", rate=fps, options=OPTIONS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for file in files:
            rgb = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode())
    for file in files:
        file.unlink()
