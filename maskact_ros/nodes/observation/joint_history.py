"""The joint states of the last seconds. Inference asks for the one in force at an image's stamp.

Joint states are polled: waking rclpy's executor costs 1 to 2 ms, and they may arrive at 1 kHz.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import JointState

from maskact_ros.core.align import JointOrder, StateBuffer
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.robot import RobotSpec
from maskact_ros.nodes.ros.control_cdr import JointStateReader
from maskact_ros.nodes.ros.managed import ManagedNode
from maskact_ros.nodes.ros.polled import PolledSubscription
from maskact_ros.nodes.ros.receipt import joint_states_clock

HEAR_EVERY_S = 0.1  # polling interval while inference does not ask for joint states
WAITING_STATES = 1000  # queue depth: for the states of one interval, and of a time when the process cannot run


class JointHistory:
    """Subscribes joint_states and keeps them with their stamps (see `joint_states_stamp_source`); for any thread.

    Raises ParameterError if that parameter is neither header nor receipt.
    """

    def __init__(self, node: ManagedNode, robot: RobotSpec, *, tolerance_s: float, now_ns: Callable[[], int]):
        self._node, self._now_ns = node, now_ns
        self._receipts = joint_states_clock(node, now_ns)
        self._reader = JointStateReader(JointOrder(robot.joint_names))
        self._states = StateBuffer(tolerance_s=tolerance_s)
        self._hearing = threading.Lock()
        self._last: tuple[int, int] | None = None  # the newest state's stamp, and its receipt on the steady clock
        all_since = QoSProfile(depth=WAITING_STATES, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        self._subscription = PolledSubscription(node, JointState, "joint_states", all_since)
        self._timer = node.create_steady_timer(HEAR_EVERY_S, self.hear)

    def destroy(self) -> None:
        """Destroy timer and subscription."""
        self._node.destroy_timer(self._timer)
        self._subscription.destroy()

    def hear(self) -> None:
        """Take all joint states that have come since the last call."""
        diagnostics = self._node.diagnostics
        with self._hearing:
            for _ in range(WAITING_STATES):
                try:
                    heard = self._subscription.read(self._reader.read)
                    if heard is None:
                        return
                    (stamp_ns, positions), age_ns = heard
                    self._last = stamp_ns, time.monotonic_ns() - age_ns
                    self._states.add(self._receipts.stamp_ns(age_ns) if self._receipts else stamp_ns, positions)
                except MaskACTError as error:
                    diagnostics.problem("joint_states", f"joint_states is refused: {error}")
                else:
                    diagnostics.solved("joint_states")

    @property
    def tolerance_s(self) -> float:
        """How old the joint state at an image's stamp may be."""
        return self._states.tolerance_s

    @tolerance_s.setter
    def tolerance_s(self, tolerance_s: float) -> None:
        self._states.tolerance_s = tolerance_s

    def at(self, stamp_ns: int, off_ns: int = 0) -> NDArray[np.float64]:
        """As `StateBuffer.at`, after taking all joint states that have come until now; raises AlignmentError."""
        self.hear()
        return self._states.at(stamp_ns, off_ns)

    def moved_since(self, stamp_ns: int) -> NDArray[np.float64]:
        """As `StateBuffer.moved_since`; raises AlignmentError."""
        return self._states.moved_since(stamp_ns)

    def why_none(self, reason: str) -> str:
        """Why there is no joint state for an image, and the remedy if the stamps seem to be of another clock."""
        text = f"no chunk without the joints ({self._node.resolve_topic_name('joint_states')}): {reason}"
        if self._last is None or self._receipts is not None:
            return text
        stamp_ns, received_ns = self._last
        apart_s = (self._now_ns() - time.monotonic_ns() + received_ns - stamp_ns) / 1e9
        if abs(apart_s) <= self.tolerance_s:
            return text
        return (
            f"{text}; by their stamps, joint states are {apart_s:.3f} s old when they come: if these are not by the "
            "robot's clock, set joint_states_stamp_source to receipt"
        )
