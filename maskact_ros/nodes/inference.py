"""Inference: features and joint states in, chunks of future joint positions out (the ACT part of a checkpoint).

Subscribes features, joint_states and the publisher's state; publishes action_chunk. With temporal ensembling every
image is planned from; without it a chunk is computed so early that it is there when the last one is used up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from maskact_ros.control.ensemble import TemporalEnsembler
from maskact_ros.control.lateness import Lateness
from maskact_ros.control.schedule import PlanSchedule
from maskact_ros.core.align import AlignmentError
from maskact_ros.core.checkpoint import CheckpointError, CheckpointInfo
from maskact_ros.core.chunk import Chunk
from maskact_ros.core.config import MaskACTConfig
from maskact_ros.core.errors import MaskACTError
from maskact_ros.nodes.command.chunk_use import ChunkUse
from maskact_ros.nodes.observation.engine_parameters import engine_of, let_waiting_threads_sleep
from maskact_ros.nodes.observation.joint_history import JointHistory
from maskact_ros.nodes.observation.planner_parameters import PARAMETERS, Settings
from maskact_ros.nodes.ros.control_cdr import ChunkMessage
from maskact_ros.nodes.ros.drop_watch import DropWatch
from maskact_ros.nodes.ros.even_clock import EvenClock
from maskact_ros.nodes.ros.image_cdr import see_compressed_image
from maskact_ros.nodes.ros.latest_worker import NewestWorker
from maskact_ros.nodes.ros.managed import ManagedNode, main
from maskact_ros.nodes.ros.messages import Features, MessageError, features_from_message, state_from_message, state_used
from maskact_ros.nodes.ros.params import changed, snapshot
from maskact_ros.nodes.ros.peers import Peers
from maskact_ros.nodes.ros.policy_swap import PolicySwap
from maskact_ros.nodes.ros.slow_topic import SlowTopic
from maskact_ros.policy.runtime import PlannerRuntime

AHEAD_S = 0.2  # that features may be of the future: a simulation's clock has coarse ticks
STILL_RAD = 0.02  # what a joint may move before a camera must have seen it
STILL_SHARE = 0.01  # the same for a prismatic joint, as a share of its range


@dataclass(frozen=True, eq=False)
class Setup:
    """All that one plan is made with; exchanged as a whole, so that no plan sees half of a change."""

    settings: Settings
    runtime: PlannerRuntime


@dataclass(frozen=True, eq=False)
class Received:
    """Features as they came."""

    features: Features
    received_s: float  # on the steady clock
    under_way_s: float  # by the system's clocks of sender and receiver


class Inference(ManagedNode):
    """Thin: features + joint state -> planner -> ensembler -> message."""

    CHANGEABLE_SPEC = frozenset({"n_action_steps", "temporal_ensemble_coeff", "label_attention_rules"})

    def __init__(self) -> None:
        super().__init__("inference", PARAMETERS)
        self._worker: NewestWorker[Received] | None = None

    def configure(self) -> None:
        """Load the transformer and warm it up."""
        info, config, self._robot = self.policy_and_robot()
        _check_stage(info)
        settings = snapshot(Settings, self.get)
        runtime = PlannerRuntime.load(info, config, engine_of(self), drop_isolated=settings.drop_isolated_patches)
        runtime.warm_up()
        self._say_engine(runtime)
        self._setup = Setup(settings, runtime)
        self._chunk_message = ChunkMessage(self._robot.joint_names)
        self._even_clock = EvenClock(self)
        self._joints = JointHistory(
            self, self._robot, tolerance_s=settings.state_tolerance_s, now_ns=self._even_clock.now_ns
        )
        self._ensembler = self._ensembler_of(config)
        self._schedule = PlanSchedule(
            n_action_steps=config.n_action_steps,
            period_ns=self._robot.policy_period_ns,
            every_image=self._ensembler is not None,
        )
        self._swap = PolicySwap(
            self,
            info,
            leads=False,
            check=self._check_policy,
            load=self._load_beside,
            switch=self._switch,
            chunk_use=lambda: ChunkUse.of(self._setup.runtime.info.config).text,
        )
        self._received = DropWatch(self.diagnostics, "features are not planned from")
        self._begun = DropWatch(self.diagnostics, "features whose turn has come are not planned from")
        self._planned = DropWatch(self.diagnostics, "chunks are not sent")
        self._epoch_lock = threading.Lock()
        self._epoch = 0
        self._publisher_epoch: int | None = None
        self._publisher_epoch_began_ns = 0
        prismatic = np.array([joint.type == "prismatic" for joint in self._robot.joints])
        self._still = np.where(prismatic, STILL_SHARE * (self._robot.upper - self._robot.lower), STILL_RAD)  # (D,)
        self._frozen_stamp_ns: int | None = None  # the picture that a frozen camera goes on sending

        newest = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        reliable = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE)
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        self._chunks = self.create_lifecycle_publisher(JointTrajectory, "action_chunk", reliable)
        self._used = self.create_lifecycle_publisher(String, "~/used", 10)
        self._publisher_states = SlowTopic(self, String, "state", self._receive_state, latched)
        self._subscriptions_made = [
            self.create_subscription(
                CompressedImage,
                "features",
                self._receive_features,
                reliable if self.get("features_reliable") else newest,
                raw=True,
            ),
        ]
        self._reset = self.create_service(Trigger, "~/reset", self._serve_reset)
        self._peers = Peers(self, ("camera_encoder", "action_publisher"), lost=self._lose)

    def activate(self) -> None:
        """Begin to plan."""
        self._new_epoch()
        for watch in (self._received, self._begun, self._planned):
            watch.reset()
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
        if swap := self.__dict__.pop("_swap", None):
            swap.close()
        for held in ("_joints", "_publisher_states", "_peers"):
            if entity := self.__dict__.pop(held, None):
                entity.destroy()
        self.__dict__.pop("_setup", None)

    def reconfigure(self, values: Mapping[str, Any]) -> None:
        """Make the next plan with these values; another policy is loaded beside the present one first.

        Other ensembling begins with no chunks to average.
        """
        if "policy_path" in values:
            self._swap.begin(values)
        before, config = self._setup.runtime.info.config, self.config_with(values)
        settings = changed(self._setup.settings, values)
        self._joints.states.tolerance_s = settings.state_tolerance_s
        with self._epoch_lock:
            runtime = self._setup.runtime.with_config(config, drop_isolated=settings.drop_isolated_patches)
            self._setup = Setup(settings, runtime)
            if config.temporal_ensemble_coeff != before.temporal_ensemble_coeff:
                self._ensembler = self._ensembler_of(config)
            self._schedule.change(
                n_action_steps=config.n_action_steps, every_image=config.temporal_ensemble_coeff is not None
            )
        self.diagnostics.value("dropped_patches", runtime.drops_text)
        if ChunkUse.of(config) != ChunkUse.of(before):
            self._swap.say_again()

    def _check_policy(self, path: str) -> CheckpointInfo:
        info = self.check_policy(path, self._robot)
        _check_stage(info)
        return info

    def _load_beside(self, info: CheckpointInfo) -> PlannerRuntime:
        runtime = PlannerRuntime.load(info, engine=engine_of(self))
        runtime.warm_up()
        return runtime

    def _ensembler_of(self, config: MaskACTConfig) -> TemporalEnsembler | None:
        coeff = config.temporal_ensemble_coeff
        return None if coeff is None else TemporalEnsembler(coeff, self._robot)

    def _switch(self, runtime: PlannerRuntime) -> None:
        """Plan with another policy from now on, in a new epoch; a plan in work is thrown away."""
        config = self.config_under(runtime.info)
        settings = self._setup.settings
        runtime = runtime.with_config(config, drop_isolated=settings.drop_isolated_patches)
        self._say_engine(runtime)
        with self._epoch_lock:
            self._setup = Setup(settings, runtime)
            self._ensembler = self._ensembler_of(config)
            self._schedule.change(
                n_action_steps=config.n_action_steps, every_image=config.temporal_ensemble_coeff is not None
            )
        self._new_epoch()

    def _say_engine(self, runtime: PlannerRuntime) -> None:
        self.get_logger().info(f"the planner runs on {runtime.engine_text}; {runtime.drops_text}")
        self.diagnostics.value("engine", runtime.engine_text)
        self.diagnostics.value("dropped_patches", runtime.drops_text)

    def _lose(self, name: str) -> None:
        if name == "camera_encoder":
            self._swap.lost(name)

    @property
    def crash(self) -> Exception | None:
        """What ended the worker, if anything did."""
        return self._worker.crash if self._worker is not None else None

    def _receive_state(self, message: String) -> None:
        try:
            state = state_from_message(message)
        except MessageError as error:
            self.diagnostics.problem("state", str(error))
            return
        self.diagnostics.solved("state")
        if state.epoch != self._publisher_epoch:
            self._publisher_epoch = state.epoch
            self._publisher_epoch_began_ns = self._even_clock.now_ns() + self._even_clock.off_ns
            self._new_epoch()

    def _receive_features(self, data: bytes, about: dict[str, int]) -> None:
        if self._worker is None:
            return
        try:
            features = features_from_message(see_compressed_image(data))
        except MessageError as error:
            self.diagnostics.problem("features", str(error))
            return
        weights_hash = self._setup.runtime.info.weights_hash
        if features.weights_hash != weights_hash and not self._swap.first_features(features.weights_hash):
            self.diagnostics.problem(
                "features",
                f"the features are of the weights {features.weights_hash[:12]}, this node has "
                f"{weights_hash[:12]}; start both nodes with the same policy_path, or set that of either",
            )
            return
        self.diagnostics.solved("features")
        self.diagnostics.event("features")
        came_ns = about["received_timestamp"]
        sent_ns = about["source_timestamp"] or came_ns  # zero where the middleware does not tell
        received = Received(features, time.monotonic(), (came_ns - sent_ns) / 1e9)
        if not self._is_recent(received, "features_age_at_receipt", self._received):
            return
        self._received.used()
        if self._worker.hand_over(received):
            self.diagnostics.count("features_dropped")

    def _is_recent(self, received: Received, stage: str, watch: DropWatch) -> bool:
        """Whether features are of an image that is not too old, by its stamp and by their receipt."""
        age_s = (self._even_clock.now_ns() - received.features.stamp_ns) / 1e9
        waited_s = time.monotonic() - received.received_s
        self.diagnostics.duration(stage, age_s * 1e3)
        limit_s = self._setup.settings.max_image_age_s
        if not self._even_clock.is_recent(age_s, received.received_s, limit_s):
            old_s = max(age_s, waited_s)
            watch.dropped("features_too_old", lambda: Lateness(old_s, received.under_way_s, waited_s).sentence(limit_s))
            return False
        if age_s < -AHEAD_S - self._even_clock.off_ns / 1e9:
            self.diagnostics.problem(
                "clock",
                f"the features' image is {-age_s:.3f} s ahead of this node's clock: the clocks of the machines differ; "
                "synchronise them",
                self.diagnostics.WARN,
            )
        else:
            self.diagnostics.solved("clock")
        return True

    def _is_of_the_epoch(self, features: Features) -> bool:
        """Whether the publisher takes a chunk of the image: one captured after its epoch began."""
        began_ns = self._publisher_epoch_began_ns
        now_ns = self._even_clock.now_ns() + self._even_clock.off_ns
        if features.stamp_ns <= began_ns <= now_ns:  # a later one is of a clock that went back
            self._begun.dropped(
                "features_of_an_old_epoch",
                lambda: (
                    f"their image was taken {(began_ns - features.stamp_ns) / 1e9:.3f} s before action_publisher "
                    "was enabled, reset or disabled; does that happen again and again, or is their age so great?"
                ),
            )
            return False
        return True

    def _is_frozen(self, features: Features, limit_s: float) -> bool:
        """Whether the camera has sent this very picture for too long, while the joints moved."""
        content_ns = features.content_stamp_ns
        same_s = (features.stamp_ns - content_ns) / 1e9
        if not limit_s or same_s <= limit_s:
            frozen = False
        else:  # once found out it stays so, also when the arm rests because of it
            frozen = content_ns == self._frozen_stamp_ns or bool(
                (self._joints.states.moved_since(content_ns) > self._still).any()
            )
        self._frozen_stamp_ns = content_ns if frozen else None
        if not frozen:
            self.diagnostics.solved("frozen")
            return False
        self.diagnostics.problem(
            "frozen",
            f"no chunk from a frozen camera: it has sent the same picture for {same_s:.1f} s while the joints moved; "
            f"allowed: {limit_s:g} s",
        )
        self.diagnostics.count("features_of_a_frozen_camera")
        return True

    def _plan(self, received: Received) -> None:
        features = received.features
        with self._epoch_lock:
            epoch, setup = self._epoch, self._setup
            if features.weights_hash != setup.runtime.info.weights_hash:
                self._begun.dropped(  # which was in force when they came
                    "features_of_another_policy", lambda: "they are of another policy than this node runs by now"
                )
                return
            wanted = self._schedule.wants(features.stamp_ns)
        if wanted and not (
            self._is_of_the_epoch(features) and self._is_recent(received, "image_age_at_plan", self._begun)
        ):
            return
        self._begun.used()
        if not wanted:
            return
        self._joints.hear()
        try:
            state = self._joints.states.at(features.stamp_ns, self._even_clock.off_ns)
            frozen = self._is_frozen(features, setup.settings.frozen_timeout_s)
        except AlignmentError as error:
            self.diagnostics.problem("alignment", self._joints.why_none(error))
            return
        self.diagnostics.solved("alignment")
        if frozen:
            return
        started_s = time.perf_counter()
        try:
            actions = setup.runtime.predict(features.features, features.patch_labels, state)
        except MaskACTError as error:
            self.diagnostics.problem("policy", f"no chunk: {error}")
            return
        self.diagnostics.solved("policy")
        self.diagnostics.duration("plan", (time.perf_counter() - started_s) * 1e3)
        chunk = Chunk(features.stamp_ns, self._robot.policy_period_ns, actions)
        with self._epoch_lock:
            if epoch != self._epoch:
                self._planned.dropped(
                    "chunks_of_an_old_epoch",
                    lambda: (
                        "while they were computed, action_publisher was enabled, reset or disabled, or the policy "
                        "changed; that happens faster than this machine plans"
                    ),
                )
                return
            self._planned.used()
            if self._ensembler is not None:
                chunk = self._ensembler.add(chunk)
            self._chunks.publish(self._chunk_message.of(chunk))
            ready_ns = self._even_clock.now_ns()
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


def _check_stage(info: CheckpointInfo) -> None:
    if info.config.training_stage == "stage1":
        raise CheckpointError(f"{info.folder} is of training stage 1, which trains the masks only; use stage 2's")


def run() -> None:
    """Entry point of `ros2 run maskact_ros inference`."""
    let_waiting_threads_sleep()
    main(Inference)


if __name__ == "__main__":
    run()
