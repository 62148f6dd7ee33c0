"""The action publisher: chunks in, one joint command each control period out, within the robot's limits.

Subscribes action_chunk and joint_states; publishes command and state. Silent until `~/enable` is called with true;
then it follows chunks captured after that, brakes and holds when there is nothing to follow, and says why in `state`.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from maskact_ros.align import AlignmentError, JointOrder
from maskact_ros.control.follower import FollowerState, Measured, PlanFollower
from maskact_ros.control.realtime import SERVING_PRIORITY, SWITCH_S, RateLoop, prefer_realtime
from maskact_ros.nodes.bringup import LEAVING_S
from maskact_ros.nodes.managed import POLICY_PATH, ROBOT_FILE, ManagedNode, main
from maskact_ros.nodes.messages import CommandMessage, MessageError, chunk_from_message, state_to_message
from maskact_ros.nodes.params import NodeParameter

PARAMETERS = (
    POLICY_PATH,
    ROBOT_FILE,
    NodeParameter("control_rate_hz", 100.0, "Commands a second.", 10.0, 1000.0),
    NodeParameter(
        "release_on_disable",
        False,
        "Whether to go silent once at rest after disabling, for teleoperation, instead of holding the last set point.",
    ),
    NodeParameter(
        "joint_states_timeout_s", 0.2, "Without joint states for so long, the arm brakes and holds.", 0.01, 10.0
    ),
)


class ActionPublisher(ManagedNode):
    """Thin: subscriptions fill an inbox, the command loop empties it, asks the follower, and publishes."""

    def __init__(self) -> None:
        super().__init__("action_publisher", PARAMETERS)
        self._loop: RateLoop | None = None

    def configure(self) -> None:
        """Check the robot against the checkpoint; create topics and services."""
        _, _, self._robot = self.policy_and_robot()
        self._command_joints = JointOrder(self._robot.joint_names)
        self._state_joints = JointOrder(self._robot.joint_names)
        self._measured: Measured | None = None
        self._inbox: deque[Callable[[PlanFollower, int], None]] = deque()  # from any thread to the command loop
        self._command = CommandMessage(len(self._robot.joints))

        reliable = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE)
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        newest = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        self._commands = self.create_lifecycle_publisher(Float64MultiArray, "command", reliable)
        self._states = self.create_lifecycle_publisher(String, "state", latched)
        self._subscriptions_made = [
            self.create_subscription(JointTrajectory, "action_chunk", self._receive_chunk, reliable),
            self.create_subscription(JointState, "joint_states", self._receive_joints, newest),
        ]
        self._services_made = [
            self.create_service(SetBool, "~/enable", self._serve_enable),
            self.create_service(Trigger, "~/reset", self._serve_reset),
        ]

    def activate(self) -> None:
        """Start the command loop, silent."""
        rate_hz = self.get("control_rate_hz")
        self._inbox.clear()
        self._measured = None
        self._follower = PlanFollower(
            self._robot,
            rate_hz=rate_hz,
            joint_states_timeout_s=self.get("joint_states_timeout_s"),
            release_on_disable=self.get("release_on_disable"),
        )
        self._bug: Exception | None = None
        self._said: FollowerState | None = None
        self._activated_s = time.monotonic()
        self._report = self.create_steady_timer(1.0, self._report_loop)
        sys.setswitchinterval(SWITCH_S)
        prefer_realtime(SERVING_PRIORITY)
        self._loop = RateLoop(rate_hz, self._tick, name="command", realtime=True)
        self._loop.start()

    def deactivate(self) -> None:
        """Come to rest, then stop the command loop."""
        if self._loop is not None:
            self.leave()
            self._loop.stop()
            self._loop = None
            self.destroy_timer(self._report)

    def clean_up(self) -> None:
        """Let go of topics and services."""
        self.destroy_entities("_subscriptions_made", "_services_made", "_commands", "_states")

    def leave(self) -> None:
        """Brake within the limits, and wait until the set point rests."""
        if self._loop is None:
            return
        self._inbox.append(lambda follower, _: follower.disable("the node is leaving"))
        until_s = time.monotonic() + self._robot.stopping_s + LEAVING_S
        while self._inbox or not self._follower.at_rest:
            if self._loop.failure is not None or time.monotonic() > until_s:
                self.get_logger().error("the arm was still moving when its commands ended")
                return
            time.sleep(0.01)

    @property
    def crash(self) -> BaseException | None:
        """A bug that ended the command loop, or that will when the arm has come to rest."""
        if self._loop is None:
            return None
        return self._loop.failure or (self._bug if self._bug is not None and self._follower.at_rest else None)

    def _tick(self, _: int) -> None:
        """One control period, in the command loop's thread."""
        set_point = self._decide()
        if set_point is not None:
            self._commands.publish(self._command.of(set_point))
            self.diagnostics.event("commands")
        while self._follower.image_to_command_ms:
            self.diagnostics.duration("image_to_command", self._follower.image_to_command_ms.popleft())
        if self._follower.state != self._said:
            self._said = self._follower.state
            self._states.publish(state_to_message(self._said))
            self.get_logger().info(f"{self._said.rung}: {self._said.reason}")

    def _decide(self) -> NDArray[np.float64] | None:
        """The set point of this period; after a bug the arm brakes, whatever else is the matter."""
        if self._bug is None:
            try:
                now_ns = self.get_clock().now().nanoseconds
                while self._inbox:
                    self._inbox.popleft()(self._follower, now_ns)
                return self._follower.tick(now_ns, time.monotonic())
            except Exception as bug:  # noqa: BLE001 - a moving arm must not be left at speed
                self._bug = bug
        return self._follower.brake()

    def _receive_chunk(self, message: JointTrajectory) -> None:
        try:
            chunk = chunk_from_message(message, self._command_joints)
            ahead_s = (chunk.stamp_ns - self.get_clock().now().nanoseconds) / 1e9
            if ahead_s > 0:
                raise MessageError(f"the chunk is from the future: its stamp is {ahead_s:.3f} s ahead of this clock")
        except MessageError as error:
            self.diagnostics.problem("action_chunk", str(error))
            self.diagnostics.count("chunks_refused")
            return
        self.diagnostics.solved("action_chunk")
        self.diagnostics.event("chunks")
        self._inbox.append(lambda follower, now_ns: follower.offer(chunk, now_ns))

    def _receive_joints(self, message: JointState) -> None:
        try:
            positions = self._state_joints.pick(message.name, message.position)
        except AlignmentError as error:
            self.diagnostics.problem("joint_states", f"joint_states is refused: {error}")
            return
        self.diagnostics.solved("joint_states")
        self._measured = measured = Measured(positions, time.monotonic())
        self._inbox.append(lambda follower, _: follower.observe(measured))

    def _serve_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if self._loop is None:
            response.success, response.message = False, "the node is not active"
        elif not request.data:
            self._inbox.append(lambda follower, _: follower.disable("disabled by ~/enable"))
            response.success, response.message = True, "braking, then holding the last set point"
        elif self._measured is None or time.monotonic() - self._measured.received_s > 1.0:
            topic = self.resolve_topic_name("joint_states")
            response.success, response.message = False, f"not enabled: no usable joint states on {topic} within 1 s"
        else:
            self._inbox.append(lambda follower, now_ns: follower.enable(now_ns))
            topic, planners = self.resolve_topic_name("action_chunk"), self.count_publishers("action_chunk")
            missing = "" if planners else f"; nothing publishes {topic} yet, the arm moves as soon as something does"
            response.success = True
            response.message = f"enabled; engaging with the first chunk captured from now on{missing}"
        return response

    def _serve_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._loop is None:
            response.success, response.message = False, "the node is not active"
        else:
            self._inbox.append(lambda follower, now_ns: follower.reset(now_ns))
            response.success, response.message = True, "a new epoch begins; what is in flight is thrown away"
        return response

    def _report_loop(self) -> None:
        """Figures of the command loop for /diagnostics, once a second, in the executor's thread."""
        if self._loop is None:
            return
        state = self._follower.state
        for name, value in (("rung", state.rung), ("epoch", state.epoch), ("reason", state.reason)):
            self.diagnostics.value(name, value)
        self.diagnostics.value("scheduler", self._loop.scheduler)
        self.diagnostics.value("deadline_misses", self._loop.misses)
        self.diagnostics.value("stalls", self._follower.stalls)
        self.diagnostics.value("targets_clamped", self._follower.clamped)
        self.diagnostics.value("chunks_out_of_date", self._follower.chunks_refused)
        while self._loop.lateness_us:
            self.diagnostics.duration("command_lateness", self._loop.lateness_us.popleft() / 1e3)
        if state.enabled and state.rung == "holding":
            self.diagnostics.problem("holding", f"the arm holds: {state.reason}", self.diagnostics.WARN)
        else:
            self.diagnostics.solved("holding")


def run() -> None:
    """Entry point of `ros2 run maskact_ros action_publisher`."""
    main(ActionPublisher)


if __name__ == "__main__":
    run()
