"""The camera encoder: camera images in, patch features and masks out (DINOv3 and the mask head of a checkpoint).

Subscribes image_raw; publishes features. Publishes mask, mask_overlay, mask_confidence and ~/used while these have
subscribers. Only the newest image is kept: while one is encoded, older waiting images are dropped and counted.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.nodes.observation.encoder_parameters import PARAMETERS, Settings
from maskact_ros.nodes.observation.engine_parameters import engine_of, let_waiting_threads_sleep
from maskact_ros.nodes.observation.image_intake import Captured, ImageIntake
from maskact_ros.nodes.observation.mask_topics import MaskTopics
from maskact_ros.nodes.ros.even_clock import EvenClock
from maskact_ros.nodes.ros.image_cdr import with_block
from maskact_ros.nodes.ros.latest_worker import NewestWorker
from maskact_ros.nodes.ros.managed import ManagedNode
from maskact_ros.nodes.ros.messages import features_parts, ns_to_stamp, picture_used
from maskact_ros.nodes.ros.node_process import main
from maskact_ros.nodes.ros.params import changed, snapshot
from maskact_ros.nodes.ros.peers import Peers
from maskact_ros.nodes.ros.policy_swap import PolicySwap
from maskact_ros.policy.infer import MaskLimits, Perceiver, PictureError
from maskact_ros.policy.runtime import EncoderRuntime


@dataclass(frozen=True, eq=False)
class Setup:
    """Everything that encodes one image. It is replaced as a whole, so a change never takes effect within an image."""

    settings: Settings
    runtime: EncoderRuntime


class CameraEncoder(ManagedNode):
    """Thin: image -> picture -> `Perceiver` -> messages. A worker thread encodes; the executor's receives."""

    CHANGEABLE_SPEC = frozenset({"mask_importance_weights"})

    def __init__(self) -> None:
        super().__init__("camera_encoder", PARAMETERS)
        self._worker: NewestWorker[Captured] | None = None

    def configure(self) -> None:
        """Load the encoder and warm it up."""
        info, config, robot = self.policy_and_robot()
        self._perceiver = Perceiver(robot.only_camera)
        runtime = EncoderRuntime.load(info, config, engine_of(self))
        runtime.warm_up()
        self._say_engine(runtime)
        self._setup = Setup(snapshot(Settings, self.get), runtime)
        self._swap = PolicySwap(
            self,
            info,
            leads=True,
            check=lambda path: self.check_policy(path, robot),
            load=self._load_beside,
            switch=self._switch,
        )
        self._even_clock = EvenClock(self)
        self._intake = ImageIntake(self, self._even_clock, limit_s=lambda: self._setup.settings.max_image_age_s)

        newest = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        reliable = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE)
        self._features = self.create_lifecycle_publisher(
            CompressedImage, "features", reliable if self.get("features_reliable") else newest
        )
        self._masks = MaskTopics(self)
        self._used = self.create_lifecycle_publisher(String, "~/used", 10)
        kind = CompressedImage if self.get("compressed") else Image
        self._images = self.create_subscription(kind, "image_raw", self._receive, newest, raw=True)
        self._peers = Peers(self, ("inference",), lost=self._swap.lost)

    def activate(self) -> None:
        """Begin to encode. The first good mask is the reference for sudden changes."""
        self._perceiver.reset()
        self._worker = NewestWorker(self._encode, name="encode")
        self._silence = self.create_steady_timer(1.0, self._intake.watch_silence)
        self._intake.reset()

    def deactivate(self) -> None:
        """Stop encoding, and discard the image that is being encoded."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
            self.destroy_timer(self._silence)

    def clean_up(self) -> None:
        """Release the encoder and destroy the topics."""
        self.destroy_entities("_images", "_features", "_used")
        if swap := self.__dict__.pop("_swap", None):
            swap.close()
        for held in ("_masks", "_peers"):
            if entity := self.__dict__.pop(held, None):
                entity.destroy()
        self.__dict__.pop("_setup", None)

    def reconfigure(self, values: Mapping[str, Any]) -> None:
        """Encode the next image with these values. Another policy is loaded first, while the present one runs."""
        if "policy_path" in values:
            self._swap.begin(values)
        config = self.config_with(values)
        setup = self._setup
        self._setup = Setup(changed(setup.settings, values), setup.runtime.with_config(config))

    @property
    def crash(self) -> Exception | None:
        """The exception that ended the worker, or None."""
        return self._worker.crash if self._worker is not None else None

    def _load_beside(self, info: CheckpointInfo) -> EncoderRuntime:
        runtime = EncoderRuntime.load(info, engine=engine_of(self))
        runtime.warm_up()
        return runtime

    def _switch(self, runtime: EncoderRuntime) -> None:
        config = self.config_under(runtime.info)
        self._say_engine(runtime)
        self._setup = Setup(self._setup.settings, runtime.with_config(config))

    def _say_engine(self, runtime: EncoderRuntime) -> None:
        self.get_logger().info(f"the encoder runs on {runtime.engine_text}")
        self.diagnostics.value("engine", runtime.engine_text)

    def _receive(self, data: bytes) -> None:
        if self._worker is None:
            return
        captured = self._intake.receive(data)
        if captured is not None and self._worker.hand_over(captured):
            self.diagnostics.count("frames_dropped")

    def _encode(self, captured: Captured) -> None:
        """Encode and publish one image; in the worker's thread."""
        started_s = time.perf_counter()
        picture = self._intake.picture(captured)
        if picture is None:
            return
        decoded_s = time.perf_counter() - started_s
        settings, runtime = self._setup.settings, self._setup.runtime
        wanted = self._masks.wanted()
        try:
            perceived = self._perceiver.perceive(
                runtime,
                picture,
                MaskLimits(settings.mask_min_confidence, settings.mask_max_change),
                label_image=wanted.labels,
                confidence_image=wanted.confidence,
            )
        except PictureError as error:
            self._intake.refuse(error)
            return
        self.diagnostics.solved("image")
        header = captured.header
        if self._masks.is_good(perceived.mask, runtime.mask_classes):
            head, blocks = features_parts(perceived.features, header.frame_id)
            self._features.publish(with_block(head, *blocks))
            self.diagnostics.event("features")
        if self._used.get_subscription_count():
            self._used.publish(picture_used(picture.stamp_ns, perceived.model_image))
        timings = perceived.encoding.timings
        self.diagnostics.duration("prepare", (decoded_s + perceived.prepare_s) * 1e3)
        self.diagnostics.duration("encoder", timings.encoder_s * 1e3)
        self.diagnostics.duration("mask_head", timings.mask_head_s * 1e3)
        self.diagnostics.duration("features_age", (self._even_clock.now_ns() - picture.stamp_ns) / 1e6)
        header.stamp = ns_to_stamp(picture.stamp_ns)
        self._masks.publish(runtime, picture, perceived, wanted, header, overlay_alpha=settings.overlay_alpha)


def run() -> None:
    """Entry point of `ros2 run maskact_ros camera_encoder`."""
    let_waiting_threads_sleep()
    main(CameraEncoder)


if __name__ == "__main__":
    run()
