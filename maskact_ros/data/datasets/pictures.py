"""Pictures of a dataset, decoded: frames of a video by number, RGB of a PNG or JPEG, class ids of a PNG.

In: a video file, or a picture's bytes and what to call them. Out: uint8 arrays. What is missing, torn or not where its
number says is an error that names it, never a neighbour's picture.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.foreign_file import reading
from maskact_ros.core.images import MOST_PIXELS, ImageError, rgb_from_message
from maskact_ros.core.picture_header import PNG, header_of, kind_of
from maskact_ros.data.datasets.lerobot_layout import DatasetError

# Others, such as playlists, name further files; and within one of these, none is opened either.
_CONTAINERS = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi", "protocol_whitelist": "file"}
_REORDERED = 16  # frames; a seek lands by decoding order, which runs this much ahead of the pictures' at most


def video_frames(path: Path, *, first: int, count: int, fps: float) -> Iterator[NDArray[np.uint8]]:
    """Frames `first` to `first + count` of a video of constant frame rate, RGB (H, W, 3).

    Raises:
        DatasetError: the file is missing or torn, or a frame is missing or not where its number says.
    """
    expected = first
    for number, frame in decoded(path, first=first, fps=fps):
        if number != expected:
            raise DatasetError(f"{path}: frame {number} where frame {expected} belongs, at {fps:g} frames/s")
        yield frame.to_ndarray(format="rgb24")
        expected += 1
        if expected == first + count:
            return
    raise DatasetError(
        f"{path}: ends before frame {expected}; an episode has {count} frames in it, from frame {first} on"
    )


def decoded(path: Path, *, first: int = 0, fps: float) -> Iterator[tuple[int, Any]]:
    """Numbers and frames (av.VideoFrame) of a video from frame `first` on; raises DatasetError."""
    number = first - 1
    with reading(path, "video", DatasetError):
        try:
            with av.open(str(path), options=_CONTAINERS) as container:
                if not container.streams.video:
                    raise DatasetError(f"{path}: no video in it")
                stream = container.streams.video[0]
                _limit_size(path, stream)
                if first > _REORDERED:
                    container.seek(int((first - _REORDERED) / fps / stream.time_base), stream=stream)
                for frame in container.decode(stream):
                    number = -1 if frame.pts is None else round(frame.pts * stream.time_base * fps)
                    if number >= first:
                        yield number, frame
        except av.FFmpegError as error:
            where = f"beyond frame {number}" if number >= 0 else "at all"
            raise DatasetError(f"{path}: cannot be decoded {where} ({error.strerror})") from None


def _limit_size(path: Path, stream: Any) -> None:
    """Raise DatasetError on frames that are too large; the decoder refuses those that become so on the way."""
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > MOST_PIXELS:
        raise DatasetError(f"{path}: its frames are {width}x{height}; allowed: at most {MOST_PIXELS} pixels")
    stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}


@dataclass
class _Compressed:
    """The fields of sensor_msgs/CompressedImage."""

    format: str
    data: bytes


def picture_of(content: bytes, shown: str) -> NDArray[np.uint8]:
    """RGB (H, W, 3) of a PNG or JPEG, which `shown` calls by name; raises DatasetError."""
    try:
        return rgb_from_message(_Compressed(format="png", data=content))
    except ImageError as error:
        raise DatasetError(f"{shown}: {error}") from None


def labels_of(content: bytes, shown: str) -> NDArray[np.uint8]:
    """Class ids (H, W) of a PNG with one channel, or with several that agree; raises DatasetError."""
    header = header_of(content) if kind_of(content) == PNG else None
    if header is None:
        raise DatasetError(f"{shown} is no whole PNG; allowed: PNG, because labels must not be lossy")
    if header.width * header.height > MOST_PIXELS:
        size = f"{header.width}x{header.height}"
        raise DatasetError(f"{shown} is {size}; allowed: at most {MOST_PIXELS} pixels")
    labels = None
    if header.bits == 8:
        with contextlib.suppress(cv2.error):  # a side beyond OpenCV's limit
            labels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if labels is None or labels.dtype != np.uint8:
        raise DatasetError(f"{shown} cannot be decoded; allowed: a PNG of 8 bits")
    return single_channel(labels, shown)


def single_channel(labels: NDArray[Any], shown: str) -> NDArray[np.uint8]:
    """Class ids (H, W) of labels (H, W) or (H, W, C) whose colours agree; alpha is dropped; raises DatasetError."""
    if labels.ndim == 3:
        if (labels[..., :3] != labels[..., :1]).any():
            raise DatasetError(f"{shown} has colours; allowed: class ids, one channel or three that agree")
        labels = labels[..., 0]
    return np.ascontiguousarray(labels, np.uint8)
