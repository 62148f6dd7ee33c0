"""What is written as bytes is the message that rclpy would send; what is read from bytes is what rclpy would read."""

import random
import struct

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from maskact_ros.core.align import AlignmentError, JointOrder
from maskact_ros.core.chunk import Chunk
from maskact_ros.nodes.ros import control_cdr as wire
from maskact_ros.nodes.ros.control_cdr import ChunkMessage, ChunkReader, CommandMessage, JointStateReader
from maskact_ros.nodes.ros.messages import MessageError, chunk_from_message, chunk_to_message, ns_to_stamp, stamp_to_ns

NAMES = ("pan", "lift", "grip")
STAMP_NS = 1_800_000_000_123_456_789


@pytest.fixture
def deserialized(monkeypatch):
    """The messages that went through rclpy, as they do."""
    messages = []

    def note(data, kind):
        messages.append(deserialize_message(data, kind))
        return messages[-1]

    monkeypatch.setattr(wire, "deserialize_message", note)
    return messages


def same(one: Chunk, other: Chunk) -> bool:
    return (one.stamp_ns, one.period_ns) == (other.stamp_ns, other.period_ns) and np.array_equal(
        one.actions, other.actions
    )


def through_rclpy(data: bytes, joints: JointOrder) -> Chunk:
    return chunk_from_message(deserialize_message(data, JointTrajectory), joints)


def chunk(draw: np.random.Generator, points: int = 20, joints: int = 3, period_ns: int = 33_333_333) -> Chunk:
    return Chunk(int(draw.integers(2**60)), period_ns, draw.normal(size=(points, joints)))


def joint_state(draw: np.random.Generator, names=NAMES, *, frame_id: str = "", speeds: bool = True) -> JointState:
    message = JointState(name=list(names), position=draw.normal(size=len(names)).tolist())
    message.header.stamp, message.header.frame_id = ns_to_stamp(int(draw.integers(2**60))), frame_id
    if speeds:
        message.velocity, message.effort = (draw.normal(size=len(names)).tolist() for _ in range(2))
    return message


@pytest.mark.parametrize("names", [NAMES, ("j",), ("a", "joint"), tuple("abcdefg")])
def test_a_chunk_in_bytes_is_the_message_with_it(names):
    message, draw = ChunkMessage(names), np.random.default_rng(0)
    for stamp_ns, period_ns, points in [
        (STAMP_NS, 1000, 4),
        (STAMP_NS + 7, 1000, 4),
        (-1, 1000, 4),
        (0, 1000, 1),
        (1, 50, 1),
        (1, 33_333_333, 100),
    ]:
        each = Chunk(stamp_ns, period_ns, draw.normal(size=(points, len(names))))
        assert deserialize_message(message.of(each), JointTrajectory) == chunk_to_message(each, names)


def test_a_command_carries_each_joints_set_point():
    command = CommandMessage(3)
    for set_point in (np.array([1.0, -2.5, 1e-300]), np.array([0.0, 0.0, 0.0])):
        whole = Float64MultiArray(data=set_point.tolist())
        assert deserialize_message(command.of(set_point), Float64MultiArray) == whole
        assert len(command.of(set_point)) == len(serialize_message(whole))


@pytest.mark.parametrize("joints", [1, 2, 3, 7])
@pytest.mark.parametrize("frame_id", ["", "base", "a frame"])
def test_chunks_of_any_order_length_and_period_are_read_as_rclpy_reads_them_and_those_alike_without_it(
    deserialized, joints, frame_id
):
    draw = np.random.default_rng(joints)
    names = tuple("abcdefg"[:joints])
    reader, order = ChunkReader(JointOrder(names)), JointOrder(names)
    for points, period_ns in ((20, 33_333_333), (1, 33_333_333), (100, 20_000_000), (100, 20_000_001)):
        sent_names = tuple(map(str, draw.permutation([*names, "another"])))
        before = len(deserialized)
        for _ in range(4):
            message = chunk_to_message(chunk(draw, points, joints + 1, period_ns), sent_names)
            message.header.frame_id = frame_id
            data = serialize_message(message)
            assert same(reader.read(data), through_rclpy(data, order))
        assert len(deserialized) == before + 1


def test_what_our_planner_sends_is_read_without_rclpy(deserialized):
    draw = np.random.default_rng(0)
    message, reader = ChunkMessage(NAMES), ChunkReader(JointOrder(NAMES))
    for _ in range(10):
        each = chunk(draw)
        assert same(reader.read(message.of(each)), each)
    assert len(deserialized) == 1


def test_joint_states_are_read_as_rclpy_reads_them_whatever_else_they_carry(deserialized):
    draw = np.random.default_rng(0)
    reader, order = JointStateReader(JointOrder(NAMES)), JointOrder(NAMES)
    for names in (NAMES, ("grip", "pan", "lift"), ("x", *NAMES), (*NAMES, "a much longer name")):
        before = len(deserialized)
        for speeds in (True, False, True):
            message = joint_state(draw, names, speeds=speeds)
            stamp_ns, positions = reader.read(serialize_message(message))
            assert stamp_ns == stamp_to_ns(message.header.stamp)
            np.testing.assert_array_equal(positions, order.pick(message.name, message.position), strict=True)
        assert len(deserialized) == before + 1


def test_a_joint_state_without_a_finite_position_is_refused_also_after_good_ones():
    draw = np.random.default_rng(0)
    reader = JointStateReader(JointOrder(NAMES))
    message = joint_state(draw)
    reader.read(serialize_message(message))
    message.position[1] = np.nan
    with pytest.raises(AlignmentError, match="the position of lift is not finite"):
        reader.read(serialize_message(message))
    message = joint_state(draw, NAMES[:2])
    with pytest.raises(AlignmentError, match="the joints grip are missing"):
        reader.read(serialize_message(message))


def test_in_another_byte_order_they_are_read_all_the_same(deserialized):
    message = JointState(name=["ab"], position=[1.5])
    big = b"\0\0\0\0" + struct.pack(">iII", 7, 8, 1) + b"\0\0\0\0"  # stamp and frame
    big += struct.pack(">II", 1, 3) + b"ab\0\0" + struct.pack(">IdII", 1, 1.5, 0, 0)
    reader = JointStateReader(JointOrder(["ab"]))
    for _ in range(2):
        stamp_ns, positions = reader.read(big)
        assert (stamp_ns, positions.tolist()) == (7 * 10**9 + 8, [1.5])
    assert [(each.name, each.position) for each in deserialized] == [(message.name, message.position)] * 2


def outcome(read, *arguments):
    """What reading gives: the error's text, or the result in a form that can be compared."""
    try:
        result = read(*arguments)
    except (MessageError, AlignmentError) as error:
        return type(error), str(error)
    if isinstance(result, Chunk):
        return result.stamp_ns, result.period_ns, result.actions.tobytes()
    return result[0], result[1].tobytes()


def test_damaged_messages_give_what_rclpy_gives_or_its_refusal():
    pick, draw = random.Random(0), np.random.default_rng(0)
    kinds = [
        (ChunkReader, lambda: serialize_message(chunk_to_message(chunk(draw, 5), NAMES))),
        (JointStateReader, lambda: serialize_message(joint_state(draw))),
    ]
    read = refused = behind = 0
    for kind, make in kinds:
        reader = kind(JointOrder(NAMES))
        for _ in range(3000):
            whole = make()
            data = bytearray(whole)
            for _ in range(pick.choice([0, 1, 1, 2, 8])):
                data[pick.randrange(len(data))] = pick.choice([0, 1, 0x7F, 0xFF, pick.randrange(256)])
            if pick.random() < 0.2:
                del data[pick.randrange(len(data)) :]
            # One that has read nothing before goes through rclpy.
            expected = outcome(kind(JointOrder(NAMES)).read, bytes(data))
            if (result := outcome(reader.read, bytes(data))) != expected:
                # The damage lies behind the last position, at which the other one does not look.
                end = reader._layout.size
                assert result == outcome(kind(JointOrder(NAMES)).read, bytes(data[:end]) + whole[end:])
                behind += 1
            refused += isinstance(expected[0], type)
            read += not isinstance(expected[0], type)
    assert read > 1000
    assert refused > 1000
    assert behind < 300
