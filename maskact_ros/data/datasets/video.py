"""Pictures → an H.264 file with a constant frame rate, quick to write and to enter anywhere.

In: RGB uint8 (H, W, 3), height and width even. Out: an mp4 whose picture n is due at n / fps.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.errors import MaskACTError

CODEC, PIXELS = "h264", "yuv420p"
_KEY_EVERY = 10  # pictures; whoever wants one picture decodes at most so many
_OPTIONS = {"preset": "ultrafast", "crf": "20", "g": str(_KEY_EVERY), "bf": "0", "x264-params": "scenecut=0"}
_THREADS = 2  # the encoder works while the next picture is read
_BT601, _LIMITED = 6, 1  # as cv2.cvtColor makes it


class VideoError(MaskACTError):
    """A video that did not become whole: the text names it."""


class VideoWriter:
    """Writes one file; whole once it is closed."""

    def __init__(self, path: Path, *, width: int, height: int, fps: int, comment: str = ""):
        if width % 2 or height % 2:
            raise VideoError(
                f"pictures of {width}x{height} cannot become a video; allowed: even sizes, or --images png"
            )
        self.path = path
        self.frames = 0
        self._container = av.open(str(path), "w")
        if comment:
            self._container.metadata["comment"] = comment
        self._stream = self._container.add_stream("libx264", rate=fps, options=_OPTIONS)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, PIXELS
        self._stream.time_base = Fraction(1, fps)
        context = self._stream.codec_context
        context.time_base = Fraction(1, fps)
        context.thread_count = _THREADS
        context.colorspace, context.color_range = _BT601, _LIMITED
        self._container.start_encoding()  # the file is there from now on; else the first pictures would wait for more

    def add(self, rgb: NDArray[np.uint8]) -> None:
        """Append a picture (H, W, 3)."""
        frame = av.VideoFrame.from_numpy_buffer(cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420), format=PIXELS)
        frame.pts = self.frames
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def close(self) -> None:
        """Finish the file; raises VideoError when not all pictures have reached it."""
        self._container.mux(self._stream.encode())
        self._container.close()
        with av.open(str(self.path)) as written:
            found = written.streams.video[0].frames
        if found != self.frames:
            raise VideoError(f"{self.path}: holds {found} of {self.frames} pictures; is the disk full?")

    def abandon(self) -> None:
        """Let go of a file that will be deleted."""
        self._container.close()
