"""`MaskTopics`: publishes the mask for people: class ids, overlay and confidence, at the camera's resolution.

Each of them is computed only while it has a subscriber.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from rclpy.lifecycle import LifecyclePublisher
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from maskact_ros.control.mask_health import MaskFigures
from maskact_ros.core.overlay import overlay
from maskact_ros.nodes.ros.managed import ManagedNode
from maskact_ros.nodes.ros.messages import image_to_message
from maskact_ros.policy.infer import Perceived, PerceptionPolicy, Picture


@dataclass(frozen=True)
class Wanted:
    """Which of the images have a subscriber now."""

    mask: bool
    overlay: bool
    confidence: bool

    @property
    def labels(self) -> bool:
        """Whether class ids are needed."""
        return self.mask or self.overlay


class MaskTopics:
    """Publishes mask, mask_overlay and mask_confidence of one camera, and the mask's figures in diagnostics."""

    def __init__(self, node: ManagedNode):
        self._node = node
        self._mask = node.create_lifecycle_publisher(Image, "mask", 10)
        self._overlay = node.create_lifecycle_publisher(Image, "mask_overlay", 10)
        self._confidence = node.create_lifecycle_publisher(Image, "mask_confidence", 10)

    def destroy(self) -> None:
        """Destroy the publishers."""
        for publisher in (self._mask, self._overlay, self._confidence):
            self._node.destroy_publisher(publisher)

    def wanted(self) -> Wanted:
        """Which images to compute from the next picture."""
        return Wanted(_watched(self._mask), _watched(self._overlay), _watched(self._confidence))

    def publish(
        self,
        policy: PerceptionPolicy,
        picture: Picture,
        perceived: Perceived,
        wanted: Wanted,
        header: Header,
        *,
        overlay_alpha: float,
    ) -> None:
        """Publish the wanted images, as far as the policy computed them."""
        height, width = picture.rgb.shape[:2]
        encoding = perceived.encoding
        if encoding.label_image is not None:
            labels = policy.geometry.to_camera(encoding.label_image, height, width)
            if wanted.mask:
                self._mask.publish(image_to_message(labels, "mono8", header))
            if wanted.overlay:
                started_s = time.perf_counter()
                blended = overlay(picture.rgb, labels, policy.mask_classes, alpha=overlay_alpha)
                self._overlay.publish(image_to_message(blended, "rgb8", header))
                self._node.diagnostics.duration("overlay", (time.perf_counter() - started_s) * 1e3)
        if encoding.confidence_image is not None:
            confidence = policy.geometry.to_camera(encoding.confidence_image, height, width)
            self._confidence.publish(image_to_message(confidence, "32FC1", header))

    def is_good(self, mask: MaskFigures | None, classes: tuple[str, ...]) -> bool:
        """Report a mask's figures; return whether a policy may act on it. Without a mask it may."""
        if mask is None:
            return True
        diagnostics = self._node.diagnostics
        diagnostics.value("mask_confidence", f"{mask.confidence:.3f}")
        diagnostics.value("mask_change", f"{mask.change:.3f}")
        for name, share in zip(classes, mask.shares, strict=True):
            diagnostics.value(f"mask_share_{name}", f"{share:.3f}")
        if mask.fault is None:
            diagnostics.solved("mask")
            return True
        diagnostics.problem("mask", f"no features are sent: {mask.fault}")
        diagnostics.count("features_withheld")
        return False


def _watched(publisher: LifecyclePublisher) -> bool:
    watched: bool = publisher.get_subscription_count() > 0
    return watched
