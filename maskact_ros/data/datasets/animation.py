"""Pictures → an animated WebP that a web page shows by itself: smaller and fewer of them than a video has.

In: RGB uint8 (H, W, 3), at a constant rate. Out: a file that repeats for ever, whole once it is closed.
"""

from __future__ import annotations

import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH = 480  # pixels; wider pictures are scaled down to it
FPS = 10
_OPTIONS = {"quality": "60", "compression_level": "6", "preset": "picture"}
_PIXELS = "yuv420p"


class AnimationWriter:
    """Writes one file of at most `FPS` pictures a second."""

    def __init__(self, path: Path, *, width: int, height: int, fps: int, comment: str = ""):
        self._path, self._comment = path, comment.encode()
        scale = min(1.0, WIDTH / width)
        self._size = (_even(width * scale), _even(height * scale))
        self._every = max(1, round(fps / FPS))
        self.frames = 0
        self._kept = 0
        self._container = av.open(str(path), "w", options={"loop": "0"})  # 0: without end
        rate = Fraction(fps, self._every)
        self._stream = self._container.add_stream("libwebp_anim", rate=rate, options=_OPTIONS)
        self._stream.width, self._stream.height = self._size
        self._stream.pix_fmt = _PIXELS
        self._stream.codec_context.time_base = 1 / rate

    def add(self, rgb: NDArray[np.uint8]) -> None:
        """Take the next picture (H, W, 3)."""
        if self.frames % self._every == 0:
            small = cv2.resize(rgb, self._size, interpolation=cv2.INTER_AREA)
            frame = av.VideoFrame.from_numpy_buffer(cv2.cvtColor(small, cv2.COLOR_RGB2YUV_I420), format=_PIXELS)
            frame.pts = self._kept
            self._container.mux(self._stream.encode(frame))
            self._kept += 1
        self.frames += 1

    def close(self) -> None:
        """Finish the file."""
        self._container.mux(self._stream.encode())
        self._container.close()
        if self._comment:
            self._add_comment()

    def _add_comment(self) -> None:
        """A chunk of our own at the end, which readers of WebP pass over; FFmpeg writes none."""
        content = self._comment + b" " * (len(self._comment) % 2)  # chunks have an even length
        with self._path.open("r+b") as file:
            length = file.seek(0, os.SEEK_END)
            file.write(struct.pack("<4sI", b"note", len(content)) + content)
            file.seek(4)
            file.write(struct.pack("<I", length + len(content)))  # all but RIFF and this number

    def abandon(self) -> None:
        """Let go of a file that will be deleted."""
        self._container.close()


def _even(pixels: float) -> int:
    """Chroma has one value for two pixels a side."""
    return max(2, 2 * round(pixels / 2))
