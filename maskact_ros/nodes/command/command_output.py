"""The command topics: `command` has all joints, and each controller can have a topic for its own joints.

In: set points (D,), or positions and velocities (N, D) of a short horizon. Out: messages, which are built once and
refilled. `command` is always sent, as bags record it; the other topics exist where the robot lists controllers.
"""

from __future__ import annotations

import array
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from maskact_ros.core.robot import RobotError, RobotSpec
from maskact_ros.nodes.ros.control_cdr import CommandMessage
from maskact_ros.nodes.ros.messages import ns_to_duration

_SETTLE_S = 0.1
_QOS = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE)


@dataclass(frozen=True, eq=False)
class _Part:
    """One topic, and the columns of the whole vector that it carries."""

    publisher: LifecyclePublisher
    joint_names: tuple[str, ...]
    columns: NDArray[np.intp]


class _Output:
    """The publishers. Raises RobotError for an invalid topic name, or two topics with one name after remapping."""

    def __init__(self, node: LifecycleNode, robot: RobotSpec, kind: type):
        carried = {"command": robot.joint_names} | {c.command_topic: c.joints for c in robot.controllers}
        _check_topics(node, list(carried))
        self._node = node
        self._parts = [
            _Part(
                node.create_lifecycle_publisher(kind, topic, _QOS),
                names,
                np.array([robot.joint_names.index(name) for name in names]),
            )
            for topic, names in carried.items()
        ]

    @property
    def to_controllers(self) -> list[LifecyclePublisher]:
        """The publishers that controllers subscribe to: their own topics if there are any, else `command`."""
        return [part.publisher for part in self._parts[1:] or self._parts]

    def settle(self) -> None:
        """Wait until all subscribers have the last message, at most 0.1 s: it is lost with its publisher."""
        until_s = time.monotonic() + _SETTLE_S
        for part in self._parts:
            left_s = max(0.0, until_s - time.monotonic())
            try:
                part.publisher.wait_for_all_acked(Duration(seconds=left_s))
            except RuntimeError:  # of rcl, where the RMW does not support waiting
                time.sleep(left_s)

    def destroy(self) -> None:
        """Destroy the publishers."""
        for part in self._parts:
            self._node.destroy_lifecycle_publisher(part.publisher)
        self._parts = []


class PositionOutput(_Output):
    """Set points, for forward command controllers."""

    def __init__(self, node: LifecycleNode, robot: RobotSpec):
        super().__init__(node, robot, Float64MultiArray)
        self._messages = [CommandMessage(len(part.joint_names)) for part in self._parts]

    def publish(self, set_point: NDArray[np.float64]) -> None:
        """Send a set point (D,)."""
        for part, message in zip(self._parts, self._messages, strict=True):
            part.publisher.publish(message.of(set_point[part.columns]))


class TrajectoryOutput(_Output):
    """Rolling horizons that end at rest, for joint trajectory controllers."""

    def __init__(self, node: LifecycleNode, robot: RobotSpec):
        super().__init__(node, robot, JointTrajectory)
        self._messages = [_TrajectoryMessage(part.joint_names) for part in self._parts]

    def publish(self, positions: NDArray[np.float64], velocities: NDArray[np.float64], step_ns: int) -> None:
        """Send positions and velocities (N, D), point i due at `i * step_ns` from receipt; the last one is at rest.

        The controller's spline starts at the first point, which is due at once, with any value of
        `interpolate_from_desired_state`. Without such a point it starts at the measured state, which lags behind.
        """
        for part, message in zip(self._parts, self._messages, strict=True):
            part.publisher.publish(message.of(positions[:, part.columns], velocities[:, part.columns], step_ns))


class _TrajectoryMessage:
    """A message whose points are built once and refilled. Its stamp is zero, so the trajectory begins on receipt."""

    def __init__(self, joint_names: tuple[str, ...]):
        self._message = JointTrajectory(joint_names=list(joint_names))
        self._points: list[JointTrajectoryPoint] = []  # as many as the longest horizon so far had
        self._step_ns = 0

    def of(self, positions: NDArray[np.float64], velocities: NDArray[np.float64], step_ns: int) -> JointTrajectory:
        """The message with these positions and velocities (N, D); valid until the next call."""
        count, width = positions.shape
        if step_ns != self._step_ns:
            self._points, self._step_ns, self._message.points = [], step_ns, []
        for i in range(len(self._points), count):
            self._points.append(JointTrajectoryPoint(time_from_start=ns_to_duration(i * step_ns)))
        if len(self._message.points) != count:
            self._message.points = self._points[:count]
        all_positions, all_velocities = array.array("d", positions.tobytes()), array.array("d", velocities.tobytes())
        for i, point in enumerate(self._message.points):
            row = slice(i * width, (i + 1) * width)
            point.positions, point.velocities = all_positions[row], all_velocities[row]
        return self._message


def _check_topics(node: LifecycleNode, topics: list[str]) -> None:
    resolved: dict[str, str] = {}
    for topic in topics:
        try:
            name = node.resolve_topic_name(topic)
        except RuntimeError:  # rclpy's exception for an error of rcl
            raise RobotError(f"controller {topic}: its command_topic is no ROS topic's name") from None
        if name in resolved:
            raise RobotError(f"{resolved[name]} and {topic} are both the topic {name}; allowed: a topic for each")
        resolved[name] = topic
