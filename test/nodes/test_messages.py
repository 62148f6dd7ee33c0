"""What goes into a message comes out of it; what else arrives gives one sentence, never a stack trace."""

import array
import random
import string

import numpy as np
import pytest
from builtin_interfaces.msg import Duration, Time
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header, String
from support.stand_ins import features_to_message
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from maskact_ros.control.ladder import FollowerState, Rung
from maskact_ros.core.align import JointOrder
from maskact_ros.core.chunk import Chunk
from maskact_ros.core.features import Features
from maskact_ros.nodes.ros.messages import (
    MessageError,
    chunk_from_message,
    chunk_to_message,
    features_from_message,
    image_to_message,
    ns_to_stamp,
    stamp_to_ns,
    state_from_message,
    state_to_message,
)

NAMES = ("pan", "lift", "grip")
STAMP_NS = 1_800_000_000_123_456_789


def sent(message):
    """The message as it arrives at another process."""
    return deserialize_message(serialize_message(message), type(message))


def features(*, masks: bool, count: int = 9, width: int = 5) -> Features:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 4, size=count).astype(np.int8) if masks else None
    confidence = draw.random(count).astype(np.float16) if masks else None
    patches = draw.normal(size=(count, width)).astype(np.float16)
    return Features(STAMP_NS, "abc123", patches, labels, confidence, STAMP_NS - 40_000_000)


@pytest.mark.parametrize("stamp_ns", [0, 1, 999_999_999, 10**9, STAMP_NS, -1])
def test_a_stamp_keeps_every_nanosecond(stamp_ns):
    assert stamp_to_ns(ns_to_stamp(stamp_ns)) == stamp_ns


# -- Features


@pytest.mark.parametrize("masks", [True, False])
def test_features_arrive_bit_for_bit(masks):
    before = features(masks=masks)
    message = sent(features_to_message(before, "camera"))
    assert message.header.frame_id == "camera"
    after = features_from_message(message)
    assert (after.stamp_ns, after.weights_hash) == (STAMP_NS, "abc123")
    assert after.content_stamp_ns == STAMP_NS - 40_000_000
    np.testing.assert_array_equal(after.features, before.features, strict=True)
    if masks:
        np.testing.assert_array_equal(after.patch_labels, before.patch_labels, strict=True)
        np.testing.assert_array_equal(after.patch_confidence, before.patch_confidence, strict=True)
    else:
        assert after.patch_labels is None
        assert after.patch_confidence is None


def test_features_are_read_without_a_copy():
    message = features_to_message(features(masks=True), "camera")
    view = features_from_message(message).features
    message.data[0] ^= 1
    assert view.view(np.uint8)[0, 0] == message.data[0]


@pytest.mark.parametrize(
    "layout",
    [
        "",
        "jpeg",
        "rgb8; jpeg compressed bgr8",
        "maskact_features 9 5 plain",
        "maskact_features  9 plain abc 7",
        "maskact_features 9 5 half abc 7",
        "maskact_features 9 5 plain abc",
        "maskact_features 9 5 plain abc 7 extra",
        "maskact_features 9 5 plain abc -7",
        "maskact_features 0 5 plain abc 7",
        "maskact_features 9 -5 plain abc 7",
        "maskact_features 9 5.0 plain abc 7",
        "maskact_features ٩ 5 plain abc 7",
        "maskact_features 9 5 plain abc 7\n",
        "maskact_features " + "9" * 5000 + " 5 plain abc 7",
        "maskact_features " + "9" * 20 + " 0 plain abc 7",
    ],
)
def test_another_format_is_refused_by_name(layout):
    message = features_to_message(features(masks=False), "camera")
    message.format = layout
    with pytest.raises(MessageError, match=r"the features' format is .*; allowed: what camera_encoder sends") as caught:
        features_from_message(message)
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("size", [0, 1, 89, 91, 116, 118])
def test_features_of_another_size_than_they_say_are_refused(masks, size):
    message = features_to_message(features(masks=masks), "camera")
    assert len(message.data) == (117 if masks else 90)
    message.data = array.array("B", bytes(size))
    with pytest.raises(MessageError, match=f"the features' data has {size} bytes; allowed: {117 if masks else 90} for"):
        features_from_message(message)


# -- Chunks


def chunk(points: int = 20) -> Chunk:
    return Chunk(STAMP_NS, 33_333_333, np.random.default_rng(0).normal(size=(points, 3)))


@pytest.mark.parametrize("points", [1, 2, 100])
def test_a_chunk_arrives_as_it_was(points):
    before = chunk(points)
    after = chunk_from_message(sent(chunk_to_message(before, NAMES)), JointOrder(NAMES))
    assert (after.stamp_ns, after.period_ns) == (before.stamp_ns, before.period_ns)
    np.testing.assert_array_equal(after.actions, before.actions, strict=True)


def test_a_chunks_times_say_when_each_point_is_due_and_increase():
    message = chunk_to_message(chunk(100), NAMES)
    times_ns = [p.time_from_start.sec * 10**9 + p.time_from_start.nanosec for p in message.points]
    assert [stamp_to_ns(message.header.stamp) + time_ns for time_ns in times_ns] == chunk(100).due_ns.tolist()
    assert message.joint_names == list(NAMES)


def test_a_chunk_is_matched_by_joint_name_and_not_by_position():
    before = chunk()
    message = chunk_to_message(Chunk(STAMP_NS, 33_333_333, before.actions[:, [2, 0, 1]]), ("grip", "pan", "lift"))
    np.testing.assert_array_equal(chunk_from_message(message, JointOrder(NAMES)).actions, before.actions)


def wrong_chunk(change) -> JointTrajectory:
    message = chunk_to_message(chunk(4), NAMES)
    change(message)
    return message


WRONG_CHUNKS = {
    "no points": (lambda m: setattr(m, "points", []), "the chunk has no points"),
    "no joints": (lambda m: setattr(m, "joint_names", []), "the joints pan, lift, grip are missing"),
    "another joint": (lambda m: setattr(m, "joint_names", ["pan", "lift", "knee"]), "the joints grip are missing"),
    "a joint twice": (lambda m: setattr(m, "joint_names", ["pan", "pan", "lift", "grip"]), "appear more than once"),
    "no positions": (lambda m: setattr(m.points[0], "positions", []), "3 joint names but 0 positions"),
    "too few": (lambda m: setattr(m.points[3], "positions", [0.0] * 2), "3 joint names but 2 positions"),
    "too many": (lambda m: setattr(m.points[1], "positions", [0.0] * 4), "3 joint names but 4 positions"),
    "not a number": (lambda m: setattr(m.points[2], "positions", [0.0, np.nan, 0.0]), "position of lift is not finite"),
    "infinite": (lambda m: setattr(m.points[2], "positions", [np.inf, 0.0, 0.0]), "position of pan is not finite"),
    "at once": (lambda m: setattr(m.points[0], "time_from_start", Duration()), "the chunk's times are not period"),
    "in the past": (lambda m: setattr(m.points[0], "time_from_start", Duration(sec=-1)), "the chunk's times are not"),
    "uneven": (lambda m: setattr(m.points[3], "time_from_start", Duration(sec=1)), "the chunk's times are not period"),
    "repeated": (lambda m: setattr(m, "points", [m.points[0], m.points[0]]), "the chunk's times are not period"),
    "backwards": (lambda m: setattr(m, "points", m.points[::-1]), "the chunk's times are not period"),
}


@pytest.mark.parametrize("what", WRONG_CHUNKS)
def test_a_malformed_chunk_gives_one_sentence(what):
    change, sentence = WRONG_CHUNKS[what]
    with pytest.raises(MessageError) as caught:
        chunk_from_message(wrong_chunk(change), JointOrder(NAMES))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


# -- The publisher's state


@pytest.mark.parametrize("rung", Rung)
def test_the_state_arrives_as_it_was(rung):
    state = FollowerState(rung, 7, 'a "reason"\nwith ümlauts')
    assert state_from_message(sent(state_to_message(state))) == state


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "3",
        "[]",
        '"rung"',
        "{}",
        '{"rung": "flying", "epoch": 1, "reason": ""}',
        '{"rung": [], "epoch": 1, "reason": ""}',
        '{"rung": "idle", "epoch": null, "reason": ""}',
        '{"rung": "idle", "epoch": Infinity, "reason": ""}',
        '{"rung": "idle", "epoch": NaN, "reason": ""}',
        '{"rung": "idle", "epoch": ' + "1" * 5000 + ', "reason": ""}',
        '{"rung": "idle", "epoch": 1}',
        "[" * 100_000,
    ],
)
def test_a_malformed_state_gives_one_sentence(text):
    with pytest.raises(MessageError, match=r"the state is .*; allowed: what action_publisher sends") as caught:
        state_from_message(String(data=text))
    assert len(str(caught.value)) < 200


# -- Anything at all


def test_random_messages_are_read_or_give_a_message_error():
    pick = random.Random(0)
    read = refused = 0

    def count(receive, *arguments):
        nonlocal read, refused
        try:
            receive(*arguments)
        except MessageError:
            refused += 1
        else:
            read += 1

    for _ in range(1500):
        words = ["maskact_features", "plain", "mask", "1", "2", "0", "-1", "9" * 30, "abc", "", "\0"]
        layout = " ".join(pick.choices(words, k=pick.randrange(7)))
        if pick.random() < 0.5:
            layout = f"maskact_features {pick.randrange(3)} {pick.randrange(3)} {pick.choice(['mask', 'plain'])} abc 7"
        count(features_from_message, CompressedImage(format=layout, data=pick.randbytes(pick.randrange(12))))

        message = JointTrajectory(joint_names=pick.choices([*NAMES, "knee"], k=pick.randrange(6)))
        if pick.random() < 0.8:
            message.joint_names = list(NAMES)
        message.header.stamp = Time(sec=pick.randrange(-(2**31), 2**31), nanosec=pick.randrange(2**32))
        period = Duration(sec=pick.choice([0, 0, 1, 2**31 - 1, -(2**31)]), nanosec=pick.randrange(2**32))
        for _ in range(pick.randrange(3)):
            positions = pick.choices(
                [0.0, 1.0, -1e300, np.nan, np.inf], [5, 5, 1, 0.2, 0.2], k=pick.choice([3, 3, 3, 2])
            )
            message.points.append(JointTrajectoryPoint(positions=positions, time_from_start=period))
        count(chunk_from_message, message, JointOrder(NAMES))

        characters = pick.choice([string.printable, '{}[]":,01eE-+.', "\0\ud7ff"])
        count(state_from_message, String(data="".join(pick.choices(characters, k=pick.randrange(40)))))
    assert read > 100
    assert refused > 1000


# -- What else is sent


def test_an_image_carries_its_header_size_and_pixels():
    header = Header(stamp=ns_to_stamp(STAMP_NS), frame_id="camera")
    rgb = np.random.default_rng(0).integers(0, 256, size=(4, 6, 3), dtype=np.uint8)
    depth = np.random.default_rng(0).random((4, 6), dtype=np.float32)
    for picture, encoding, step in ((rgb, "rgb8", 18), (rgb[:, ::-1], "rgb8", 18), (depth, "32FC1", 24)):
        message = sent(image_to_message(picture, encoding, header))
        assert isinstance(message, Image)
        assert (message.header, message.encoding) == (header, encoding)
        assert (message.height, message.width, message.step) == (4, 6, step)
        pixels = np.frombuffer(message.data, dtype=picture.dtype).reshape(picture.shape)
        np.testing.assert_array_equal(pixels, picture)
