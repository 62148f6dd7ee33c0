"""Reads and writes the numbers of control messages directly in their serialised bytes (CDR).

rclpy makes an object of each name and number: 0.4 ms for a joint state and 2 ms for a chunk on a busy machine, while
the command loop waits for the interpreter. So the layout of a message is found once. A reader uses rclpy for its first
message, and for any message that differs in more than stamp and numbers.
"""

from __future__ import annotations

import array
import contextlib
import struct
import sys
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from maskact_ros.core.align import AlignmentError, JointOrder
from maskact_ros.core.chunk import Chunk
from maskact_ros.nodes.ros.messages import MessageError, chunk_from_message, chunk_to_message, stamp_to_ns

_STAMP = slice(4, 12)  # after the four bytes that name the encoding
MOST_NAMES = 256  # joints in one message; other joints than ours count, too
MOST_POINTS = 1000  # points of a chunk, unless the policy's chunks have more
COUNT = 4  # bytes of the number in front of a sequence: its length
# Between the positions of two points: the lengths of velocities, accelerations and efforts (all 0), the time, and the
# length of the next positions.
_BETWEEN_POINTS = 3 * COUNT + 8 + COUNT


class CommandMessage:
    """The command for a forward command controller: one set point (D,), as the bytes of a Float64MultiArray."""

    def __init__(self, joint_count: int):
        numbers = np.arange(1.0, joint_count + 1.0).tobytes()
        whole = serialize_message(Float64MultiArray(data=array.array("d", numbers)))
        assert whole.endswith(numbers), "a Float64MultiArray does not end with its numbers"
        self._head: bytes = whole.removesuffix(numbers)

    def of(self, set_point: NDArray[np.float64]) -> bytes:
        """The bytes of the message with this set point."""
        numbers: bytes = set_point.tobytes()
        return self._head + numbers


class ChunkMessage:
    """The bytes of `chunk_to_message`'s message. The layout is found once for all chunks of one shape and period."""

    def __init__(self, joint_names: tuple[str, ...]):
        self._joint_names = joint_names
        self._like: tuple[tuple[int, ...], int] | None = None  # shape, and period in ns

    def of(self, chunk: Chunk) -> bytes:
        """The bytes of the message with this chunk."""
        like = (chunk.actions.shape, chunk.period_ns)
        if like != self._like:
            self._like = like
            self._lay_out(chunk)
        self._stamp[:] = divmod(chunk.stamp_ns, 1_000_000_000)
        self._positions[:] = chunk.actions
        return bytes(self._bytes)

    def _lay_out(self, like: Chunk) -> None:
        """Find the places of stamp and positions in the bytes."""
        numbers = np.arange(1, like.actions.size + 1, dtype=np.float64).reshape(like.actions.shape)  # values to find
        whole = serialize_message(chunk_to_message(replace(like, actions=numbers), self._joint_names))
        layout = _Layout.of_chunk(whole, numbers)
        assert layout is not None, "a JointTrajectory is laid out in another way"
        self._bytes = bytearray(whole[: layout.size])  # without the unused bytes that rclpy appends
        self._stamp: NDArray[np.int32] = np.ndarray(2, np.int32, self._bytes, _STAMP.start)  # sec, nanosec
        self._positions = layout.view(self._bytes)


class ChunkReader:
    """Reads chunks that `ChunkMessage` wrote, and any other trajectory that is a chunk of these joints.

    `most_points` is the largest allowed number of points; it may change.
    """

    def __init__(self, joints: JointOrder, most_points: int = MOST_POINTS):
        self._joints = joints
        self.most_points = most_points
        self._layout: _Layout | None = None
        self._names: tuple[str, ...] = ()
        self._period_ns = 0

    def read(self, data: bytes) -> Chunk:
        """The chunk of a serialized JointTrajectory; raises MessageError as `chunk_from_message` does."""
        numbers = None if self._layout is None else self._layout.numbers(data)
        if numbers is not None:
            with contextlib.suppress(AlignmentError, ValueError):  # the slow way below raises them again
                return Chunk(stamp_of(data), self._period_ns, self._joints.pick(self._names, numbers))
        walk = _over_few_names(data)
        points = walk.count()
        if points > self.most_points:
            raise MessageError(f"the chunk has {points} points; allowed: at most {self.most_points}")
        message = deserialized(data, JointTrajectory)
        chunk = chunk_from_message(message, self._joints)
        self._layout = _Layout.of_chunk(data, np.array([point.positions for point in message.points]))
        self._names, self._period_ns = tuple(message.joint_names), chunk.period_ns
        return chunk


class JointStateReader:
    """Reads the positions of these joints; everything else may differ from message to message."""

    def __init__(self, joints: JointOrder):
        self._joints = joints
        self._layout: _Layout | None = None
        self._names: tuple[str, ...] = ()

    def read(self, data: bytes) -> tuple[int, NDArray[np.float64]]:
        """Stamp in ns and positions (D,) of a serialized JointState.

        Raises:
            MessageError: the bytes are no JointState, or it has too many joints.
            AlignmentError: a joint is missing or repeated, or its position is not finite.
        """
        numbers = None if self._layout is None else self._layout.numbers(data)
        if numbers is not None:
            return stamp_of(data), self._joints.pick(self._names, numbers)
        _over_few_names(data)
        message = deserialized(data, JointState)
        positions = self._joints.pick(message.name, message.position)
        self._layout = _Layout.of_joint_state(data, np.array(message.position))
        self._names = tuple(message.name)
        return stamp_to_ns(message.header.stamp), positions


@dataclass(frozen=True, eq=False)
class _Layout:
    """The places of the numbers in messages that differ from a known one in stamp and numbers only."""

    blank: bytes  # the known message up to its last number, with zeros for stamp, numbers and padding
    ignored: tuple[slice, ...]  # the stamp, and padding bytes, which may have any value
    begin: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of_joint_state(cls, data: bytes, positions: NDArray[np.float64]) -> _Layout | None:
        """The layout of a message with these positions (N,), or None for an unknown encoding."""
        walk = Walk(data)
        walk.over_names()
        walk.to_numbers()
        return cls._checked(data, positions, walk, (8,), walk.at + 8 * len(positions))

    @classmethod
    def of_chunk(cls, data: bytes, positions: NDArray[np.float64]) -> _Layout | None:
        """The same for a chunk with positions (K, N), a row for each point."""
        walk = Walk(data)
        walk.over_names()
        walk.count()  # of the points
        walk.to_numbers()
        points, joints = positions.shape
        stride = 8 * joints + _BETWEEN_POINTS
        return cls._checked(data, positions, walk, (stride, 8), walk.at + points * stride - COUNT)

    @classmethod
    def _checked(
        cls, data: bytes, numbers: NDArray[np.float64], walk: Walk, strides: tuple[int, ...], end: int
    ) -> _Layout | None:
        if len(data) < end:
            return None
        layout = cls(data[:end], (_STAMP, *walk.filling), walk.at, numbers.shape, strides)
        blank = bytearray(layout.blank)
        view = layout.view(blank)
        if view.tobytes() != numbers.tobytes():
            return None
        layout._wipe(blank, view)
        return replace(layout, blank=bytes(blank))

    @property
    def size(self) -> int:
        """Bytes up to the end of the last number."""
        return len(self.blank)

    def view(self, data: bytearray) -> NDArray[np.float64]:
        """A view of the numbers in a message's memory."""
        return np.ndarray(self.shape, np.float64, data, self.begin, self.strides)

    def numbers(self, data: bytes) -> NDArray[np.float64] | None:
        """The numbers of a message, or None if it differs from the known one in anything else."""
        blank = bytearray(data[: self.size])
        if len(blank) < self.size:
            return None
        view = self.view(blank)
        numbers = view.copy()
        self._wipe(blank, view)
        return numbers if blank == self.blank else None

    def _wipe(self, message: bytearray, numbers: NDArray[np.float64]) -> None:
        numbers[...] = 0.0
        for part in self.ignored:
            message[part] = bytes(part.stop - part.start)


class Walk:
    """Goes through a message's bytes, beginning after the stamp, and notes the padding bytes."""

    def __init__(self, data: bytes, byteorder: Literal["little", "big"] = sys.byteorder):
        self._data, self._byteorder = data, byteorder
        self.at = _STAMP.stop
        self.filling: list[slice] = []

    def over_names(self) -> None:
        """Skip the rest of the header, and a list of names."""
        self.over_text()
        for _ in range(self.count()):
            self.over_text()
            if self.at > len(self._data):
                return  # the byte order is another one, so this was not a length

    def count(self) -> int:
        """Read the length of a sequence, and skip it."""
        self._align(COUNT)
        self.at += COUNT
        return int.from_bytes(self._data[self.at - COUNT : self.at], self._byteorder)

    def to_numbers(self) -> None:
        """Go to the first number of a list."""
        self.count()
        self._align(8)

    def over_text(self) -> None:
        """Skip a string."""
        length = self.count()
        self.at += length

    def _align(self, size: int) -> None:
        fill = (_STAMP.start - self.at) % size  # alignment counts from the stamp
        if fill:
            self.filling.append(slice(self.at, self.at + fill))
        self.at += fill


def most_bytes(points: int, joints: int) -> int:
    """An upper bound for a chunk: four times the joints, with velocities, accelerations and efforts, and names."""
    numbers = 4 * (8 + 8 * 4 * joints)
    return 65_536 + points * (8 + numbers)


def _over_few_names(data: bytes) -> Walk:
    """Skip header and names of a message; raises MessageError if there are too many names."""
    walk = Walk(data, "little" if data[1:2] and data[1] & 1 else "big")
    walk.over_text()
    names = walk.count()
    if names > MOST_NAMES:
        raise MessageError(f"the message has {names} joint names; allowed: at most {MOST_NAMES}")
    for _ in range(names):
        walk.over_text()
    return walk


def stamp_of(data: bytes) -> int:
    """The stamp, in ns, of a serialized message that begins with a header."""
    seconds, nanoseconds = struct.unpack("=iI", data[_STAMP])
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def deserialized(data: bytes, kind: type) -> Any:
    """The message of these bytes, by rclpy; raises MessageError."""
    try:
        return deserialize_message(data, kind)
    except Exception as error:  # noqa: BLE001 - rclpy's exception has no public name
        raise MessageError(f"what came is no {kind.__name__} ({error})") from None
