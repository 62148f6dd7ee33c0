"""The other side of the pipeline benchmark, in a process of its own: it acts as camera and arm, and enables.

`python -m … WIDTH HEIGHT HZ FILE` sends images and joint states (100 Hz) until SIGTERM. With HZ 0 the next image is
sent after the last one's chunk and a random pause. When there are commands it prints a line for each chunk. At the end
it writes FILE: when each command was sent and received.
"""

from __future__ import annotations

import array
import json
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from maskact_ros.control.ladder import FollowerState
from maskact_ros.core.paths import shared
from maskact_ros.core.robot import RobotSpec
from maskact_ros.nodes.ros.messages import image_to_message, ns_to_stamp, stamp_to_ns, state_from_message
from maskact_ros.tools.bringup import BringupArguments

JOINT_STATES_HZ = 100.0
PAUSE_S = (0.02, 0.04)  # range of the random pause between a chunk and the next image: the command comes meanwhile
LOST_AFTER_S = 3.0  # an image without a chunk after this time is lost


class Peer(Node):  # type: ignore[misc]
    """A node that acts as camera and arm: the arm is always at the last command."""

    def __init__(self, width: int, height: int, rate_hz: float) -> None:
        super().__init__("pipeline_peer", namespace=BringupArguments().namespace)
        robot = RobotSpec.from_yaml(shared("config/robot.yaml"))
        self._random = np.random.default_rng(0)
        picture = self._random.integers(0, 256, (height, width, 3), np.uint8)
        self._image = image_to_message(picture, "rgb8", Image().header)
        self._joint_state = JointState(name=list(robot.joint_names))
        self._joint_state.position = np.clip(0.0, robot.lower, robot.upper).tolist()
        self._rate_hz = rate_hz
        self._state = FollowerState()
        self._chunk = threading.Event()
        self._chunk_ns = 0  # stamp of the newest chunk
        self._chunks = 0
        self.stop = threading.Event()
        self._captured = self._captured_ns = 0  # number and stamp of the last image
        self.commands_ns: list[tuple[int, int]] = []
        newest = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        reliable = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE)
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        self._images = self.create_publisher(Image, "image_raw", newest)
        self._joints = self.create_publisher(JointState, "joint_states", newest)
        self.create_subscription(Float64MultiArray, "command", self._receive_command, reliable)
        self.create_subscription(JointTrajectory, "action_chunk", self._receive_chunk, reliable)
        self.create_subscription(String, "state", self._receive_state, latched)
        self._enable = self.create_client(SetBool, "action_publisher/enable")
        self.create_timer(1 / JOINT_STATES_HZ, self._measure)
        self.create_timer(0.25, self._enable_if_idle)

    def capture_until_stopped(self) -> None:
        """Send images; in a thread of its own."""
        due_s = time.monotonic()
        while not self.stop.is_set():
            self._capture()
            if self._rate_hz:
                due_s = max(due_s + 1 / self._rate_hz, time.monotonic())
                self.stop.wait(due_s - time.monotonic())
                continue
            while self._chunk_ns < self._captured_ns and not self.stop.is_set():
                self._chunk.clear()
                if not self._chunk.wait(LOST_AFTER_S):
                    break
            self.stop.wait(self._random.uniform(*PAUSE_S))

    def _capture(self) -> None:
        self._captured += 1
        self._image.data[:8] = array.array("B", self._captured.to_bytes(8, "little"))  # so that no two images are equal
        self._captured_ns = self.get_clock().now().nanoseconds
        self._image.header.stamp = ns_to_stamp(self._captured_ns)
        self._images.publish(self._image)

    def _receive_chunk(self, message: JointTrajectory) -> None:
        self._chunk_ns = stamp_to_ns(message.header.stamp)
        self._chunk.set()
        self._chunks += 1
        if self.commands_ns:
            print("chunk", flush=True)

    def _receive_command(self, message: Float64MultiArray, info: dict[str, int]) -> None:
        self.commands_ns.append((info["source_timestamp"], time.time_ns()))
        self._joint_state.position = message.data

    def _measure(self) -> None:
        self._joint_state.header.stamp = self.get_clock().now().to_msg()
        self._joints.publish(self._joint_state)

    def _receive_state(self, message: String) -> None:
        self._state = state_from_message(message)

    def _enable_if_idle(self) -> None:
        if self._chunks and self._enable.service_is_ready() and not self._state.enabled:
            self._enable.call_async(SetBool.Request(data=True))


def main() -> None:
    """Run until SIGTERM."""
    width, height, rate_hz, file = sys.argv[1:]
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    peer = Peer(int(width), int(height), float(rate_hz))
    signal.signal(signal.SIGTERM, lambda *_: peer.stop.set())
    executor = SingleThreadedExecutor()
    executor.add_node(peer)
    camera = threading.Thread(target=peer.capture_until_stopped, daemon=True)
    camera.start()
    while not peer.stop.is_set():
        executor.spin_once(timeout_sec=0.1)
    camera.join()
    Path(file).write_text(json.dumps(peer.commands_ns), encoding="utf-8")
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
