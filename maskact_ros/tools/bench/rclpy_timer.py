"""The simple solution, for comparison: an rclpy timer that publishes commands, and a subscription, in one executor.

`python -m … FILE RATE_HZ PRIORITY`: it records its wake-ups, and writes them at SIGTERM; a priority of 0 leaves the
scheduling unchanged. It publishes as many numbers as the action publisher, and subscribes the same joint states.
"""

from __future__ import annotations

import array
import signal
import sys
import time
from pathlib import Path

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from maskact_ros.control.realtime import prefer_realtime
from maskact_ros.tools.bench.wakes import WakeRecord
from maskact_ros.tools.bringup import BringupArguments

JOINTS = 7  # of the simulated robot


class TimerNode(Node):  # type: ignore[misc]
    """One timer, one publisher, one subscription."""

    def __init__(self, rate_hz: float) -> None:
        super().__init__("rclpy_timer", namespace=BringupArguments().namespace)
        self.record = WakeRecord()
        self._measured = array.array("d", bytes(8 * JOINTS))
        newest = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        reliable = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE)
        self.create_subscription(JointState, "joint_states", self._receive_joints, newest)
        self._commands = self.create_publisher(Float64MultiArray, "command", reliable)
        self._timer = self.create_timer(1.0 / rate_hz, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._deadline_ns = self._next_deadline_ns()

    def _next_deadline_ns(self) -> int:
        return time.monotonic_ns() + int(self._timer.time_until_next_call())

    def _tick(self) -> None:
        self.record.note(self._deadline_ns, time.monotonic_ns())
        self._deadline_ns = self._next_deadline_ns()  # rcl has skipped deadlines that have passed
        self._commands.publish(Float64MultiArray(data=self._measured))

    def _receive_joints(self, message: JointState) -> None:
        self._measured = message.position


def main(file: Path, rate_hz: float, priority: int) -> None:
    """Run until SIGTERM."""
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
    if priority:
        prefer_realtime(priority)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = TimerNode(rate_hz)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not stop:
        executor.spin_once(timeout_sec=0.1)
    node.record.save(file)
    rclpy.try_shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
