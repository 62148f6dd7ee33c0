"""Image messages → contiguous RGB uint8 (H, W, 3), and mask messages → class ids uint8 (H, W).

In: anything with the fields of sensor_msgs/Image or CompressedImage, or a file. Out: an array, or an `ImageError`
that says what is wrong. Every rule is fixed, none looks at the values in the frame: 16 bits become 8 by round(v / 257);
YUV is BT.601 in limited range, as in OpenCV and cv_bridge; JPEG is full range, as in JFIF; alpha is dropped. Depth is
refused, raw or compressed; grey is taken where the camera is grey.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.paths import read_bytes, resolve_path
from maskact_ros.core.picture_header import JPEG, SCAN, PictureHeader, header_of, kind_of

_MOST_SCANNED = 2**30  # pixels, of all scans of a JPEG: each takes as long as the first, and may take a few bytes
MOST_PIXELS = 2**26  # no camera has more; a picture of a few bytes can claim to need gigabytes


class ImageError(MaskACTError):
    """A message that is no picture: the text names the field, its value and what is allowed."""


class ImageMessage(Protocol):
    """The fields of sensor_msgs/Image that make the picture."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int  # bytes from one row to the next, padding included
    data: Any  # a buffer of bytes: array.array, numpy array, bytes


@runtime_checkable
class CompressedImageMessage(Protocol):
    """The fields of sensor_msgs/CompressedImage that make the picture."""

    format: str
    data: Any


@dataclass(frozen=True)
class Encoding:
    """How an encoding lays out its samples, and OpenCV's conversion of them to RGB; none where they are RGB."""

    to_rgb: int | None
    channels: int = 1
    bits: int = 8
    block: tuple[int, int] = (1, 1)  # rows and columns of pixels that share their colour
    smallest: int = 1  # OpenCV leaves a smaller picture black

    def rows(self, height: int) -> int:
        """Rows of samples: NV12 and NV21 have half as many rows of colour below the rows of brightness."""
        return height * 3 // 2 if self.block == (2, 2) else height


_UYVY = Encoding(cv2.COLOR_YUV2RGB_UYVY, channels=2, block=(1, 2))
_YUYV = Encoding(cv2.COLOR_YUV2RGB_YUY2, channels=2, block=(1, 2))

# Names as in sensor_msgs/image_encodings.hpp. OpenCV's own (8UC3) are blue first, as everywhere in ROS; its 16UC1 is
# left out, since it carries depth.
ENCODINGS: Mapping[str, Encoding] = MappingProxyType(
    {
        "rgb8": Encoding(None, channels=3),
        "bgr8": Encoding(cv2.COLOR_BGR2RGB, channels=3),
        "8UC3": Encoding(cv2.COLOR_BGR2RGB, channels=3),
        "rgba8": Encoding(cv2.COLOR_RGBA2RGB, channels=4),
        "bgra8": Encoding(cv2.COLOR_BGRA2RGB, channels=4),
        "8UC4": Encoding(cv2.COLOR_BGRA2RGB, channels=4),
        "rgb16": Encoding(None, channels=3, bits=16),
        "bgr16": Encoding(cv2.COLOR_BGR2RGB, channels=3, bits=16),
        "rgba16": Encoding(cv2.COLOR_RGBA2RGB, channels=4, bits=16),
        "bgra16": Encoding(cv2.COLOR_BGRA2RGB, channels=4, bits=16),
        "mono8": Encoding(cv2.COLOR_GRAY2RGB),
        "8UC1": Encoding(cv2.COLOR_GRAY2RGB),
        "mono16": Encoding(cv2.COLOR_GRAY2RGB, bits=16),
        # ROS names a Bayer pattern from its first pixel on, OpenCV from the second of its second row.
        "bayer_rggb8": Encoding(cv2.COLOR_BayerBG2RGB, smallest=3),
        "bayer_bggr8": Encoding(cv2.COLOR_BayerRG2RGB, smallest=3),
        "bayer_gbrg8": Encoding(cv2.COLOR_BayerGR2RGB, smallest=3),
        "bayer_grbg8": Encoding(cv2.COLOR_BayerGB2RGB, smallest=3),
        "bayer_rggb16": Encoding(cv2.COLOR_BayerBG2RGB, bits=16, smallest=3),
        "bayer_bggr16": Encoding(cv2.COLOR_BayerRG2RGB, bits=16, smallest=3),
        "bayer_gbrg16": Encoding(cv2.COLOR_BayerGR2RGB, bits=16, smallest=3),
        "bayer_grbg16": Encoding(cv2.COLOR_BayerGB2RGB, bits=16, smallest=3),
        "yuv422": _UYVY,
        "uyvy": _UYVY,
        "yuv422_yuy2": _YUYV,
        "yuyv": _YUYV,
        "nv12": Encoding(cv2.COLOR_YUV2RGB_NV12, block=(2, 2)),
        "nv21": Encoding(cv2.COLOR_YUV2RGB_NV21, block=(2, 2)),
    }
)


_DEPTH = re.compile(r"(16U|16S|32S|32F|64F)C\d+")  # numbers of a measurement; 16UC1 and 32FC1 are depth images
_COLOURS = ("rgb", "bgr", "yuv", "uyvy", "yuyv", "nv", "bayer")  # how names of encodings in colour begin


def rgb_from_message(message: ImageMessage | CompressedImageMessage) -> NDArray[np.uint8]:
    """The picture (H, W, 3), RGB, contiguous; of unpadded rgb8 a view on the message's memory: copy it to keep it.

    Raises:
        ImageError: the encoding is not one of ENCODINGS, or the data do not fit it; compressed: it is no whole JPEG or
            PNG, carries depth, or has lost the camera's colour.
    """
    if isinstance(message, CompressedImageMessage):
        content = _bytes_of(message.data).tobytes()
        return _decompressed(content, f"image: {len(content)} bytes of format {message.format!r}", message.format)
    return rgb_from_samples(samples_from_message(message), message.encoding)


def rgb_from_file(path: str | Path) -> NDArray[np.uint8]:
    """The picture (H, W, 3), RGB, of a JPEG or PNG file: the same as of a message that carries it.

    Raises:
        ImageError: it is neither, or damaged, or too large.
        PathError: the file cannot be read.
    """
    path = resolve_path(path)
    return _decompressed(read_bytes(path), f"{path}: its bytes")


def mask_from_message(message: ImageMessage) -> NDArray[np.uint8]:
    """The class ids (H, W) of a mono8 or 8UC1 message; without padding a view on the message's memory.

    Raises:
        ImageError: the encoding is another one, or the data do not fit it.
    """
    if message.encoding not in ("mono8", "8UC1"):
        raise ImageError(f"mask: encoding is {message.encoding!r}; allowed: mono8, 8UC1")
    return samples_from_message(message)


def samples_from_message(message: ImageMessage) -> NDArray[Any]:
    """The message's samples as uint8 or native uint16 (rows, W) or (rows, W, C), contiguous: no padding.

    Rows are H, or 3/2 H where the colour of NV12 and NV21 follows. Raises ImageError.
    """
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        depth = ", which carries depth" if _DEPTH.fullmatch(message.encoding) else ""
        raise ImageError(f"image: encoding is {message.encoding!r}{depth}; allowed: {', '.join(ENCODINGS)}")
    height, width, step = int(message.height), int(message.width), int(message.step)
    shown = f"{width}x{height} in {message.encoding}"
    if min(height, width) < encoding.smallest:
        raise ImageError(f"image: size is {shown}; allowed: at least {encoding.smallest}x{encoding.smallest}")
    if height % encoding.block[0] or width % encoding.block[1]:
        raise ImageError(f"image: size is {shown}; allowed: multiples of {encoding.block[1]}x{encoding.block[0]}")

    row_bytes = width * encoding.channels * encoding.bits // 8
    if step < row_bytes:
        raise ImageError(f"image: step is {step} for {shown}; allowed: at least {row_bytes} bytes")
    rows = encoding.rows(height)
    data = _bytes_of(message.data)
    if len(data) < rows * step:
        raise ImageError(
            f"image: data holds {len(data)} bytes for {shown} and a step of {step}; allowed: at least {rows * step}"
        )

    samples = np.ascontiguousarray(data[: rows * step].reshape(rows, step)[:, :row_bytes])  # (rows, row_bytes)
    if encoding.bits == 16:
        samples = samples.view(">u2" if message.is_bigendian else "<u2").astype(np.uint16)
    return samples if encoding.channels == 1 else samples.reshape(rows, width, encoding.channels)


def rgb_from_samples(samples: NDArray[Any], encoding: str) -> NDArray[np.uint8]:
    """RGB (H, W, 3) of what `samples_from_message` gives; the same array for rgb8."""
    if samples.dtype == np.uint16:
        samples = cv2.convertScaleAbs(samples, alpha=255 / 65535)  # round(v / 257), as cv_bridge does
    code = ENCODINGS[encoding].to_rgb
    return samples if code is None else cv2.cvtColor(samples, code)  # type: ignore[return-value]


def _bytes_of(data: Any) -> NDArray[np.uint8]:
    """A view on a message's bytes."""
    return np.frombuffer(data, np.uint8) if len(data) else np.empty(0, np.uint8)


def _decompressed(content: bytes, shown: str, said: str = "") -> NDArray[np.uint8]:
    """RGB of a JPEG's or PNG's content, which `shown` calls by name; `said` is the message's format."""
    source, _, target = (part.strip() for part in said.partition(";"))
    kind = kind_of(content)
    if kind is None:
        depth = ", but depth" if _carries_depth(said, source) else ""
        raise ImageError(f"{shown} are no picture that is known here{depth}; allowed: JPEG, PNG")

    picture, header = None, header_of(content)
    if header is not None:
        size = f"{header.width}x{header.height}"
        if header.width * header.height > MOST_PIXELS:
            raise ImageError(f"{shown} are a picture of {size}; allowed: at most {MOST_PIXELS} pixels")
        if kind == JPEG and header.width * header.height * content.count(SCAN) > _MOST_SCANNED:
            raise ImageError(f"{shown} are a picture of {size} in {content.count(SCAN)} scans; allowed: fewer")
        if header.channels not in (1, 3):  # such as a JPEG for print
            raise ImageError(f"{shown} are a picture of {header.channels} channels; allowed: 1 or 3")
        try:
            flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
            picture = cv2.imdecode(np.frombuffer(content, np.uint8), flags)  # (H, W, 3), 8 or 16 bits, blue first
        except cv2.error:  # a side beyond OpenCV's limit
            picture = None
    if header is None or picture is None:
        raise ImageError(f"{shown} cannot be decoded; allowed: a whole JPEG or PNG")

    if (wrong := _not_as_raw(said, source, target, header)) is not None:
        raise ImageError(f"{shown} {wrong}")
    if _is_mosaic(source, target, header):
        if min(picture.shape[:2]) < ENCODINGS[source].smallest:
            smallest = ENCODINGS[source].smallest
            raise ImageError(f"{shown} are a picture of {size}; allowed: at least {smallest}x{smallest}")
        return rgb_from_samples(np.ascontiguousarray(picture[..., 0]), source)
    return rgb_from_samples(picture, "bgr8")


def _not_as_raw(said: str, source: str, target: str, header: PictureHeader) -> str | None:
    """Why a compressed picture is refused whose raw one would be, too; None of one that is good.

    image_transport writes the format as `SOURCE; jpeg compressed TARGET`: the encodings of the raw picture and of the
    one inside. Others write `jpeg` only; then the picture itself tells.
    """
    grey = header.channels == 1
    if _carries_depth(said, source):
        return "carry depth; allowed: pictures in colour, or grey by mono8 or mono16"
    lost = grey or target.split()[-1:] in (["mono8"], ["mono16"])
    if lost and _is_colour(source) and not _is_mosaic(source, target, header):
        return (
            f"are grey, while the camera's own pictures are {source}: the colour was lost when they were compressed; "
            "allowed: the colour that the raw pictures have"
        )
    if grey and header.bits == 16 and not _is_sixteen_bits(source):
        return "are a grey picture of 16 bits, which is depth unless the format says mono16; allowed: 8 bits"
    return None


def _carries_depth(said: str, source: str) -> bool:
    return "compressedDepth" in said or _DEPTH.fullmatch(source) is not None


def _is_colour(encoding: str) -> bool:
    """Whether a raw picture of this encoding, here known or not, has colours."""
    known = ENCODINGS.get(encoding)
    return known.to_rgb != cv2.COLOR_GRAY2RGB if known else encoding.startswith(_COLOURS)


def _is_sixteen_bits(encoding: str) -> bool:
    return encoding in ENCODINGS and ENCODINGS[encoding].bits == 16


def _is_mosaic(source: str, target: str, header: PictureHeader) -> bool:
    """Whether what was compressed is the Bayer pattern itself, which looks grey."""
    as_it_is = target.split()[-1:] in ([], ["compressed"], [source])
    return header.channels == 1 and as_it_is and source in ENCODINGS and source.startswith("bayer")
