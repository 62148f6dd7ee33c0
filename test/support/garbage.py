"""Invalid messages: with numbers that are not finite or too large, or with wrong sizes; changed in place."""

import array
from collections.abc import Callable

import numpy as np
from sensor_msgs.msg import CompressedImage, Image, JointState
from trajectory_msgs.msg import JointTrajectory

NUMBERS = {"NaN": float("nan"), "Inf": float("inf"), "-Inf": float("-inf"), "1e308": 1e308}


def in_joint_states(what: str, random: np.random.Generator) -> Callable[[JointState], None]:
    def spoil(message: JointState) -> None:
        joint = int(random.integers(len(message.name)))
        if what in NUMBERS:
            message.position[joint] = NUMBERS[what]
        elif what == "too few":
            message.position = message.position[:-1]
        elif what == "too many":
            message.position = array.array("d", [*message.position, 0.0])
        else:
            message.position = array.array("d")

    return spoil


def in_chunk(what: str, random: np.random.Generator) -> Callable[[JointTrajectory], None]:
    def spoil(message: JointTrajectory) -> None:
        point = message.points[int(random.integers(len(message.points)))]
        if what in NUMBERS:
            point.positions[int(random.integers(len(point.positions)))] = NUMBERS[what]
        elif what == "too few":
            point.positions = point.positions[:-1]
        elif what == "too many":
            point.positions = array.array("d", [*point.positions, 0.0])
        else:
            point.positions = array.array("d")

    return spoil


def in_features(what: str, random: np.random.Generator) -> Callable[[CompressedImage], None]:
    def spoil(message: CompressedImage) -> None:
        if what in NUMBERS:  # half precision has no 1e308: it becomes infinite there
            data = np.array(message.data, np.uint8)
            with np.errstate(over="ignore"):
                data[: 2 * 8].view(np.float16)[:] = np.float16(NUMBERS[what])
            message.data = array.array("B", data.tobytes())
        elif what == "too few":
            message.data = message.data[:-1]
        elif what == "too many":
            message.data.append(0)
        else:
            message.data = array.array("B")

    return spoil


def in_image(what: str, random: np.random.Generator) -> Callable[[Image], None]:
    """Pictures have no numbers but sizes, except in 32FC1; so NaN means such a picture."""

    def spoil(message: Image) -> None:
        if what in NUMBERS:
            with np.errstate(over="ignore"):
                picture = np.full((message.height, message.width), NUMBERS[what]).astype(np.float32)
            message.encoding, message.step = "32FC1", 4 * message.width
            message.data = array.array("B", picture.tobytes())
        elif what == "too few":
            message.data = message.data[: int(random.integers(1, len(message.data)))]
        elif what == "too many":
            message.height = int(random.integers(message.height + 1, 2**31))
        else:
            message.data = array.array("B")

    return spoil


SPOILT = (*NUMBERS, "too few", "too many", "none")
