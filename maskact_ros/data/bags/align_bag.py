"""`Aligner`: a bag's messages → rows at the policy's rate, by the same rules as the nodes apply to live messages.

A row is a picture, the last joint state at or before its stamp, and the command in force a policy period later. Nothing
is made up: where one of them is missing, there is no row, and the next one begins another episode.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.align import AlignmentError, JointOrder, StateBuffer
from maskact_ros.core.images import CompressedImageMessage, ImageError, mask_from_message, rgb_from_message
from maskact_ros.core.paths import read_bytes
from maskact_ros.data.bags.bag_writer import typestore
from maskact_ros.data.bags.contract import Contract
from maskact_ros.data.bags.reasons import Reasons
from maskact_ros.data.bags.recorded_message import BagError, Message
from maskact_ros.data.bags.row_grid import CameraRate, RowGrid
from maskact_ros.data.bags.stream_clocks import StreamClocks
from maskact_ros.data.datasets.lerobot_writer import DatasetError, Row
from maskact_ros.data.datasets.pictures import labels_of

_PATIENCE_NS = 2_000_000_000  # so long, by receipt, a picture waits for what belongs to it
_MASKS_NS = 2 * _PATIENCE_NS  # so long a mask is kept: its picture may come after it, and waits then for the rest
_NEARER = "nearer to the one before than the policy's period"
_XCDR2 = range(6, 12)  # second byte of a serialised message, by the specification of DDS-XTypes
IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
STATES = ("sensor_msgs/msg/JointState",)
COMMANDS = ("std_msgs/msg/Float64MultiArray", "trajectory_msgs/msg/JointTrajectory")


@dataclass(frozen=True)
class Gap:
    """Why a row does not follow on the one before."""

    from_ns: int  # the stamp of the last row
    to_ns: int  # the stamp of the next
    reason: str


@dataclass(frozen=True)
class Aligned:
    """A row, how old its state and its command were, and the gap before it, if any."""

    row: Row
    state_age_ns: int
    action_age_ns: int
    gap: Gap | None


@dataclass(frozen=True)
class _Picture:
    stamp_ns: int
    header_ns: int  # its mask has the same
    received_ns: int
    message: Any


@dataclass(frozen=True)
class _Mask:
    received_ns: int
    message: Any


class Aligner:
    """Takes one bag's messages in the order of their receipt, and gives rows as soon as they are decided."""

    def __init__(self, contract: Contract, image_topic: str, *, accept_latency: bool = False):
        self.dropped = Reasons()  # pictures without a row
        self.ignored = Reasons()  # other messages that could not be used
        self.pictures = 0  # that were recorded
        self._contract = contract
        self._store = typestore()
        self._period_ns = contract.robot.policy_period_ns
        self._states = StateBuffer(tolerance_s=contract.state_tolerance_s)
        future = contract.action_source == "future_state"
        self._actions = StateBuffer(
            tolerance_s=contract.state_tolerance_s if future else contract.action_tolerance_s
        )  # each (K, 1 + D): seconds since its stamp, positions
        self._first_state: tuple[int, NDArray[np.float64]] | None = None
        self._state_order = JointOrder(contract.robot.joint_names)
        self._action_order = JointOrder(contract.robot.joint_names)
        self._masks: dict[int, _Mask] = {}  # by stamp, in the order of their receipt
        self._newest_ns = dict.fromkeys(("state", "action", "mask"), -1)
        self._waiting: deque[_Picture] = deque()
        self._grid = RowGrid(self._period_ns)
        self._rate = CameraRate(contract.robot.policy_rate_hz, self._period_ns, contract.rate_tolerance)
        self.clocks = StreamClocks(contract, image_topic, accept=accept_latency)
        self._held: Aligned | None = None  # a row's picture before it is due: the next one may be nearer to that
        self._last_ns: int | None = None
        self._reason: str | None = None  # why the latest picture has no row
        self._take: dict[str, Callable[[Message], None]] = {contract.state_topic: self._take_state}
        if not future:
            self._take[contract.action_topic] = self._take_action
        if contract.mask_topic is not None:
            self._take[contract.mask_topic] = self._take_mask
        self._take[image_topic] = self._take_picture
        self.topics = tuple(self._take)
        self.topic_of = {"picture": image_topic, "state": contract.state_topic, "command": contract.action_topic}
        self.topic_of["mask"] = contract.mask_topic or ""

    def rows(self, messages: Iterator[Message]) -> Iterator[Aligned]:
        """The rows of a bag's messages; raises MaskACTError when a topic's type is none that is known."""
        for message in messages:
            try:
                self._take[message.topic](message)
            except (AlignmentError, ImageError, DatasetError) as error:
                self.ignored.add(f"{message.topic}: {error}")
            while self._waiting and self._decided(self._waiting[0], message.received_ns):
                yield from self._row(self._waiting.popleft())
            self._forget_masks(message.received_ns)
        while self._waiting:
            yield from self._row(self._waiting.popleft())
        if self._held is not None:
            yield self._taken(self._held)
        self.clocks.finish()

    def _decided(self, picture: _Picture, now_ns: int) -> bool:
        """Whether nothing that belongs to the picture can still come."""
        due_ns = picture.stamp_ns + self._period_ns
        complete = self._newest_ns["state"] > picture.stamp_ns and self._newest_ns["action"] > due_ns
        if self._contract.mask_topic is not None:
            complete = complete and (picture.header_ns in self._masks or self._newest_ns["mask"] > picture.header_ns)
        return complete or not 0 <= now_ns - picture.received_ns <= _PATIENCE_NS

    def _row(self, picture: _Picture) -> Iterator[Aligned]:
        stamp_ns = picture.stamp_ns
        mask = self._masks.pop(picture.header_ns, None)
        self._rate.see(stamp_ns)
        if self._held is not None and not self._nearer(stamp_ns, self._held.row.stamp_ns):
            yield self._taken(self._held)
        off, tolerance = self._grid.off(stamp_ns), self._contract.rate_tolerance
        begins = self._last_ns is None or stamp_ns < self._last_ns or off > tolerance
        if not begins and off < -tolerance:
            self.dropped.add(_NEARER)
            return
        if begins and not self._rate.fits:
            self._reason = self._rate.sentence
            self.dropped.add(self._reason)
            return
        try:
            aligned = self._aligned(picture, mask)
        except (AlignmentError, ImageError, DatasetError) as error:
            self._reason = str(error)
            self.dropped.add(self._reason)
            return
        if self._held is not None:
            self.dropped.add(_NEARER)
        self._held = aligned if not begins and off < 0 else None
        if self._held is None:
            yield self._taken(aligned, begins=begins)

    def _nearer(self, stamp_ns: int, held_ns: int) -> bool:
        """Whether a picture is nearer to where a row is due than the one before it."""
        return stamp_ns > held_ns and abs(self._grid.off(stamp_ns)) < abs(self._grid.off(held_ns))

    def _aligned(self, picture: _Picture, given: _Mask | None) -> Aligned:
        stamp_ns, due_ns = picture.stamp_ns, picture.stamp_ns + self._period_ns
        state_ns, state = self._states.in_force(stamp_ns)
        action_ns, action = self._action(due_ns)
        mask = self._mask(picture.header_ns, given.message if given is not None else None)
        row = Row(stamp_ns, state, action, rgb_from_message(picture.message), mask)
        return Aligned(row, stamp_ns - state_ns, due_ns - action_ns, None)

    def _taken(self, aligned: Aligned, *, begins: bool = False) -> Aligned:
        """The row, now that it is sure, with the gap before it."""
        stamp_ns, last_ns = aligned.row.stamp_ns, self._last_ns
        gap = None
        if begins and last_ns is not None:
            gap = Gap(
                last_ns, stamp_ns, self._reason or ("the clock went back" if stamp_ns < last_ns else "no picture")
            )
        self._grid.take(stamp_ns, begins=begins)
        self._held, self._last_ns, self._reason = None, stamp_ns, None
        return replace(aligned, gap=gap)

    def _action(self, due_ns: int) -> tuple[int, NDArray[np.float64]]:
        """The stamp of the command in force, and where it wants the joints (D,) at the moment `due_ns`."""
        try:
            stamp_ns, plan = self._actions.in_force(due_ns)
        except AlignmentError as error:
            raise AlignmentError(str(error).replace("joint state", "command").replace("image", "row")) from None
        if np.isnan(plan[0, 1]):
            first_ns, positions = self._first_state or (due_ns, None)
            if positions is None or first_ns - stamp_ns > self._contract.state_tolerance_s * 1e9:
                raise AlignmentError("no joint state tells from where the trajectory begins")
            plan[0, 1:] = positions
        since_s = (due_ns - stamp_ns) / 1e9
        return stamp_ns, np.array([np.interp(since_s, plan[:, 0], joint) for joint in plan[:, 1:].T])

    def _mask(self, header_ns: int, message: Any) -> NDArray[np.uint8] | None:
        if self._contract.mask_topic is not None:
            if message is None:
                raise AlignmentError("the picture has no mask with its stamp")
            if isinstance(message, CompressedImageMessage):
                return labels_of(bytes(message.data), f"mask: the message with stamp {header_ns}")
            return mask_from_message(message)
        if self._contract.mask_folder is not None:
            path = self._contract.mask_folder / f"{header_ns}.png"
            if not path.exists():
                raise AlignmentError("the picture has no mask with its stamp")
            return labels_of(read_bytes(path), f"mask: {path}")
        return None

    def _message(self, message: Message, kinds: tuple[str, ...]) -> Any:
        if message.kind not in kinds:
            raise BagError(f"{message.topic} is of the type {message.kind}; allowed: {', '.join(kinds)}")
        if len(message.data) > 1 and message.data[1] in _XCDR2:
            raise AlignmentError("its messages are serialised as XCDR2; allowed: XCDR1, as ROS 2 does by default")
        try:
            return self._store.deserialize_cdr(message.data, message.kind)
        except Exception as error:  # noqa: BLE001 - damaged bytes make the library run into anything
            raise AlignmentError(f"a message cannot be decoded ({type(error).__name__})") from None

    def _take_picture(self, message: Message) -> None:
        self.pictures += 1
        picture = self._message(message, IMAGES)
        header_ns = _header_ns(picture)
        stamp_ns = self.clocks.stamp(message, header_ns, self._contract.image_stamp)
        self._waiting.append(_Picture(stamp_ns, header_ns, message.received_ns, picture))

    def _take_mask(self, message: Message) -> None:
        mask = self._message(message, IMAGES)
        stamp_ns = _header_ns(mask)
        self._masks.pop(stamp_ns, None)
        self._masks[stamp_ns] = _Mask(message.received_ns, mask)
        self._newest_ns["mask"] = stamp_ns

    def _forget_masks(self, now_ns: int) -> None:
        """Let go of masks that no picture can want any more, such as those of a clock that no picture is stamped by."""
        while self._masks:
            stamp_ns, oldest = next(iter(self._masks.items()))
            if 0 <= now_ns - oldest.received_ns <= _MASKS_NS:
                return
            del self._masks[stamp_ns]
            self.ignored.add(f"{self._contract.mask_topic}: a mask for which no picture waited")

    def _take_state(self, message: Message) -> None:
        state = self._message(message, STATES)
        stamp_ns = self.clocks.stamp(message, _header_ns(state), self._contract.state_stamp)
        positions = self._state_order.pick(state.name, state.position)
        self._states.add(stamp_ns, positions)
        self._first_state = self._first_state or (stamp_ns, positions)
        self._newest_ns["state"] = stamp_ns
        if self._contract.action_source == "future_state":
            self._add_action(stamp_ns, np.zeros(1), positions[None])

    def _take_action(self, message: Message) -> None:
        command = self._message(message, COMMANDS)
        if message.kind == COMMANDS[0]:
            positions = self._action_order.pick(self._contract.action_joints, command.data)
            self._add_action(message.received_ns, np.zeros(1), positions[None])
            return
        stamp_ns = message.received_ns
        if self._contract.action_stamp == "header" and (given_ns := _header_ns(command)):
            stamp_ns = given_ns  # zero means: from now on
        if not command.points:
            raise AlignmentError("a trajectory has no points")
        due_s = [point.time_from_start.sec + point.time_from_start.nanosec / 1e9 for point in command.points]
        path = [self._action_order.pick(command.joint_names, point.positions) for point in command.points]
        if due_s[0] * 1e9 > self._period_ns:  # until the point is due, the joints are on their way there
            due_s, path = [0.0, *due_s], [self._position(stamp_ns), *path]
        self._add_action(stamp_ns, np.array(due_s), np.array(path))

    def _position(self, stamp_ns: int) -> NDArray[np.float64]:
        """Where the joints are (D,), from where a controller begins a trajectory; NaN where that is not known yet."""
        try:
            return self._states.at(stamp_ns)
        except AlignmentError:
            return np.full(len(self._contract.robot.joints), np.nan)

    def _add_action(self, stamp_ns: int, due_s: NDArray[np.float64], path: NDArray[np.float64]) -> None:
        self._actions.add(stamp_ns, np.column_stack([due_s, path]))
        self._newest_ns["action"] = stamp_ns


def _header_ns(message: Any) -> int:
    stamp = message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
