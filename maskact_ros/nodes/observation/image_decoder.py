"""`ImageDecoder`: image messages to RGB, with cv_bridge for those encodings that it decodes correctly.

A check at start compares cv_bridge with `core.images`, bit by bit, for every encoding. `core.images` decodes the
encodings that differ, and all of them if cv_bridge is missing or broken. The check runs in a process of its own,
because a cv_bridge that was built for another NumPy can crash its process.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.images import (
    ENCODINGS,
    CompressedImageMessage,
    ImageMessage,
    rgb_from_message,
    rgb_from_samples,
    samples_from_message,
)

CHECK_TIMEOUT_S = 20.0
WITHOUT = "images are decoded by OpenCV: cv_bridge"


@dataclass
class PlainImage:
    """An image message without padding and in this machine's byte order; cv_bridge fails with other messages."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: NDArray[Any]


class ImageDecoder:
    """Decodes image messages; `reason` is a sentence for the log: which library decodes which encodings, and why."""

    def __init__(self) -> None:
        self._encodings, self.reason = _trusted_encodings()
        try:
            self._bridge = _new_bridge() if self._encodings else None
        except Exception as error:  # noqa: BLE001  # it may conflict with a library that only this process has loaded
            self._encodings, self.reason = [], f"{WITHOUT} fails to load ({error})"

    def __call__(self, message: ImageMessage | CompressedImageMessage) -> NDArray[np.uint8]:
        """RGB (H, W, 3), as `images.rgb_from_message` gives it; raises ImageError."""
        if isinstance(message, CompressedImageMessage) or message.encoding not in self._encodings:
            return rgb_from_message(message)  # cv_bridge has no decoder of its own for JPEG and PNG
        return _bridge_rgb(self._bridge, message)


def _trusted_encodings() -> tuple[list[str], str]:
    """The encodings that cv_bridge may decode, and the sentence for the log."""
    if importlib.util.find_spec("cv_bridge") is None:
        return [], f"{WITHOUT} is not installed"
    try:
        check = subprocess.run(
            [sys.executable, "-m", "maskact_ros.nodes.observation.image_decoder"],
            capture_output=True,
            text=True,
            timeout=CHECK_TIMEOUT_S,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    except subprocess.TimeoutExpired:
        return [], f"{WITHOUT} did not pass its check within {CHECK_TIMEOUT_S:g} s"
    if check.returncode != 0 or not check.stdout:
        last_line = (check.stderr.strip().splitlines() or [""])[-1]
        return [], f"{WITHOUT} fails its check (exit code {check.returncode}) {last_line}".rstrip()
    agreeing: list[str] = json.loads(check.stdout.splitlines()[-1])
    if not agreeing:
        return [], f"{WITHOUT} gives another picture, or none, of every encoding"
    rest = "" if len(agreeing) == len(ENCODINGS) else "; of all other encodings by OpenCV, as the two differ there"
    return agreeing, f"images are decoded by cv_bridge: {', '.join(agreeing)}{rest}"


def _new_bridge() -> Any:
    from cv_bridge import CvBridge  # not at the top: it may be missing, or crash on import

    return CvBridge()


def _bridge_rgb(bridge: Any, message: ImageMessage) -> NDArray[np.uint8]:
    samples = samples_from_message(message)
    plain = PlainImage(
        height=message.height,
        width=message.width,
        encoding=message.encoding,
        is_bigendian=int(sys.byteorder == "big"),
        step=samples.nbytes // len(samples),
        data=samples,
    )
    rgb: NDArray[np.uint8] = bridge.imgmsg_to_cv2(plain, "rgb8")
    return rgb


def _agreeing_encodings() -> list[str]:
    """The encodings that cv_bridge decodes to the same picture as `core.images`."""
    bridge = _new_bridge()
    return [name for name in ENCODINGS if _agrees(bridge, name)]


def _agrees(bridge: Any, encoding: str) -> bool:
    height, width = 48, 64  # wide enough for the vectorised loops, which may round differently
    layout = ENCODINGS[encoding]
    step = width * layout.channels * layout.bits // 8
    data = np.random.default_rng(0).integers(0, 256, layout.rows(height) * step, np.uint8)
    message = PlainImage(height, width, encoding, int(sys.byteorder == "big"), step, data)
    expected = rgb_from_samples(samples_from_message(message), encoding)
    try:
        rgb = _bridge_rgb(bridge, message)
    except Exception:  # noqa: BLE001  # any exception means that it does not decode this encoding
        return False
    return isinstance(rgb, np.ndarray) and rgb.dtype == np.uint8 and np.array_equal(rgb, expected)


if __name__ == "__main__":
    print(json.dumps(_agreeing_encodings()))
