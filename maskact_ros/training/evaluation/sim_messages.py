"""The messages of `sim_robot` and the commands, built with rosbags, with the same fields.

In: pictures, masks, joint states and set points with their stamps. Out: messages in a bag, with the receive times equal
to the stamps.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.robot import RobotSpec
from maskact_ros.data.bags.bag_writer import BagWriter, offered, typestore
from maskact_ros.sim.renderer import intrinsics

Images = Literal["jpeg", "raw"]
IMAGES: tuple[Images, ...] = get_args(Images)
NAMESPACE = "/maskact"
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 95)


class SimMessages:
    """Writes messages into bags; pictures as JPEG on `…/compressed`, or raw."""

    def __init__(self, robot: RobotSpec, images: Images) -> None:
        self._robot, self._camera = robot, robot.only_camera
        self._raw = images == "raw"
        image = _absolute(self._camera.image_topic)
        beside, _, _ = image.rpartition("/")
        self._image = image if self._raw else f"{image}/compressed"
        self._info, self._mask = f"{beside}/camera_info", f"{NAMESPACE}/mask_truth"
        self._joints, self._command = _absolute(robot.joint_states_topic), _absolute(robot.command_topic)
        self._types = {
            self._image: "sensor_msgs/msg/Image" if self._raw else "sensor_msgs/msg/CompressedImage",
            self._info: "sensor_msgs/msg/CameraInfo",
            self._mask: "sensor_msgs/msg/Image",
            self._joints: "sensor_msgs/msg/JointState",
            self._command: "std_msgs/msg/Float64MultiArray",
        }

    def declare(self, writer: BagWriter) -> None:
        """Declare the topics, with the QoS that the nodes offer."""
        for topic, kind in self._types.items():
            writer.add_topic(topic, kind, [offered(depth=10 if topic == self._joints else 1)])

    def joint_state(
        self, writer: BagWriter, stamp_ns: int, positions: NDArray[np.float64], velocities: NDArray[np.float64]
    ) -> None:
        """Write a joint state."""
        fields = {"name": list(self._robot.joint_names), "position": positions, "velocity": velocities}
        header = _header(stamp_ns, "base_link")
        self._write(writer, self._joints, stamp_ns, header=header, **fields, effort=np.empty(0))

    def command(self, writer: BagWriter, stamp_ns: int, set_points: NDArray[np.float64]) -> None:
        """Write set points, in a forward command controller's format."""
        layout = _make("std_msgs/msg/MultiArrayLayout", dim=[], data_offset=0)
        self._write(writer, self._command, stamp_ns, layout=layout, data=set_points)

    def picture(self, writer: BagWriter, stamp_ns: int, rgb: NDArray[np.uint8]) -> None:
        """A picture (H, W, 3), and the camera's description with it."""
        header = _header(stamp_ns, self._camera.name)
        if self._raw:
            self._write(writer, self._image, stamp_ns, **_image(header, rgb, "rgb8"))
        else:
            done, coded = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), _JPEG)
            assert done
            # image_transport's format: the camera's encoding, then the compressed one.
            form = "rgb8; jpeg compressed bgr8"
            self._write(writer, self._image, stamp_ns, header=header, format=form, data=coded.ravel())
        self._write(writer, self._info, stamp_ns, **_camera_info(header, self._robot))

    def mask(self, writer: BagWriter, stamp_ns: int, labels: NDArray[np.uint8]) -> None:
        """The class ids (H, W) of the picture with the same stamp."""
        self._write(writer, self._mask, stamp_ns, **_image(_header(stamp_ns, self._camera.name), labels, "mono8"))

    def _write(self, writer: BagWriter, topic: str, stamp_ns: int, **fields: Any) -> None:
        kind = self._types[topic]
        writer.write(topic, stamp_ns, typestore().serialize_cdr(_make(kind, **fields), kind))


def _make(kind: str, **fields: Any) -> Any:
    return typestore().types[kind](**fields)


def _header(stamp_ns: int, frame_id: str) -> Any:
    stamp = _make("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return _make("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)


def _image(header: Any, picture: NDArray[np.uint8], encoding: str) -> dict[str, Any]:
    height, width = picture.shape[:2]
    size = {"height": height, "width": width, "step": picture.nbytes // height}
    return {"header": header, **size, "encoding": encoding, "is_bigendian": 0, "data": picture.ravel()}


def _camera_info(header: Any, robot: RobotSpec) -> dict[str, Any]:
    camera, matrix = robot.only_camera, intrinsics(robot)
    everything = {"x_offset": 0, "y_offset": 0, "height": 0, "width": 0, "do_rectify": False}
    return {
        "header": header,
        "height": camera.height,
        "width": camera.width,
        "distortion_model": "plumb_bob",
        "d": np.zeros(5),
        "k": matrix.ravel(),
        "r": np.eye(3).ravel(),
        "p": np.hstack([matrix, np.zeros((3, 1))]).ravel(),
        "binning_x": 0,
        "binning_y": 0,
        "roi": _make("sensor_msgs/msg/RegionOfInterest", **everything),
    }


def _absolute(topic: str) -> str:
    return topic if topic.startswith("/") else f"{NAMESPACE}/{topic}"
