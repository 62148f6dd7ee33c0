"""The scripted expert takes the place of inference: it does the task on the simulated robot, without a policy.

Subscribes joint_states, object_pose and bin_pose; only the simulation knows these poses. Publishes action_chunk, with
the stamp of the joint state that it was planned from.
"""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from maskact_ros.core.align import AlignmentError, JointOrder
from maskact_ros.core.chunk import Chunk
from maskact_ros.core.paths import shared
from maskact_ros.core.robot import RobotSpec
from maskact_ros.nodes.ros.common_parameters import SIM_ROBOT_FILE
from maskact_ros.nodes.ros.managed import ManagedNode
from maskact_ros.nodes.ros.messages import chunk_to_message, stamp_to_ns
from maskact_ros.nodes.ros.node_process import main
from maskact_ros.nodes.ros.params import NodeParameter, refuse_unknown
from maskact_ros.nodes.ros.peers import Peers
from maskact_ros.sim.expert import Expert

PARAMETERS = (
    SIM_ROBOT_FILE,
    NodeParameter("plan_rate_hz", 10.0, "Chunks per second.", 1.0, 30.0, unit="Hz"),
    NodeParameter("horizon", 30, "Points in a chunk.", 2, 300),
)


MOST = 100.0  # m, rad and their rates: all poses and joints of a table-top scene are within this


class ExpertNode(ManagedNode):
    """Thin: newest joint state and poses -> the expert's rollout -> message."""

    def __init__(self) -> None:
        super().__init__("expert", PARAMETERS)

    def configure(self) -> None:
        """Create the expert and the topics."""
        refuse_unknown(self)
        self._robot = RobotSpec.from_yaml(self.get("robot_file") or shared("config/robot.yaml"))
        self._joints = JointOrder(self._robot.joint_names)
        self._expert = Expert(self._robot)
        self._state: JointState | None = None
        self._poses: dict[str, NDArray[np.float64]] = {}
        newest = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        self._chunks = self.create_lifecycle_publisher(JointTrajectory, "action_chunk", 1)
        self._subscriptions_made = [
            self.create_subscription(JointState, "joint_states", self._receive_joints, newest),
            self.create_subscription(PoseStamped, "object_pose", lambda m: self._receive_pose("object", m), newest),
            self.create_subscription(PoseStamped, "bin_pose", lambda m: self._receive_pose("bin", m), newest),
        ]
        self._peers = Peers(self, name="inference")  # the expert takes inference's place

    def activate(self) -> None:
        """Begin to plan."""
        self._timer = self.create_steady_timer(1.0 / self.get("plan_rate_hz"), self._plan)

    def deactivate(self) -> None:
        """Stop planning."""
        self.destroy_timer(self._timer)

    def clean_up(self) -> None:
        """Destroy the topics."""
        self.destroy_entities("_subscriptions_made", "_chunks")
        if "_peers" in self.__dict__:
            self.__dict__.pop("_peers").destroy()

    def _receive_joints(self, message: JointState) -> None:
        self._state = message

    def _receive_pose(self, what: str, message: PoseStamped) -> None:
        position, orientation = message.pose.position, message.pose.orientation
        place = (position.x, position.y, position.z)
        pose = np.array([*place, orientation.w, orientation.x, orientation.y, orientation.z])
        if not (np.abs(pose) <= MOST).all() or abs(np.linalg.norm(pose[3:]) - 1.0) > 0.1:
            self.diagnostics.problem(
                f"{what}_pose",
                f"{what}_pose is refused: it is {np.array2string(pose, precision=3)}; allowed: a position within "
                f"{MOST:g} m and a unit quaternion",
            )
            return
        self.diagnostics.solved(f"{what}_pose")
        self._poses[what] = pose

    def _plan(self) -> None:
        if self._state is None or len(self._poses) < 2:
            return
        state, self._state = self._state, None
        try:
            positions = self._joints.pick(state.name, state.position)
            velocities = self._joints.pick(state.name, state.velocity)
            if not (np.abs([positions, velocities]) <= MOST).all():
                raise AlignmentError(f"a position or velocity is beyond ±{MOST:g}")
        except AlignmentError as error:
            self.diagnostics.problem("joint_states", f"joint_states is refused: {error}")
            return
        self.diagnostics.solved("joint_states")
        poses = self._poses["object"], self._poses["bin"]
        actions = self._expert.rollout(positions, velocities, *poses, self.get("horizon"))
        chunk = Chunk(stamp_to_ns(state.header.stamp), self._robot.policy_period_ns, actions)
        self._chunks.publish(chunk_to_message(chunk, self._robot.joint_names))
        self.diagnostics.event("chunks")


def run() -> None:
    """Entry point of `ros2 run maskact_ros expert`."""
    main(ExpertNode)


if __name__ == "__main__":
    run()
