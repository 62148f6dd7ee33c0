"""The camera encoder: camera images in, patch features and masks out (DINOv3 and the mask head of a checkpoint).

Subscribes image_raw; publishes features, and, while somebody looks, mask, mask_overlay, mask_confidence and ~/used.
The newest image wins: images that come while one is encoded are dropped and counted.
"""

from __future__ import annotations

import time

from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from maskact_ros.images import ImageError
from maskact_ros.nodes.image_decoder import ImageDecoder
from maskact_ros.nodes.managed import DEVICE, NUM_THREADS, POLICY_PATH, ROBOT_FILE, ManagedNode, main
from maskact_ros.nodes.messages import (
    Features,
    features_to_message,
    image_to_message,
    ns_to_stamp,
    picture_used,
    stamp_to_ns,
)
from maskact_ros.nodes.newest import NewestWorker
from maskact_ros.nodes.params import NodeParameter
from maskact_ros.overlay import overlay
from maskact_ros.policy.runtime import EncoderRuntime

PARAMETERS = (
    POLICY_PATH,
    ROBOT_FILE,
    DEVICE,
    NUM_THREADS,
    NodeParameter("compressed", False, "Whether image_raw carries sensor_msgs/CompressedImage (jpeg or png)."),
    NodeParameter(
        "features_reliable", False, "Whether features are sent reliably instead of best effort, as sensor data is."
    ),
    NodeParameter(
        "stamp_source",
        "header",
        "What dates an image: header, its own stamp, or receipt, for a camera whose clock is not the robot's.",
    ),
    NodeParameter("max_image_age_s", 1.0, "Images older than this when they arrive are not used.", 0.01, 60.0),
    NodeParameter("overlay_alpha", 0.45, "How strongly the overlay's class colours cover the image.", 0.0, 1.0),
)
STAMP_SOURCES = ("header", "receipt")
CLOCK_TOLERANCE_NS = 50_000_000  # a stamp further in the future is another clock's


class CameraEncoder(ManagedNode):
    """Thin: image message -> picture -> model input -> encoding -> messages."""

    def __init__(self) -> None:
        super().__init__("camera_encoder", PARAMETERS)
        self._worker: NewestWorker[tuple[Image | CompressedImage, int]] | None = None

    def configure(self) -> None:
        """Load the encoder and warm it up."""
        self.check_choice("stamp_source", STAMP_SOURCES)
        info, config, robot = self.policy_and_robot()
        self._camera = robot.only_camera
        self._info, self._config = info, config
        self._runtime = EncoderRuntime.load(info, config, self.get("device"), threads=self.threads())
        self._runtime.warm_up()
        self._decoder = ImageDecoder()
        self.get_logger().info(self._decoder.reason)
        self._last_stamp_ns: int | None = None

        newest = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        reliable = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE)
        self._features = self.create_lifecycle_publisher(
            CompressedImage, "features", reliable if self.get("features_reliable") else newest
        )
        self._mask = self.create_lifecycle_publisher(Image, "mask", 10)
        self._overlay = self.create_lifecycle_publisher(Image, "mask_overlay", 10)
        self._confidence = self.create_lifecycle_publisher(Image, "mask_confidence", 10)
        self._used = self.create_lifecycle_publisher(String, "~/used", 10)
        kind = CompressedImage if self.get("compressed") else Image
        self._images = self.create_subscription(kind, "image_raw", self._receive, newest)

    def activate(self) -> None:
        """Begin to encode."""
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
        self.__dict__.pop("_runtime", None)

    @property
    def crash(self) -> Exception | None:
        """What ended the worker, if anything did."""
        return self._worker.crash if self._worker is not None else None

    def _receive(self, message: Image | CompressedImage) -> None:
        if self._worker is None:
            return
        now_ns = self.get_clock().now().nanoseconds
        self._received_s = time.monotonic()
        self.diagnostics.event("images")
        self.diagnostics.solved("silence")
        stamp_ns = now_ns if self.get("stamp_source") == "receipt" else stamp_to_ns(message.header.stamp)
        if self._is_usable(stamp_ns, now_ns) and self._worker.put((message, stamp_ns)):
            self.diagnostics.count("frames_dropped")

    def _is_usable(self, stamp_ns: int, now_ns: int) -> bool:
        """Whether the stamp is this clock's, recent, and newer than the last one."""
        age_s = (now_ns - stamp_ns) / 1e9
        self.diagnostics.duration("image_age_at_receipt", age_s * 1e3)
        limit_s = self.get("max_image_age_s")
        if stamp_ns > now_ns + CLOCK_TOLERANCE_NS or age_s > limit_s:
            self.diagnostics.problem(
                "stamp",
                f"the image's stamp is {age_s:.3f} s old by the robot's clock; allowed: 0 to {limit_s:g} s; if the "
                "camera's clock is not the robot's, synchronise them or set stamp_source to receipt",
            )
            return False
        self.diagnostics.solved("stamp")
        if self._last_stamp_ns is not None and stamp_ns == self._last_stamp_ns:
            self.diagnostics.count("frames_repeated")
            return False
        # Out of order is dropped, a clock that jumped back by more than an image may be old begins anew.
        if self._last_stamp_ns is not None and 0 < self._last_stamp_ns - stamp_ns < limit_s * 1e9:
            self.diagnostics.count("frames_out_of_order")
            return False
        self._last_stamp_ns = stamp_ns
        return True

    def _encode(self, item: tuple[Image | CompressedImage, int]) -> None:
        message, stamp_ns = item
        started_s = time.perf_counter()
        try:
            rgb = self._decoder(message)
        except ImageError as error:
            self.diagnostics.problem("image", f"the camera's image is refused: {error}")
            self.diagnostics.count("frames_refused")
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
        model_image = self._info.geometry.to_model(rgb, self._config.image_size)
        prepared_s = time.perf_counter()
        wants_mask = self._watched(self._mask) or self._watched(self._overlay)
        wants_confidence = self._watched(self._confidence)
        seen = self._runtime.encode(model_image, label_image=wants_mask, confidence_image=wants_confidence)
        features = Features(stamp_ns, self._info.weights_hash, seen.features, seen.patch_labels, seen.patch_confidence)
        self._features.publish(features_to_message(features, message.header.frame_id))
        if self._used.get_subscription_count():
            self._used.publish(picture_used(stamp_ns, model_image))
        self.diagnostics.event("features")
        self.diagnostics.duration("prepare", (prepared_s - started_s) * 1e3)
        self.diagnostics.duration("encoder", seen.timings.encoder_s * 1e3)
        self.diagnostics.duration("mask_head", seen.timings.mask_head_s * 1e3)
        self.diagnostics.duration("features_age", (self.get_clock().now().nanoseconds - stamp_ns) / 1e6)

        header = message.header
        header.stamp = ns_to_stamp(stamp_ns)
        if seen.label_image is not None:
            labels = self._info.geometry.to_camera(seen.label_image, height, width)
            if self._watched(self._mask):
                self._mask.publish(image_to_message(labels, "mono8", header))
            if self._watched(self._overlay):
                started_s = time.perf_counter()
                picture = overlay(rgb, labels, self._info.mask_classes, alpha=self.get("overlay_alpha"))
                self._overlay.publish(image_to_message(picture, "rgb8", header))
                self.diagnostics.duration("overlay", (time.perf_counter() - started_s) * 1e3)
        if seen.confidence_image is not None:
            confidence = self._info.geometry.to_camera(seen.confidence_image, height, width)
            self._confidence.publish(image_to_message(confidence, "32FC1", header))

    def _watched(self, publisher: object) -> bool:
        return self._config.use_mask and publisher.get_subscription_count() > 0  # type: ignore[attr-defined]

    def _watch_silence(self) -> None:
        silent_s = time.monotonic() - self._received_s
        if silent_s > self.get("max_image_age_s"):
            topic = self.resolve_topic_name("image_raw")
            publishers = self.count_publishers("image_raw")
            self.diagnostics.problem(
                "silence", f"no image on {topic} for {self.get('max_image_age_s'):g} s ({publishers} publishers there)"
            )


def run() -> None:
    """Entry point of `ros2 run maskact_ros camera_encoder`."""
    main(CameraEncoder)


if __name__ == "__main__":
    run()
