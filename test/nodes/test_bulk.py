"""What is seen in the bytes is what rclpy would read, and what is written the message that it would send."""

import array
import random
import struct

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image
from support.stand_ins import features_to_message

from maskact_ros.core.features import Features
from maskact_ros.nodes.ros.image_cdr import MOST_HEAD, see_compressed_image, see_image, with_block
from maskact_ros.nodes.ros.messages import MessageError, features_parts, ns_to_stamp

STAMP_NS = 1_800_000_000_123_456_789
TEXTS = ("", "a", "top", "a longer frame", "größer")


def image(frame_id: str, encoding: str, size: int) -> Image:
    message = Image(height=480, width=640, encoding=encoding, is_bigendian=1, step=1920, data=random.randbytes(size))
    message.header.stamp, message.header.frame_id = ns_to_stamp(STAMP_NS), frame_id
    return message


def fields(message) -> dict:
    """All of them, whatever holds the data."""
    names = ("header", "format", "height", "width", "encoding", "is_bigendian", "step")
    return {name: getattr(message, name) for name in names if hasattr(message, name)} | {"data": bytes(message.data)}


@pytest.mark.parametrize("size", [0, 1, 3, 1000])
@pytest.mark.parametrize("encoding", ["", "rgb8", "mono8", "yuv422_yuy2"])
@pytest.mark.parametrize("frame_id", TEXTS)
def test_an_image_is_seen_as_rclpy_reads_it(frame_id, encoding, size):
    data = serialize_message(image(frame_id, encoding, size))
    assert fields(see_image(data)) == fields(deserialize_message(data, Image))


@pytest.mark.parametrize("size", [0, 1, 3, 1000])
@pytest.mark.parametrize("layout", TEXTS)
@pytest.mark.parametrize("frame_id", TEXTS)
def test_a_compressed_image_is_seen_as_rclpy_reads_it(frame_id, layout, size):
    message = CompressedImage(format=layout, data=random.randbytes(size))
    message.header.stamp, message.header.frame_id = ns_to_stamp(STAMP_NS), frame_id
    data = serialize_message(message)
    assert fields(see_compressed_image(data)) == fields(message)


def test_what_is_seen_is_a_view_and_no_copy():
    data = serialize_message(image("top", "rgb8", 1000))
    assert see_image(data).data.obj is data


def test_in_another_byte_order_it_is_seen_all_the_same():
    big = b"\0\0\0\0" + struct.pack(">iI", 7, 8) + struct.pack(">I", 1) + b"\0" + b"\0\0\0"  # stamp and frame
    big += struct.pack(">I", 4) + b"png\0" + struct.pack(">I", 2) + b"\x05\x06"
    seen = see_compressed_image(big)
    assert (seen.header.stamp.sec, seen.format, bytes(seen.data)) == (7, "png", b"\x05\x06")


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("frame_id", TEXTS)
def test_features_in_bytes_are_the_message_with_them(frame_id, masks):
    draw = np.random.default_rng(0)
    for count in (1, 4, 9):
        features = Features(
            STAMP_NS,
            "abc123",
            draw.normal(size=(count, 5)).astype(np.float16),
            draw.integers(0, 4, size=count).astype(np.int8) if masks else None,
            draw.random(count).astype(np.float16) if masks else None,
            STAMP_NS - count,
        )
        message, blocks = features_parts(features, frame_id)
        written = with_block(message, *blocks)
        expected = features_to_message(features, frame_id)
        assert deserialize_message(written, CompressedImage) == expected
        assert fields(see_compressed_image(written)) == fields(expected)


@pytest.mark.parametrize(("see", "kind"), [(see_image, "Image"), (see_compressed_image, "CompressedImage")])
def test_what_ends_early_is_refused_in_a_sentence(see, kind):
    whole = serialize_message({"Image": Image, "CompressedImage": CompressedImage}[kind](data=bytes(8)))
    for end in range(len(whole) - 8):
        with pytest.raises(MessageError, match=f"what came is no {kind} "):
            see(whole[:end])


@pytest.mark.parametrize("see", [see_image, see_compressed_image])
def test_what_is_damaged_is_what_rclpy_reads_or_refused(see):
    pick = random.Random(0)
    kind = Image if see is see_image else CompressedImage
    whole = serialize_message(
        image("top", "rgb8", 40) if kind is Image else CompressedImage(format="jpeg", data=b"1234")
    )
    seen = refused = 0
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(pick.choice([1, 1, 2, 8])):
            data[pick.randrange(2, len(data))] = pick.choice([0, 1, 0x7F, 0xFF, pick.randrange(256)])
        if pick.random() < 0.2:
            del data[pick.randrange(len(data)) :]
        try:
            message = see(bytes(data))
        except MessageError:
            refused += 1
        else:
            assert fields(message) == fields(deserialize_message(bytes(data), kind))
            seen += 1
    assert seen > 500
    assert refused > 500


@pytest.mark.parametrize("order", ["native", "other"])
@pytest.mark.parametrize("length", [MOST_HEAD, 3_000_000])
def test_a_name_of_any_length_is_no_head_of_a_message(order, length):
    message = CompressedImage(format="jpeg", data=array.array("B", b"abc"))
    message.header.frame_id = "f" * length
    data = serialize_message(message)
    if order == "other":
        text, kind = b"f" * length + b"\0", b"jpeg\0"
        data = b"\0\0\0\0" + bytes(8) + struct.pack(">I", len(text)) + text
        data += bytes(-(len(data) - 4) % 4) + struct.pack(">I", 5) + kind + bytes(3) + struct.pack(">I", 3) + b"abc"
    with pytest.raises(MessageError, match=f"bytes beside its data; allowed: at most {MOST_HEAD}"):
        see_compressed_image(data)
