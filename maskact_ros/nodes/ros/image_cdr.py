"""Reads and writes messages that end with one large block as serialised bytes (CDR), without copies of the block.

rclpy copies a picture or an image's features about four times on each side. Here only the small rest of the message
goes through rclpy. The block is appended when writing, and viewed in the received bytes when reading.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from maskact_ros.nodes.ros.control_cdr import COUNT, Walk, deserialized
from maskact_ros.nodes.ros.messages import MessageError

MOST_HEAD = 4096  # bytes beside the block: header, sizes and names
_NATIVE = int(sys.byteorder == "little")  # the lowest bit of a message's second byte: its byte order


@dataclass(eq=False)
class SeenImage:
    """A sensor_msgs/Image whose `data` is a view of the message's bytes."""

    header: Header
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: memoryview


@dataclass(eq=False)
class SeenCompressedImage:
    """The same for a sensor_msgs/CompressedImage."""

    header: Header
    format: str
    data: memoryview


def see_image(data: bytes) -> SeenImage:
    """The image in a serialized message; raises MessageError."""
    head, block = _apart(data, Image, _over_image)
    return SeenImage(head.header, head.height, head.width, head.encoding, head.is_bigendian, head.step, block)


def see_compressed_image(data: bytes) -> SeenCompressedImage:
    """The compressed image in a serialized message; raises MessageError."""
    head, block = _apart(data, CompressedImage, Walk.over_text)
    return SeenCompressedImage(head.header, head.format, block)


def with_block(message: CompressedImage, *arrays: NDArray[Any]) -> bytes:
    """The bytes of a message with these arrays, one after the other, as its `data`, which must be empty."""
    whole = serialize_message(message)
    walk = Walk(whole)
    walk.over_text()  # the rest of the header
    walk.over_text()
    assert walk.count() == 0, "a CompressedImage is laid out in another way"
    blocks = [np.ascontiguousarray(each).data.cast("B") for each in arrays]
    size = sum(block.nbytes for block in blocks)
    return b"".join([whole[: walk.at - COUNT], size.to_bytes(COUNT, sys.byteorder), *blocks])


def _apart(data: bytes, kind: type, over_fields: Callable[[Walk], None]) -> tuple[Any, memoryview]:
    """A message without its block, and the block."""
    if len(data) > 1 and data[1] & 1 != _NATIVE:
        whole = deserialized(data, kind)
        if len(data) - len(whole.data) > MOST_HEAD:
            raise MessageError(
                f"the message has {len(data) - len(whole.data)} bytes beside its data; allowed: at most {MOST_HEAD}"
            )
        return whole, memoryview(whole.data)
    walk = Walk(data)
    walk.over_text()  # the rest of the header
    over_fields(walk)
    size = walk.count()
    if walk.at > MOST_HEAD:
        raise MessageError(f"the message has {walk.at} bytes beside its data; allowed: at most {MOST_HEAD}")
    if walk.at + size > len(data):
        raise MessageError(f"what came is no {kind.__name__} (it ends before its data do)")
    head = deserialized(data[: walk.at - COUNT] + bytes(COUNT), kind)
    return head, memoryview(data)[walk.at : walk.at + size]


def _over_image(walk: Walk) -> None:
    """Skip height, width, encoding, byte order and step."""
    walk.count()
    walk.count()
    walk.over_text()
    walk.at += 1
    walk.count()
