"""`ImageIntake`: turns messages on `image_raw` into `Captured`, if they are recent and in order; decodes them later.

Other images are dropped, counted, and reported in the diagnostics. A silent camera is reported, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from std_msgs.msg import Header

from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.images import ImageError
from maskact_ros.nodes.observation.image_decoder import ImageDecoder
from maskact_ros.nodes.ros.drop_watch import DropWatch
from maskact_ros.nodes.ros.even_clock import EvenClock
from maskact_ros.nodes.ros.image_cdr import SeenCompressedImage, SeenImage, see_compressed_image, see_image
from maskact_ros.nodes.ros.managed import ManagedNode
from maskact_ros.nodes.ros.messages import MessageError, stamp_to_ns
from maskact_ros.nodes.ros.publishers import publishers_on, silence_of
from maskact_ros.policy.infer import Picture

TOPIC = "image_raw"
RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CLOCK_TOLERANCE_NS = 50_000_000  # a stamp further ahead than this plus a tick of /clock is of another clock


@dataclass(frozen=True, eq=False)
class Captured:
    """A received image, not decoded yet."""

    message: SeenImage | SeenCompressedImage
    stamp_ns: int
    received_s: float  # on the steady clock

    @property
    def header(self) -> Header:
        """The image's header."""
        header: Header = self.message.header
        return header


class ImageIntake:
    """Receives the images of one camera. The executor's thread calls `receive`, the worker's calls `picture`.

    Args:
        node: camera_encoder; its parameters `compressed` and `stamp_source` are read once.
        clock: the node's clock.
        limit_s: returns the present `max_image_age_s`.
    """

    def __init__(self, node: ManagedNode, clock: EvenClock, *, limit_s: Callable[[], float]):
        self._node, self._clock, self._limit_s = node, clock, limit_s
        self._diagnostics = node.diagnostics
        self._compressed, self._by_receipt = node.get("compressed"), node.get("stamp_source") == "receipt"
        self._decoder = ImageDecoder()
        node.get_logger().info(self._decoder.reason)
        self._receipt = DropWatch(node.diagnostics, "images are not used", repeats=("frames_repeated",))
        self._turn = DropWatch(node.diagnostics, "images are not encoded")
        self._last_stamp_ns: int | None = None
        self._received_s = time.monotonic()

    def reset(self) -> None:
        """Forget what was dropped so far, and measure silence from now on; called when the node is activated."""
        self._receipt.reset()
        self._turn.reset()
        self._received_s = time.monotonic()

    def receive(self, data: bytes) -> Captured | None:
        """The image of a serialised message; None if it must not be used."""
        now_ns = self._clock.now_ns()
        self._received_s = time.monotonic()
        self._diagnostics.event("images")
        self._diagnostics.solved("silence")
        see: Callable[[bytes], SeenImage | SeenCompressedImage]
        see = see_compressed_image if self._compressed else see_image
        try:
            message = see(data)
        except MessageError as error:
            self.refuse(error)
            return None
        stamp_ns = now_ns if self._by_receipt else stamp_to_ns(message.header.stamp)
        if not self._is_usable(stamp_ns, now_ns):
            return None
        return Captured(message, stamp_ns, self._received_s)

    def picture(self, captured: Captured) -> Picture | None:
        """The decoded picture, when encoding begins; None if the image is too old by now, or cannot be decoded."""
        if not self._is_recent(captured):
            return None
        try:
            rgb = self._decoder(captured.message)
        except ImageError as error:
            self.refuse(error)
            return None
        sent: NDArray[np.uint8] = np.frombuffer(captured.message.data, np.uint8)
        return Picture(captured.stamp_ns, rgb, sent)

    def refuse(self, error: MaskACTError) -> None:
        """Report why an image cannot be used."""
        self._diagnostics.problem("image", f"the camera's image is refused: {error}")
        self._diagnostics.count("frames_refused")

    def watch_silence(self) -> None:
        """Report that no image has come for too long, and what is published on the topic."""
        limit_s = self._limit_s()
        if time.monotonic() - self._received_s > self._clock.steady_s(limit_s):
            wanted, other, set_to = (COMPRESSED, RAW, "false") if self._compressed else (RAW, COMPRESSED, "true")
            why = silence_of(publishers_on(self._node, TOPIC), wanted, {other: f"set compressed: {set_to}"})
            topic = self._node.resolve_topic_name(TOPIC)
            self._diagnostics.problem("silence", f"no image on {topic} for {limit_s:g} s{why}")

    def _is_usable(self, stamp_ns: int, now_ns: int) -> bool:
        """Whether the stamp is of this clock, recent, and newer than the last one."""
        age_s = (now_ns - stamp_ns) / 1e9
        self._diagnostics.duration("image_age_at_receipt", age_s * 1e3)
        limit_s = self._limit_s()
        off_ns = self._clock.off_ns
        if stamp_ns > now_ns + CLOCK_TOLERANCE_NS + off_ns or age_s > limit_s + off_ns / 1e9:
            self._diagnostics.problem(
                "stamp",
                f"the image's stamp is {age_s:.3f} s old by the robot's clock; allowed: 0 to {limit_s:g} s; if the "
                "camera's clock is not the robot's, synchronise them or set stamp_source to receipt",
            )
            return False
        self._diagnostics.solved("stamp")
        if self._last_stamp_ns is not None and stamp_ns == self._last_stamp_ns:
            self._receipt.dropped(
                "frames_repeated",
                lambda: (
                    f"all have the stamp of the one before, {stamp_ns / 1e9:.3f} s; set stamp_source to receipt if "
                    "the camera's driver does not stamp each, and see that the clock runs"
                ),
            )
            return False
        # An image out of order is dropped. A stamp further back than the largest allowed age means that the clock was
        # set back: then images are accepted again.
        if self._last_stamp_ns is not None and 0 < (late_ns := self._last_stamp_ns - stamp_ns) < limit_s * 1e9:
            self._receipt.dropped(
                "frames_out_of_order",
                lambda: (
                    f"they were taken {late_ns / 1e9:.3f} s before one that came earlier; do two cameras send on "
                    f"{self._node.resolve_topic_name(TOPIC)} ({publishers_on(self._node, TOPIC).total()} publishers)?"
                ),
            )
            return False
        self._receipt.used()
        self._last_stamp_ns = stamp_ns
        return True

    def _is_recent(self, captured: Captured) -> bool:
        """Whether an image is recent enough when work on it begins, by its stamp and by its receipt."""
        limit_s = self._limit_s()
        age_s = (self._clock.now_ns() - captured.stamp_ns) / 1e9
        self._diagnostics.duration("image_age_at_encode", age_s * 1e3)
        if not self._clock.is_recent(age_s, captured.received_s, limit_s):
            old_s = max(age_s, time.monotonic() - captured.received_s)
            self._turn.dropped(
                "frames_too_old",
                lambda: (
                    f"they are {old_s:.3f} s old when their turn comes; allowed: {limit_s:g} s (max_image_age_s); "
                    "the encoder is too slow for this machine"
                ),
            )
            return False
        self._turn.used()
        return True
