"""Inference: features and joint states in, chunks of future joint positions out (the ACT part of a checkpoint).

Subscribes features, joint_states and the publisher's state; publishes action_chunk. With temporal ensembling every
image is planned from; without it a chunk is computed so early that it is there when the last one is used up.
"""

from __future__ import annotations

import threading
import time

from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CompressedImage, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from maskact_ros.align import AlignmentError, JointOrder, StateBuffer
from maskact_ros.checkpoint import CheckpointError
from maskact_ros.chunk import Chunk
from maskact_ros.control.ensemble import TemporalEnsembler
from maskact_ros.control.schedule import PlanSchedule
from maskact_ros.errors import MaskACTError
from maskact_ros.nodes.managed import DEVICE, NUM_THREADS, POLICY_PATH, ROBOT_FILE, ManagedNode, main
from maskact_ros.nodes.messages import (
    Features,
    MessageError,
    chunk_to_message,
    features_from_message,
    stamp_to_ns,
    state_from_message,
    state_used,
)
from maskact_ros.nodes.newest import NewestWorker
from maskact_ros.nodes.params import NodeParameter
from maskact_ros.policy.runtime import PlannerRuntime

PARAMETERS = (
    POLICY_PATH,
    ROBOT_FILE,
    DEVICE,
    NUM_THREADS,
    NodeParameter("features_reliable", False, "Whether features come reliably; as the camera encoder sends them."),
    NodeParameter("state_tolerance_s", 0.1, "How old the joint state at an image's stamp may be.", 0.001, 10.0),
    NodeParameter("max_image_age_s", 1.0, "Features of images older than this are not planned from.", 0.01, 60.0),
)


class Inference(ManagedNode):
    """Thin: features + joint state -> planner -> ensembler -> message."""

    def __init__(self) -> None:
        super().__init__("inference", PARAMETERS)
        self._worker: NewestWorker[Features] | None = None

    def configure(self) -> None:
        """Load the transformer and warm it up."""
        self._info, self._config, self._robot = self.policy_and_robot()
        if self._info.config.training_stage == "stage1":
            raise CheckpointError(
                f"{self._info.folder} is of training stage 1, which trains the masks only; use stage 2's"
            )
        self._runtime = PlannerRuntime.load(self._info, self._config, self.get("device"), threads=self.threads())
        self._runtime.warm_up()
        self._joints = JointOrder(self._robot.joint_names)
        self._states = StateBuffer(tolerance_s=self.get("state_tolerance_s"))
        coeff = self._config.temporal_ensemble_coeff
        self._ensembler = None if coeff is None else TemporalEnsembler(coeff)
        self._schedule = PlanSchedule(
            n_action_steps=self._config.n_action_steps,
            period_ns=self._robot.policy_period_ns,
            every_image=self._ensembler is not None,
        )
        self._epoch_lock = threading.Lock()
        self._epoch = 0
        self._publisher_epoch: int | None = None

        newest = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        reliable = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE)
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        every_state = QoSProfile(depth=10, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        self._chunks = self.create_lifecycle_publisher(JointTrajectory, "action_chunk", reliable)
        self._used = self.create_lifecycle_publisher(String, "~/used", 10)
        self._subscriptions_made = [
            self.create_subscription(JointState, "joint_states", self._receive_joints, every_state),
            self.create_subscription(String, "state", self._receive_state, latched),
            self.create_subscription(
                CompressedImage,
                "features",
                self._receive_features,
                reliable if self.get("features_reliable") else newest,
            ),
        ]
        self._reset = self.create_service(Trigger, "~/reset", self._serve_reset)

    def activate(self) -> None:
        """Begin to plan."""
        self._new_epoch()
        self._worker = NewestWorker(self._plan, name="plan")

    def deactivate(self) -> None:
        """Stop planning; the chunk in work is thrown away."""
        if self._worker is not None:
            self._new_epoch()
            self._worker.stop()
            self._worker = None

    def clean_up(self) -> None:
        """Let go of the transformer and the topics."""
        self.destroy_entities("_subscriptions_made", "_chunks", "_used", "_reset")
        self.__dict__.pop("_runtime", None)

    @property
    def crash(self) -> Exception | None:
        """What ended the worker, if anything did."""
        return self._worker.crash if self._worker is not None else None

    def _receive_joints(self, message: JointState) -> None:
        try:
            positions = self._joints.pick(message.name, message.position)
        except AlignmentError as error:
            self.diagnostics.problem("joint_states", f"joint_states is refused: {error}")
            return
        self.diagnostics.solved("joint_states")
        self._states.add(stamp_to_ns(message.header.stamp), positions)

    def _receive_state(self, message: String) -> None:
        try:
            state = state_from_message(message)
        except MessageError as error:
            self.diagnostics.problem("state", str(error))
            return
        if state.epoch != self._publisher_epoch:
            self._publisher_epoch = state.epoch
            self._new_epoch()

    def _receive_features(self, message: CompressedImage) -> None:
        if self._worker is None:
            return
        try:
            features = features_from_message(message)
        except MessageError as error:
            self.diagnostics.problem("features", str(error))
            return
        if features.weights_hash != self._info.weights_hash:
            self.diagnostics.problem(
                "features",
                f"the features are of the weights {features.weights_hash[:12]}, this node has "
                f"{self._info.weights_hash[:12]}; start both nodes with the same policy_path",
            )
            return
        self.diagnostics.solved("features")
        self.diagnostics.event("features")
        if self._worker.put(features):
            self.diagnostics.count("features_dropped")

    def _plan(self, features: Features) -> None:
        with self._epoch_lock:
            epoch = self._epoch
            wanted = self._schedule.wants(features.stamp_ns)
        age_s = (self.get_clock().now().nanoseconds - features.stamp_ns) / 1e9
        if age_s > self.get("max_image_age_s"):
            self.diagnostics.count("features_too_old")
            return
        if not wanted:
            return
        try:
            state = self._states.at(features.stamp_ns)
        except AlignmentError as error:
            topic = self.resolve_topic_name("joint_states")
            self.diagnostics.problem("alignment", f"no chunk without the joints ({topic}): {error}")
            return
        self.diagnostics.solved("alignment")
        started_s = time.perf_counter()
        try:
            actions = self._runtime.predict(features.features, features.patch_labels, state)
        except MaskACTError as error:
            self.diagnostics.problem("policy", f"no chunk: {error}")
            return
        self.diagnostics.solved("policy")
        self.diagnostics.duration("plan", (time.perf_counter() - started_s) * 1e3)
        chunk = Chunk(features.stamp_ns, self._robot.policy_period_ns, actions)
        with self._epoch_lock:
            if epoch != self._epoch:
                self.diagnostics.count("chunks_of_an_old_epoch")
                return
            if self._ensembler is not None:
                chunk = self._ensembler.add(chunk)
            self._chunks.publish(chunk_to_message(chunk, self._robot.joint_names))
            ready_ns = self.get_clock().now().nanoseconds
            self._schedule.planned(chunk.stamp_ns, ready_ns)
        if self._used.get_subscription_count():
            self._used.publish(state_used(features.stamp_ns, state))
        self.diagnostics.event("chunks")
        self.diagnostics.duration("chunk_age", (ready_ns - chunk.stamp_ns) / 1e6)

    def _serve_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._new_epoch()
        response.success, response.message = True, "the plan is forgotten; the next image is planned from"
        return response

    def _new_epoch(self) -> None:
        """Forget the plan; a chunk that is being computed is thrown away when it is done."""
        with self._epoch_lock:
            self._epoch += 1
            self._schedule.reset()
            if self._ensembler is not None:
                self._ensembler.reset()


def run() -> None:
    """Entry point of `ros2 run maskact_ros inference`."""
    main(Inference)


if __name__ == "__main__":
    run()
