"""Converts messages to data and back: stamps, features, chunks, joint states, set points, the publisher's state.

Features travel as a sensor_msgs/CompressedImage: the image's header, a `format` text that describes the layout (as
image_transport's compressedDepth does), and one block of bytes: features (N, D) float16, then, if there are masks,
labels (N,) int8 and confidence (N,) float16.
"""

from __future__ import annotations

import array
import hashlib
import json
import re
from dataclasses import asdict
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header, String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from maskact_ros.control.ladder import FollowerState, Rung
from maskact_ros.core.align import AlignmentError, JointOrder
from maskact_ros.core.chunk import Chunk
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.features import Features
from maskact_ros.core.robot import Camera

_FEATURES = "maskact_features"
_FEATURES_FORMAT = re.compile(_FEATURES + r" ([1-9]\d{0,6}) ([1-9]\d{0,6}) (mask|plain) (\S+) (\d{1,19})", re.ASCII)


class MessageError(MaskACTError):
    """A message with invalid content: the text names the field, its value and what is allowed."""


def stamp_to_ns(stamp: Time) -> int:
    """A message's stamp in nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def ns_to_stamp(stamp_ns: int) -> Time:
    """Nanoseconds as a message's stamp."""
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def ns_to_duration(duration_ns: int) -> Duration:
    """Nanoseconds as a message's duration."""
    return Duration(sec=duration_ns // 1_000_000_000, nanosec=duration_ns % 1_000_000_000)


def features_parts(features: Features, frame_id: str) -> tuple[CompressedImage, list[NDArray[Any]]]:
    """A message with all that the planner needs of one image, without its data; and the arrays that are its data."""
    count, width = features.features.shape
    blocks: list[NDArray[Any]] = [features.features]
    if features.patch_labels is not None and features.patch_confidence is not None:
        blocks += [features.patch_labels, features.patch_confidence]
    message = CompressedImage(header=Header(stamp=ns_to_stamp(features.stamp_ns), frame_id=frame_id))
    message.format = f"{_FEATURES} {count} {width} {'mask' if len(blocks) > 1 else 'plain'} {features.weights_hash}"
    message.format += f" {features.content_stamp_ns}"
    return message, blocks


def features_from_message(message: CompressedImage) -> Features:
    """The inverse of `features_parts`; the arrays are views of the message's memory. Raises MessageError."""
    layout = _FEATURES_FORMAT.fullmatch(message.format)
    if layout is None:
        raise MessageError(f"the features' format is {message.format[:80]!r}; allowed: what camera_encoder sends")
    count, width, masked = int(layout[1]), int(layout[2]), layout[3] == "mask"
    if message.header.stamp.nanosec >= 1_000_000_000:
        raise MessageError(f"the features' stamp has {message.header.stamp.nanosec} ns; allowed: less than 1000000000")
    expected = count * width * 2 + (count * 3 if masked else 0)
    if len(message.data) != expected:
        raise MessageError(f"the features' data has {len(message.data)} bytes; allowed: {expected} for their format")
    data = memoryview(message.data)
    split = count * width * 2
    features = np.frombuffer(data[:split], dtype=np.float16).reshape(count, width)
    labels = np.frombuffer(data[split : split + count], dtype=np.int8) if masked else None
    confidence = np.frombuffer(data[split + count :], dtype=np.float16) if masked else None
    return Features(stamp_to_ns(message.header.stamp), layout[4], features, labels, confidence, int(layout[5]))


def chunk_to_message(chunk: Chunk, joint_names: tuple[str, ...]) -> JointTrajectory:
    """A trajectory with the chunk's stamp, point i at `(i + 1) * period`."""
    points = []
    for i, positions in enumerate(chunk.actions, start=1):
        point = JointTrajectoryPoint(time_from_start=ns_to_duration(i * chunk.period_ns))
        point.positions = array.array("d", positions.tobytes())
        points.append(point)
    header = Header(stamp=ns_to_stamp(chunk.stamp_ns))
    return JointTrajectory(header=header, joint_names=list(joint_names), points=points)


def chunk_from_message(message: JointTrajectory, joints: JointOrder) -> Chunk:
    """The chunk of a trajectory with evenly spaced points; raises MessageError."""
    if not message.points:
        raise MessageError("the chunk has no points; allowed: at least one")
    times = [p.time_from_start.sec * 1_000_000_000 + p.time_from_start.nanosec for p in message.points]
    period_ns = times[0]
    if period_ns <= 0 or any(time != i * period_ns for i, time in enumerate(times, start=1)):
        raise MessageError("the chunk's times are not period, 2 * period, 3 * period and so on, as a chunk's must be")
    try:
        actions = np.stack([joints.pick(message.joint_names, point.positions) for point in message.points])
        return Chunk(stamp_to_ns(message.header.stamp), period_ns, actions)
    except (AlignmentError, ValueError) as error:
        raise MessageError(f"the chunk is refused: {error}") from None


def state_to_message(state: FollowerState) -> String:
    """The publisher's state as JSON: rung, epoch, enabled, reason."""
    return String(data=json.dumps(asdict(state) | {"enabled": state.enabled}))


def state_from_message(message: String) -> FollowerState:
    """The inverse of `state_to_message`; raises MessageError."""
    try:
        values = json.loads(message.data)
        return FollowerState(Rung(values["rung"]), int(values["epoch"]), str(values["reason"]))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        raise MessageError(f"the state is {message.data[:80]!r}; allowed: what action_publisher sends") from None


def image_to_message(picture: NDArray[np.uint8] | NDArray[np.float32], encoding: str, header: Header) -> Image:
    """A picture (H, W) or (H, W, C) as a message, without padding."""
    height, width = picture.shape[:2]
    message = Image(header=header, height=height, width=width, encoding=encoding, is_bigendian=0)
    message.step = picture.nbytes // height
    message.data = _bytes_of(picture)
    return message


def camera_info_message(camera: Camera, matrix: NDArray[np.float64]) -> CameraInfo:
    """The CameraInfo of a camera without distortion; `matrix` (3, 3) holds focal lengths and centre in pixels."""
    info = CameraInfo(width=camera.width, height=camera.height, distortion_model="plumb_bob", d=[0.0] * 5)
    info.k = matrix.ravel()
    info.r = np.eye(3).ravel()
    info.p = np.hstack([matrix, np.zeros((3, 1))]).ravel()
    return info


def pose_to_message(pose: NDArray[np.float64], header: Header) -> PoseStamped:
    """A pose (7,): position x y z, then orientation w x y z."""
    message = PoseStamped(header=header)
    position, orientation = message.pose.position, message.pose.orientation
    position.x, position.y, position.z = pose[:3].tolist()
    orientation.w, orientation.x, orientation.y, orientation.z = pose[3:].tolist()
    return message


def picture_used(stamp_ns: int, model_image: NDArray[np.uint8]) -> String:
    """The encoder's input, for tests that compare it: the picture's stamp and digest."""
    return String(data=json.dumps({"stamp_ns": stamp_ns, "picture": picture_digest(model_image)}))


def picture_digest(model_image: NDArray[np.uint8]) -> str:
    """A hash of shape and bytes: equal for equal pictures only."""
    return hashlib.sha256(repr(model_image.shape).encode() + model_image.tobytes()).hexdigest()


def state_used(stamp_ns: int, state: NDArray[np.float64]) -> String:
    """The planner's input, for tests that compare it: the picture's stamp and the exact joint state (D,)."""
    return String(data=json.dumps({"stamp_ns": stamp_ns, "state": state.tolist()}))


def _bytes_of(*arrays: NDArray[Any]) -> array.array[int]:
    """The arrays' bytes, one after the other. A message checks any type but `array` byte by byte."""
    joined = array.array("B")
    for each in arrays:
        joined.frombytes(np.ascontiguousarray(each).data.cast("B"))  # the only copy
    return joined
