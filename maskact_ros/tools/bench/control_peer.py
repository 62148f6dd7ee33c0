"""The other side of the control benchmark, in a process of its own: it acts as arm and planner, and enables.

`python -m …` sends joint states at 100 Hz and chunks at 10 Hz, and subscribes command, until SIGTERM. For each line
NAME on stdin it prints NAME when NAME moves the arm: `maskact` (or `again`) when the publisher follows, another NAME
when commands come. For `commands` it prints the newest command's number and its receipt, in s by the steady clock.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from maskact_ros.control.ladder import FollowerState, Rung
from maskact_ros.core.chunk import Chunk
from maskact_ros.core.paths import shared
from maskact_ros.core.robot import RobotSpec
from maskact_ros.nodes.ros.messages import chunk_to_message, state_from_message
from maskact_ros.nodes.ros.stop_request import StopRequest
from maskact_ros.tools.bringup import BringupArguments

JOINT_STATES_HZ, CHUNKS_HZ = 100.0, 10.0
POINTS = 60  # of a chunk: two seconds of the simulated robot's policy period
AMPLITUDE, CYCLE_S = 0.1, 4.0  # rad and s, of the sine that every joint follows
_OURS = ("maskact", "again")  # a new publisher; the same publisher as before
ENOUGH = 10  # commands after which a loop counts as running


class Peer(Node):  # type: ignore[misc]
    """A node that acts as arm and planner: the arm is always at the last command."""

    def __init__(self) -> None:
        super().__init__("control_peer", namespace=BringupArguments().namespace)
        self._robot = RobotSpec.from_yaml(shared("config/robot.yaml"))
        self._middle = np.clip(0.0, self._robot.lower + AMPLITUDE, self._robot.upper - AMPLITUDE)
        self._middle[self._robot.upper - self._robot.lower < 2 * AMPLITUDE] = 0.0
        self._message = JointState(name=list(self._robot.joint_names), position=self._middle.tolist())
        self._state = FollowerState()
        self._asked, self._heard = "", 0
        self._newest = 0, 0.0  # number and receipt of the newest command
        reliable = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE)
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        self._joints = self.create_publisher(JointState, "joint_states", 10)
        self._chunks = self.create_publisher(JointTrajectory, "action_chunk", reliable)
        self.create_subscription(Float64MultiArray, "command", self._receive_command, reliable)
        self.create_subscription(String, "state", self._receive_state, latched)
        self._enable = self.create_client(SetBool, "action_publisher/enable")
        self._reset = self.create_client(Trigger, "action_publisher/reset")
        urdf = shared("config/sim_arm.urdf").read_text(encoding="utf-8")
        self.create_publisher(String, "/robot_description", latched).publish(String(data=urdf))
        self.create_timer(1 / JOINT_STATES_HZ, self._measure)
        self.create_timer(1 / CHUNKS_HZ, self._plan)
        self.create_timer(0.25, self._enable_if_idle)

    def ask(self, name: str) -> None:
        """Watch for NAME's commands from now on; in the thread that reads stdin."""
        if name == "commands":
            print(*self._newest, flush=True)
            return
        self._heard = 0
        if name != "again":
            self._state = FollowerState()  # discard the state of an earlier publisher
        self._asked = name

    def _measure(self) -> None:
        self._message.header.stamp = self.get_clock().now().to_msg()
        self._joints.publish(self._message)

    def _plan(self) -> None:
        now_ns = self.get_clock().now().nanoseconds
        period_ns = self._robot.policy_period_ns
        due_s = (now_ns + period_ns * np.arange(1, POINTS + 1)) / 1e9  # (K,)
        wave = AMPLITUDE * np.sin(2 * np.pi * (due_s % CYCLE_S) / CYCLE_S)
        actions = self._middle + wave[:, None]  # (K, D)
        actions = np.clip(actions, self._robot.lower, self._robot.upper)
        self._chunks.publish(chunk_to_message(Chunk(now_ns, period_ns, actions), self._robot.joint_names))

    def _receive_command(self, message: Float64MultiArray, about: dict[str, Any]) -> None:
        self._newest = about["publication_sequence_number"], time.monotonic()
        self._message.position = message.data
        self._heard += 1
        follows = self._asked not in _OURS or self._state.rung is Rung.FOLLOWING
        if self._asked and self._heard >= ENOUGH and follows:
            print(self._asked, flush=True)
            self._asked = ""

    def _receive_state(self, message: String) -> None:
        self._state = state_from_message(message)

    def _enable_if_idle(self) -> None:
        if self._asked not in _OURS or not self._enable.service_is_ready():
            return
        if self._state.rung is Rung.FAULT:
            self._reset.call_async(Trigger.Request())
        elif not self._state.enabled:
            self._enable.call_async(SetBool.Request(data=True))


def main() -> None:
    """Run until SIGTERM, or the end of stdin."""
    stop = StopRequest()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    peer = Peer()
    executor = SingleThreadedExecutor()
    executor.add_node(peer)

    def read() -> None:
        for line in sys.stdin:
            peer.ask(line.strip())
        stop.set()

    threading.Thread(target=read, daemon=True).start()
    while not stop.is_set():
        executor.spin_once(timeout_sec=0.1)
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
