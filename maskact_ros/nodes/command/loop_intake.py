"""The command loop's subscriptions: it polls for the newest joint state and the newest chunk once a period.

In: the topics joint_states and action_chunk. Out: calls of the follower, in the loop's thread. Refused messages are
reported on /diagnostics.
"""

from __future__ import annotations

from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from maskact_ros.control.follower import PlanFollower
from maskact_ros.control.joint_watch import Measured
from maskact_ros.control.loop_clock import LoopClock, steady_ns
from maskact_ros.core.align import JointOrder
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.robot import RobotSpec
from maskact_ros.nodes.command.sole_planner import SolePlanner
from maskact_ros.nodes.ros.control_cdr import MOST_POINTS, ChunkReader, JointStateReader, most_bytes
from maskact_ros.nodes.ros.managed import ManagedNode
from maskact_ros.nodes.ros.messages import MessageError
from maskact_ros.nodes.ros.polled import PolledSubscription
from maskact_ros.nodes.ros.receipt import joint_states_clock

_RELIABLE = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE)
_NEWEST = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)


class LoopIntake:
    """The two polled subscriptions; raises ParameterError for a wrong joint_states_stamp_source."""

    def __init__(self, node: ManagedNode, robot: RobotSpec, clock: LoopClock, chunk_size: int):
        self._diagnostics, self._clock = node.diagnostics, clock
        self._receipts = joint_states_clock(node, clock.read_ns)
        self._read_chunk = ChunkReader(JointOrder(robot.joint_names), max(MOST_POINTS, chunk_size))
        self._read_joint_state = JointStateReader(JointOrder(robot.joint_names))
        largest, share = most_bytes(self._read_chunk.most_points, len(robot.joints)), node.STRANGERS_SHARE
        self._chunks = PolledSubscription(
            node, JointTrajectory, "action_chunk", _RELIABLE, most_bytes=largest, share=share
        )
        self._joint_states = PolledSubscription(node, JointState, "joint_states", _NEWEST, share=share)
        self.sole_planner = SolePlanner(node, "action_chunk")
        self._follower: PlanFollower | None = None
        self._asked_ns = 0  # when joint states were last polled, on the steady clock

    def destroy(self) -> None:
        """Destroy the subscriptions."""
        for entity in (self._chunks, self._joint_states, self.sole_planner):
            entity.destroy()

    def begin(self, follower: PlanFollower) -> None:
        """Take messages for this follower from now on; called when its loop begins."""
        self._follower, self._asked_ns = follower, 0

    def allow_chunks_of(self, chunk_size: int) -> None:
        """Accept chunks of up to `chunk_size` points, too."""
        self._read_chunk.most_points = max(MOST_POINTS, chunk_size)

    @property
    def chunks_skipped(self) -> int:
        """Number of chunks that a newer one replaced before they were read."""
        return self._chunks.skipped

    @property
    def joint_states_skipped(self) -> int:
        """Number of joint states that a newer one replaced before they were read."""
        return self._joint_states.skipped

    def observe(self) -> None:
        """Take the newest joint state, if one has come since the last period."""
        if self._joint_states.rests:
            return
        before_ns, self._asked_ns = self._asked_ns, steady_ns()
        try:
            heard = self._joint_states.read(self._read_joint_state.read)
        except MaskACTError as error:
            self._diagnostics.problem("joint_states", f"joint_states is refused: {error}")
            return
        if heard is None:
            return
        (stamp_ns, positions), age_ns = heard
        stamp_ns = self._receipts.stamp_ns(age_ns) if self._receipts else stamp_ns
        # It came after the last poll, even if the system's clock has been set since.
        received_ns = max(before_ns, self._asked_ns - age_ns)
        assert self._follower is not None
        refusal = self._follower.observe(Measured(positions, stamp_ns, received_ns))
        if refusal is None:
            self._diagnostics.solved("joint_states")
        elif self._follower.sends:  # else a jump is normal: the arm was moved by hand, or a simulation reset
            self._diagnostics.problem("joint_states", f"joint_states is not believed: {refusal}")

    def hear_chunk(self) -> None:
        """Take the newest chunk, if one has come since the last period."""
        try:
            self._chunks.read(self._receive_chunk)
        except MessageError as error:
            self._diagnostics.problem("action_chunk", str(error))
            self._diagnostics.count("chunks_refused")

    def _receive_chunk(self, data: bytes) -> None:
        chunk = self._read_chunk.read(data)
        now_ns, off_ns = self._clock.even_time()
        if chunk.stamp_ns > now_ns + off_ns:
            ahead_s = (chunk.stamp_ns - now_ns) / 1e9
            raise MessageError(f"the chunk is from the future: its stamp is {ahead_s:.3f} s ahead of this clock")
        self._diagnostics.solved("action_chunk")
        if self.sole_planner.heard(self._chunks.number) is not None:  # its reason is reported once a second
            self._diagnostics.count("chunks_refused")
            return
        self._diagnostics.event("chunks")
        assert self._follower is not None
        self._follower.offer(chunk, now_ns, off_ns)
