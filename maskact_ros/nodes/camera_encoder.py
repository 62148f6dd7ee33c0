"""The camera encoder: camera images in, patch features and masks out (DINOv3 and the mask head of a checkpoint).

Subscribes image_raw; publishes features, and, while somebody looks, mask, mask_overlay, mask_confidence and ~/used.
The newest image wins: images that come while one is encoded are dropped and counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.lifecycle import LifecyclePublisher
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from maskact_ros.control.mask_health import MaskFigures, MaskHealth
from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.images import ImageError
from maskact_ros.core.overlay import overlay
from maskact_ros.nodes.observation.encoder_parameters import PARAMETERS, Settings
from maskact_ros.nodes.observation.engine_parameters import engine_of, let_waiting_threads_sleep
from maskact_ros.nodes.observation.image_decoder import ImageDecoder
from maskact_ros.nodes.ros.drop_watch import DropWatch
from maskact_ros.nodes.ros.even_clock import EvenClock
from maskact_ros.nodes.ros.image_cdr import SeenCompressedImage, SeenImage, see_compressed_image, see_image, with_block
from maskact_ros.nodes.ros.latest_worker import NewestWorker
from maskact_ros.nodes.ros.managed import ManagedNode, main
from maskact_ros.nodes.ros.messages import (
    Features,
    MessageError,
    features_parts,
    image_to_message,
    ns_to_stamp,
    picture_used,
    stamp_to_ns,
)
from maskact_ros.nodes.ros.params import changed, snapshot
from maskact_ros.nodes.ros.peers import Peers
from maskact_ros.nodes.ros.policy_swap import PolicySwap
from maskact_ros.nodes.ros.publishers import publishers_on, silence_of
from maskact_ros.nodes.ros.receipt import STAMP_SOURCES
from maskact_ros.policy.runtime import EncoderRuntime

RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CLOCK_TOLERANCE_NS = 50_000_000  # a stamp further in the future, and than a tick of /clock, is another clock's


@dataclass(frozen=True, eq=False)
class Setup:
    """All that one image is encoded with; exchanged as a whole, so that no image sees half of a change."""

    settings: Settings
    runtime: EncoderRuntime
    health: MaskHealth


@dataclass(frozen=True, eq=False)
class Captured:
    """An image as it came."""

    message: SeenImage | SeenCompressedImage
    stamp_ns: int
    received_s: float  # on the steady clock


class CameraEncoder(ManagedNode):
    """Thin: image message -> picture -> model input -> encoding -> messages."""

    CHANGEABLE_SPEC = frozenset({"mask_importance_weights"})

    def __init__(self) -> None:
        super().__init__("camera_encoder", PARAMETERS)
        self._worker: NewestWorker[Captured] | None = None

    def configure(self) -> None:
        """Load the encoder and warm it up."""
        self.check_choice("stamp_source", STAMP_SOURCES)
        info, config, robot = self.policy_and_robot()
        self._camera = robot.only_camera
        runtime = EncoderRuntime.load(info, config, engine_of(self))
        runtime.warm_up()
        self._say_engine(runtime)
        self._setup = Setup(snapshot(Settings, self.get), runtime, MaskHealth(config.num_mask))
        self._content: NDArray[np.uint8] | None = None  # the bytes of the picture before
        self._content_stamp_ns = 0
        self._swap = PolicySwap(
            self,
            info,
            leads=True,
            check=lambda path: self.check_policy(path, robot),
            load=self._load_beside,
            switch=self._switch,
        )
        self._decoder = ImageDecoder()
        self.get_logger().info(self._decoder.reason)
        self._last_stamp_ns: int | None = None
        self._even_clock = EvenClock(self)
        self._received = DropWatch(self.diagnostics, "images are not used", repeats=("frames_repeated",))
        self._begun = DropWatch(self.diagnostics, "images are not encoded")

        newest = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        reliable = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE)
        self._features = self.create_lifecycle_publisher(
            CompressedImage, "features", reliable if self.get("features_reliable") else newest
        )
        self._mask = self.create_lifecycle_publisher(Image, "mask", 10)
        self._overlay = self.create_lifecycle_publisher(Image, "mask_overlay", 10)
        self._confidence = self.create_lifecycle_publisher(Image, "mask_confidence", 10)
        self._used = self.create_lifecycle_publisher(String, "~/used", 10)
        compressed = self.get("compressed")
        self._see: Callable[[bytes], SeenImage | SeenCompressedImage] = (
            see_compressed_image if compressed else see_image
        )
        kind = CompressedImage if compressed else Image
        self._images = self.create_subscription(kind, "image_raw", self._receive, newest, raw=True)
        self._peers = Peers(self, ("inference",), lost=self._swap.lost)

    def activate(self) -> None:
        """Begin to encode; the first good mask is what changes are measured against."""
        self._setup.health.reset()
        self._received.reset()
        self._begun.reset()
        self._worker = NewestWorker(self._encode, name="encode")
        self._silence = self.create_steady_timer(1.0, self._watch_silence)
        self._received_s = time.monotonic()

    def deactivate(self) -> None:
        """Stop encoding; the image in work is thrown away."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
            self.destroy_timer(self._silence)

    def clean_up(self) -> None:
        """Let go of the encoder and the topics."""
        self.destroy_entities("_images", "_features", "_mask", "_overlay", "_confidence", "_used")
        if swap := self.__dict__.pop("_swap", None):
            swap.close()
        if peers := self.__dict__.pop("_peers", None):
            peers.destroy()
        self.__dict__.pop("_setup", None)

    def reconfigure(self, values: Mapping[str, Any]) -> None:
        """Encode the next image with these values; another policy is loaded beside the present one first."""
        if "policy_path" in values:
            self._swap.begin(values)
        config = self.config_with(values)
        setup = self._setup
        self._setup = Setup(changed(setup.settings, values), setup.runtime.with_config(config), setup.health)

    def _load_beside(self, info: CheckpointInfo) -> EncoderRuntime:
        runtime = EncoderRuntime.load(info, engine=engine_of(self))
        runtime.warm_up()
        return runtime

    def _switch(self, runtime: EncoderRuntime) -> None:
        config = self.config_under(runtime.info)
        self._say_engine(runtime)
        self._setup = Setup(self._setup.settings, runtime.with_config(config), MaskHealth(config.num_mask))

    def _say_engine(self, runtime: EncoderRuntime) -> None:
        self.get_logger().info(f"the encoder runs on {runtime.engine_text}")
        self.diagnostics.value("engine", runtime.engine_text)

    @property
    def crash(self) -> Exception | None:
        """What ended the worker, if anything did."""
        return self._worker.crash if self._worker is not None else None

    def _receive(self, data: bytes) -> None:
        if self._worker is None:
            return
        now_ns = self._even_clock.now_ns()
        self._received_s = time.monotonic()
        self.diagnostics.event("images")
        self.diagnostics.solved("silence")
        try:
            message = self._see(data)
        except MessageError as error:
            self._refuse(error)
            return
        stamp_ns = now_ns if self.get("stamp_source") == "receipt" else stamp_to_ns(message.header.stamp)
        if self._is_usable(stamp_ns, now_ns) and self._worker.hand_over(Captured(message, stamp_ns, self._received_s)):
            self.diagnostics.count("frames_dropped")

    def _is_usable(self, stamp_ns: int, now_ns: int) -> bool:
        """Whether the stamp is this clock's, recent, and newer than the last one."""
        age_s = (now_ns - stamp_ns) / 1e9
        self.diagnostics.duration("image_age_at_receipt", age_s * 1e3)
        limit_s = self._setup.settings.max_image_age_s
        off_ns = self._even_clock.off_ns
        if stamp_ns > now_ns + CLOCK_TOLERANCE_NS + off_ns or age_s > limit_s + off_ns / 1e9:
            self.diagnostics.problem(
                "stamp",
                f"the image's stamp is {age_s:.3f} s old by the robot's clock; allowed: 0 to {limit_s:g} s; if the "
                "camera's clock is not the robot's, synchronise them or set stamp_source to receipt",
            )
            return False
        self.diagnostics.solved("stamp")
        if self._last_stamp_ns is not None and stamp_ns == self._last_stamp_ns:
            self._received.dropped(
                "frames_repeated",
                lambda: (
                    f"all have the stamp of the one before, {stamp_ns / 1e9:.3f} s; set stamp_source to receipt if "
                    "the camera's driver does not stamp each, and see that the clock runs"
                ),
            )
            return False
        # Out of order is dropped, a clock that jumped back by more than an image may be old begins anew.
        if self._last_stamp_ns is not None and 0 < (late_ns := self._last_stamp_ns - stamp_ns) < limit_s * 1e9:
            self._received.dropped(
                "frames_out_of_order",
                lambda: (
                    f"they were taken {late_ns / 1e9:.3f} s before one that came earlier; do two cameras send on "
                    f"{self.resolve_topic_name('image_raw')} ({publishers_on(self, 'image_raw').total()} publishers)?"
                ),
            )
            return False
        self._received.used()
        self._last_stamp_ns = stamp_ns
        return True

    def _encode(self, captured: Captured) -> None:
        message, stamp_ns = captured.message, captured.stamp_ns
        setup = self._setup
        if not self._is_recent(captured, setup.settings.max_image_age_s):
            return
        settings, runtime, info = setup.settings, setup.runtime, setup.runtime.info
        started_s = time.perf_counter()
        try:
            rgb = self._decoder(message)
        except ImageError as error:
            self._refuse(error)
            return
        height, width = rgb.shape[:2]
        if (width, height) != (self._camera.width, self._camera.height):
            self.diagnostics.problem(
                "image",
                f"the camera's image is {width}x{height}; allowed: {self._camera.width}x{self._camera.height}, as "
                f"robot.yaml says of the camera {self._camera.name}, which is what the policy was trained with",
            )
            self.diagnostics.count("frames_refused")
            return
        self.diagnostics.solved("image")
        model_image = info.geometry.to_model(rgb, info.config.image_size)
        prepared_s = time.perf_counter()
        wants_mask = _watched(self._mask) or _watched(self._overlay)
        wants_confidence = _watched(self._confidence)
        seen = runtime.encode(model_image, label_image=wants_mask, confidence_image=wants_confidence)
        features = Features(
            stamp_ns,
            info.weights_hash,
            seen.features,
            seen.patch_labels,
            seen.patch_confidence,
            self._content_since(captured),
        )
        if self._is_healthy(setup, features):
            head, blocks = features_parts(features, message.header.frame_id)
            self._features.publish(with_block(head, *blocks))
            self.diagnostics.event("features")
        if self._used.get_subscription_count():
            self._used.publish(picture_used(stamp_ns, model_image))
        self.diagnostics.duration("prepare", (prepared_s - started_s) * 1e3)
        self.diagnostics.duration("encoder", seen.timings.encoder_s * 1e3)
        self.diagnostics.duration("mask_head", seen.timings.mask_head_s * 1e3)
        self.diagnostics.duration("features_age", (self._even_clock.now_ns() - stamp_ns) / 1e6)

        header = message.header
        header.stamp = ns_to_stamp(stamp_ns)
        if seen.label_image is not None:
            labels = info.geometry.to_camera(seen.label_image, height, width)
            if _watched(self._mask):
                self._mask.publish(image_to_message(labels, "mono8", header))
            if _watched(self._overlay):
                started_s = time.perf_counter()
                picture = overlay(rgb, labels, info.mask_classes, alpha=settings.overlay_alpha)
                self._overlay.publish(image_to_message(picture, "rgb8", header))
                self.diagnostics.duration("overlay", (time.perf_counter() - started_s) * 1e3)
        if seen.confidence_image is not None:
            confidence = info.geometry.to_camera(seen.confidence_image, height, width)
            self._confidence.publish(image_to_message(confidence, "32FC1", header))

    def _refuse(self, error: MaskACTError) -> None:
        self.diagnostics.problem("image", f"the camera's image is refused: {error}")
        self.diagnostics.count("frames_refused")

    def _is_recent(self, captured: Captured, limit_s: float) -> bool:
        """Whether an image is not too old by the time that work on it begins, by its stamp and by its receipt."""
        age_s = (self._even_clock.now_ns() - captured.stamp_ns) / 1e9
        self.diagnostics.duration("image_age_at_encode", age_s * 1e3)
        if not self._even_clock.is_recent(age_s, captured.received_s, limit_s):
            old_s = max(age_s, time.monotonic() - captured.received_s)
            self._begun.dropped(
                "frames_too_old",
                lambda: (
                    f"they are {old_s:.3f} s old when their turn comes; allowed: {limit_s:g} s (max_image_age_s); "
                    "the encoder is too slow for this machine"
                ),
            )
            return False
        self._begun.used()
        return True

    def _content_since(self, captured: Captured) -> int:
        """The stamp of the first of the pictures, up to this one, that are the same byte for byte."""
        before, self._content = self._content, np.frombuffer(captured.message.data, np.uint8)
        if before is None or not np.array_equal(before, self._content) or captured.stamp_ns < self._content_stamp_ns:
            self._content_stamp_ns = captured.stamp_ns
        return self._content_stamp_ns

    def _is_healthy(self, setup: Setup, features: Features) -> bool:
        """Whether a policy should act on the image's mask, if it has one."""
        if features.patch_labels is None or features.patch_confidence is None:
            return True
        figures = setup.health.look(
            features.stamp_ns,
            features.patch_labels,
            features.patch_confidence,
            min_confidence=setup.settings.mask_min_confidence,
            max_change=setup.settings.mask_max_change,
        )
        self._report_mask(figures, setup.runtime.info.mask_classes)
        if figures.fault is None:
            self.diagnostics.solved("mask")
            return True
        self.diagnostics.problem("mask", f"no features are sent: {figures.fault}")
        self.diagnostics.count("features_withheld")
        return False

    def _report_mask(self, figures: MaskFigures, classes: tuple[str, ...]) -> None:
        self.diagnostics.value("mask_confidence", f"{figures.confidence:.3f}")
        self.diagnostics.value("mask_change", f"{figures.change:.3f}")
        for name, share in zip(classes, figures.shares, strict=True):
            self.diagnostics.value(f"mask_share_{name}", f"{share:.3f}")

    def _watch_silence(self) -> None:
        silent_s = time.monotonic() - self._received_s
        limit_s = self._setup.settings.max_image_age_s
        if silent_s > self._even_clock.steady_s(limit_s):
            wanted, other, set_to = (COMPRESSED, RAW, "false") if self.get("compressed") else (RAW, COMPRESSED, "true")
            why = silence_of(publishers_on(self, "image_raw"), wanted, {other: f"set compressed: {set_to}"})
            topic = self.resolve_topic_name("image_raw")
            self.diagnostics.problem("silence", f"no image on {topic} for {limit_s:g} s{why}")


def _watched(publisher: LifecyclePublisher) -> bool:
    watched: bool = publisher.get_subscription_count() > 0
    return watched


def run() -> None:
    """Entry point of `ros2 run maskact_ros camera_encoder`."""
    let_waiting_threads_sleep()
    main(CameraEncoder)


if __name__ == "__main__":
    run()
