"""Inference: features and joint states in, chunks of future joint positions out (the ACT part of a checkpoint).

Subscribes features, joint_states and the publisher's state; publishes action_chunk. `~/reset` discards the plan.
With ensembling it plans from every image. Without, it plans early enough that the next chunk follows the last one.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from maskact_ros.core.checkpoint import CheckpointError, CheckpointInfo
from maskact_ros.core.config import MaskACTConfig
from maskact_ros.nodes.command.chunk_use import ChunkUse
from maskact_ros.nodes.observation.engine_parameters import engine_of, let_waiting_threads_sleep
from maskact_ros.nodes.observation.feature_intake import FeatureIntake, Received
from maskact_ros.nodes.observation.joint_history import JointHistory
from maskact_ros.nodes.observation.planner_parameters import PARAMETERS, Settings
from maskact_ros.nodes.observation.refusals import Refusals
from maskact_ros.nodes.ros.control_cdr import ChunkMessage
from maskact_ros.nodes.ros.drop_watch import DropWatch
from maskact_ros.nodes.ros.even_clock import EvenClock
from maskact_ros.nodes.ros.latest_worker import NewestWorker
from maskact_ros.nodes.ros.managed import ManagedNode
from maskact_ros.nodes.ros.messages import MessageError, state_from_message, state_used
from maskact_ros.nodes.ros.node_process import main
from maskact_ros.nodes.ros.params import changed, snapshot
from maskact_ros.nodes.ros.peers import Peers
from maskact_ros.nodes.ros.policy_swap import PolicySwap
from maskact_ros.nodes.ros.slow_topic import SlowTopic
from maskact_ros.policy.infer import ChunkPlanner, Epoch, PlanSetup, Refusal
from maskact_ros.policy.runtime import PlannerRuntime

OVERTAKEN = "epochs begin faster than this machine plans: by enabling, disabling, a reset, or a change of policy"


class Inference(ManagedNode):
    """Thin: features + joint states -> `ChunkPlanner` -> message. A worker thread plans; the executor's receives."""

    CHANGEABLE_SPEC = frozenset({"n_action_steps", "temporal_ensemble_coeff", "label_attention_rules"})

    def __init__(self) -> None:
        super().__init__("inference", PARAMETERS)
        self._worker: NewestWorker[Received] | None = None

    def configure(self) -> None:
        """Load the transformer and warm it up."""
        info, config, self._robot = self.policy_and_robot()
        _check_stage(info)
        self._settings = snapshot(Settings, self.get)
        self._runtime = self._under(self._load(info), config)
        self._say_engine()
        self._chunk_message, self._even_clock = ChunkMessage(self._robot.joint_names), EvenClock(self)
        self._joints = JointHistory(
            self, self._robot, tolerance_s=self._settings.state_tolerance_s, now_ns=self._even_clock.now_ns
        )
        self._setup_lock = threading.Lock()  # held while publishing, so that every chunk is of the epoch in force
        self._setup = PlanSetup(self._runtime, Epoch(), self._settings.frozen_timeout_s)
        self._planner = ChunkPlanner(self._robot, self._joints, self._setup)
        self._publisher_epoch: int | None = None
        self._swap = PolicySwap(
            self,
            info,
            leads=False,
            check=self._check_policy,
            load=self._load,
            switch=self._switch,
            chunk_use=lambda: ChunkUse.of(self._runtime.info.config).text,
        )
        self._intake = FeatureIntake(
            self.diagnostics,
            self._even_clock,
            limit_s=lambda: self._settings.max_image_age_s,
            expected=self._expected_weights,
        )
        self._refusals = Refusals(self.diagnostics, self._joints, self._intake.turn)
        self._planned = DropWatch(self.diagnostics, "chunks are not sent")

        reliable = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE)
        best_effort = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        self._chunks = self.create_lifecycle_publisher(JointTrajectory, "action_chunk", reliable)
        self._used = self.create_lifecycle_publisher(String, "~/used", 10)
        features_qos = reliable if self.get("features_reliable") else best_effort
        receive = self._receive_features
        self._features = self.create_subscription(CompressedImage, "features", receive, features_qos, raw=True)
        self._publisher_states = SlowTopic(self, String, "state", self._receive_state, latched)
        self._reset = self.create_service(Trigger, "~/reset", self._serve_reset)
        self._peers = Peers(self, ("camera_encoder", "action_publisher"), lost=self._lose)

    def activate(self) -> None:
        """Begin to plan."""
        self._new_epoch()
        self._intake.reset()
        self._planned.reset()
        self._worker = NewestWorker(self._plan, name="plan")

    def deactivate(self) -> None:
        """Stop planning, and discard the chunk that is being computed."""
        if self._worker is not None:
            self._new_epoch()
            self._worker.stop()
            self._worker = None

    def clean_up(self) -> None:
        """Release the transformer and destroy the topics."""
        self.destroy_entities("_features", "_chunks", "_used", "_reset")
        if swap := self.__dict__.pop("_swap", None):
            swap.close()
        for held in ("_joints", "_publisher_states", "_peers"):
            if entity := self.__dict__.pop(held, None):
                entity.destroy()
        for weights in ("_planner", "_setup", "_runtime"):
            self.__dict__.pop(weights, None)

    def reconfigure(self, values: Mapping[str, Any]) -> None:
        """Make the next plan with these values. Another policy is loaded first, while the present one runs."""
        if "policy_path" in values:
            self._swap.begin(values)
        before, config = self._runtime.info.config, self.config_with(values)
        self._settings = changed(self._settings, values)
        self._joints.tolerance_s = self._settings.state_tolerance_s
        self._use(self._under(self._runtime, config))
        self.diagnostics.value("dropped_patches", self._runtime.drops_text)
        if ChunkUse.of(config) != ChunkUse.of(before):
            self._swap.say_again()

    @property
    def crash(self) -> Exception | None:
        """The exception that ended the worker, or None."""
        return self._worker.crash if self._worker is not None else None

    def _check_policy(self, path: str) -> CheckpointInfo:
        info = self.check_policy(path, self._robot)
        _check_stage(info)
        return info

    def _load(self, info: CheckpointInfo) -> PlannerRuntime:
        runtime = PlannerRuntime.load(info, engine=engine_of(self))
        runtime.warm_up()
        return runtime

    def _under(self, runtime: PlannerRuntime, config: MaskACTConfig) -> PlannerRuntime:
        return runtime.with_config(config, drop_isolated=self._settings.drop_isolated_patches)

    def _switch(self, runtime: PlannerRuntime) -> None:
        """Plan with another policy from now on, in a new epoch, and discard the plan that is being computed."""
        self._use(self._under(runtime, self.config_under(runtime.info)))
        self._say_engine()
        self._new_epoch()

    def _use(self, runtime: PlannerRuntime) -> None:
        self._runtime = runtime
        with self._setup_lock:
            self._setup = PlanSetup(runtime, self._setup.epoch, self._settings.frozen_timeout_s)

    def _new_epoch(self, began_ns: int | None = None) -> None:
        """Discard the plan, and the chunk that is being computed when it is done."""
        with self._setup_lock:
            before = self._setup.epoch
            began_ns = before.began_ns if began_ns is None else began_ns
            self._setup = replace(self._setup, epoch=Epoch(before.number + 1, began_ns))

    def _say_engine(self) -> None:
        self.get_logger().info(f"the planner runs on {self._runtime.engine_text}; {self._runtime.drops_text}")
        self.diagnostics.value("engine", self._runtime.engine_text)
        self.diagnostics.value("dropped_patches", self._runtime.drops_text)

    def _lose(self, name: str) -> None:
        if name == "camera_encoder":
            self._swap.lost(name)

    def _expected_weights(self, come: str) -> str:
        """The hash that features must have. The first ones of a policy that is ready switch inference to it."""
        if come != self._runtime.weights_hash:
            self._swap.first_features(come)
        return self._runtime.weights_hash

    def _receive_state(self, message: String) -> None:
        try:
            state = state_from_message(message)
        except MessageError as error:
            self.diagnostics.problem("state", str(error))
            return
        self.diagnostics.solved("state")
        if state.epoch != self._publisher_epoch:
            self._publisher_epoch = state.epoch
            self._new_epoch(began_ns=self._even_clock.now_ns() + self._even_clock.off_ns)

    def _serve_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._new_epoch()
        response.success, response.message = True, "the plan is forgotten; the next image is planned from"
        return response

    def _receive_features(self, data: bytes, about: dict[str, int]) -> None:
        if self._worker is None:
            return
        received = self._intake.receive(data, about)
        if received is not None and self._worker.hand_over(received):
            self.diagnostics.count("features_dropped")

    def _plan(self, received: Received) -> None:
        """Plan from one image's features, and publish the chunk; in the worker's thread."""
        features, setup = received.features, self._setup
        self._planner.follow(setup)
        if not self._planner.wants(features.stamp_ns):
            self._intake.turn.used()
            return
        if not self._intake.is_recent(received):
            return
        planned = self._planner.plan(features, now_ns=self._even_clock.now_ns(), off_ns=self._even_clock.off_ns)
        self._refusals.say(planned)
        if isinstance(planned, Refusal):
            return
        self.diagnostics.duration("plan", planned.predict_s * 1e3)
        with self._setup_lock:
            if setup.epoch != self._setup.epoch:
                self._planned.dropped("chunks_of_an_old_epoch", lambda: OVERTAKEN)
                return
            self._planned.used()
            self._chunks.publish(self._chunk_message.of(planned.chunk))
            ready_ns = self._even_clock.now_ns()
        self._planner.published(planned.chunk, ready_ns)
        if self._used.get_subscription_count():
            self._used.publish(state_used(features.stamp_ns, planned.state))
        self.diagnostics.event("chunks")
        self.diagnostics.duration("chunk_age", (ready_ns - planned.chunk.stamp_ns) / 1e6)


def _check_stage(info: CheckpointInfo) -> None:
    if info.config.training_stage == "stage1":
        raise CheckpointError(f"{info.folder} is of training stage 1, which trains the masks only; use stage 2's")


def run() -> None:
    """Entry point of `ros2 run maskact_ros inference`."""
    let_waiting_threads_sleep()
    main(Inference)


if __name__ == "__main__":
    run()
