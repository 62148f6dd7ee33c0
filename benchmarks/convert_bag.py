"""The bag for the benchmark of conversion, and the limits of its speed: reading messages, encoding pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.robot import Camera
from maskact_ros.data.bags.bag import Bag
from maskact_ros.data.bags.bag_writer import BagWriter, typestore
from maskact_ros.data.bags.contract import Contract
from maskact_ros.data.datasets.lerobot_writer import MASK_PNG, PICTURE_PNG
from maskact_ros.data.datasets.video import VideoWriter

START_NS = 1_700_000_000_000_000_000
_TICKS_HZ = 300  # pictures and masks at every tenth tick, joints and commands at every third
_PICTURES = 90  # different pictures, then they repeat
_RADIUS = 60


class Scene:
    """Noisy pictures of a disc that moves over a coloured background, and their masks."""

    def __init__(self, camera: Camera) -> None:
        rng = np.random.default_rng(0)
        rows, columns = np.mgrid[: camera.height, : camera.width]
        tiles = rng.integers(0, 255, (camera.height // 40 + 1, camera.width // 40 + 1, 3))
        background = tiles[rows // 40, columns // 40]
        self.pictures: list[NDArray[np.uint8]] = []
        self.masks: list[NDArray[np.uint8]] = []
        for n in range(_PICTURES):
            disc = np.hypot(rows - camera.height // 2, columns - 4 * n) < _RADIUS
            moved = np.where(disc[..., None], np.array((200, 40, 40)), background)
            self.pictures.append(np.clip(moved + rng.normal(0, 2, moved.shape), 0, 255).astype(np.uint8))
            self.masks.append(disc.astype(np.uint8))

    def frames(self, seconds: float) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        """Pictures and masks at 30 Hz."""
        return [
            (self.pictures[n % _PICTURES], self.masks[n % _PICTURES]) for n in range(round(seconds * _TICKS_HZ / 10))
        ]


def record(folder: Path, contract: Contract, seconds: float) -> None:
    """A bag such as the simulated robot's, its pictures raw."""
    camera, names = contract.robot.only_camera, list(contract.robot.joint_names)
    image_topic, mask_topic = contract.image_topics[0], str(contract.mask_topic)
    kinds = {
        image_topic: "sensor_msgs/msg/Image",
        mask_topic: "sensor_msgs/msg/Image",
        contract.state_topic: "sensor_msgs/msg/JointState",
        contract.action_topic: "std_msgs/msg/Float64MultiArray",
    }
    frames = iter(Scene(camera).frames(seconds))
    with BagWriter(folder) as writer:
        for topic, kind in kinds.items():
            writer.add_topic(topic, kind)

        def write(topic: str, stamp_ns: int, **fields: Any) -> None:
            kind = kinds[topic]
            writer.write(topic, stamp_ns, typestore().serialize_cdr(typestore().types[kind](**fields), kind))

        for tick in range(round(seconds * _TICKS_HZ)):
            stamp_ns = START_NS + round(tick / _TICKS_HZ * 1e9)
            header = _header(stamp_ns)
            if tick % 3 == 0:
                position, nothing = np.full(len(names), 0.01 * np.sin(tick / _TICKS_HZ)), np.zeros(0)
                write(contract.state_topic, stamp_ns, **_joints(header, names, position, nothing))
                layout = typestore().types["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
                write(contract.action_topic, stamp_ns, layout=layout, data=position)
            if tick % 10 == 0:
                rgb, mask = next(frames)
                write(image_topic, stamp_ns, **_image(header, rgb, "rgb8"))
                write(mask_topic, stamp_ns, **_image(header, mask, "mono8"))


def read(bag: Path, contract: Contract) -> int:
    """Read and decode every message that a conversion needs; return their number."""
    count = 0
    for message in Bag(bag).messages(list(contract.topics)):
        typestore().deserialize_cdr(message.data, message.kind)
        count += 1
    return count


def encode(scene: Scene, folder: Path, seconds: float, *, fps: int, video: bool) -> None:
    """Encode the same number of pictures and masks in a dataset's format."""
    height, width = scene.masks[0].shape
    writer = VideoWriter(folder / "video.mp4", width=width, height=height, fps=fps) if video else None
    for rgb, mask in scene.frames(seconds):
        cv2.imencode(".png", mask, MASK_PNG)
        if writer is None:
            cv2.imencode(".png", rgb[:, :, ::-1], PICTURE_PNG)
        else:
            writer.add(rgb)
    if writer is not None:
        writer.close()


def _header(stamp_ns: int) -> Any:
    types = typestore().types
    stamp = types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9))
    return types["std_msgs/msg/Header"](stamp, "camera")


def _joints(header: Any, names: list[str], position: Any, nothing: Any) -> dict[str, Any]:
    return {"header": header, "name": names, "position": position, "velocity": nothing, "effort": nothing}


def _image(header: Any, picture: NDArray[np.uint8], encoding: str) -> dict[str, Any]:
    height, width = picture.shape[:2]
    size = {"height": height, "width": width, "step": picture.nbytes // height}
    return {"header": header, **size, "encoding": encoding, "is_bigendian": 0, "data": picture.ravel()}
