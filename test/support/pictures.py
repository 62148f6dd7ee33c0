"""Image messages made from known pictures, by formulas of their own: one table of encodings for every decoder."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from maskact_ros.core.images import ENCODINGS

HEIGHT, WIDTH = 12, 16


@dataclass
class Image:
    """The fields of sensor_msgs/Image."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


@dataclass
class CompressedImage:
    """The fields of sensor_msgs/CompressedImage."""

    format: str
    data: Any


def picture_for(encoding: str) -> np.ndarray:
    """An RGB picture (H, W, 3) that the encoding can carry without loss."""
    rng = np.random.default_rng(1)
    if encoding.startswith("bayer"):
        return np.broadcast_to(np.array([200, 90, 20], np.uint8), (HEIGHT, WIDTH, 3)).copy()
    if encoding.startswith(("mono", "8UC1")):
        return np.repeat(rng.integers(0, 256, (HEIGHT, WIDTH, 1), np.uint8), 3, axis=2)
    if ENCODINGS[encoding].block != (1, 1):  # one colour for each 2x2 pixels
        return rng.integers(0, 256, (HEIGHT // 2, WIDTH // 2, 3), np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    return rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def samples_of(rgb: np.ndarray, encoding: str) -> np.ndarray:
    """The samples that a camera driver would send, (rows, W, C) or (rows, W), of 8 bits."""
    order = {"rgb": "rgb", "bgr": "bgr", "rgba": "rgba", "bgra": "bgra", "8UC3": "bgr", "8UC4": "bgra"}.get(
        encoding if encoding.startswith("8UC") else encoding.rstrip("0123456789")
    )
    if order:
        planes = dict(zip("rgb", np.moveaxis(rgb, 2, 0), strict=True)) | {"a": np.full(rgb.shape[:2], 7, np.uint8)}
        return np.dstack([planes[channel] for channel in order])
    if encoding.startswith("bayer"):
        pattern = encoding[6:10]  # rggb: red at the first pixel, blue at the second of the second row
        mosaic = np.empty(rgb.shape[:2], np.uint8)
        for site, channel in enumerate(pattern):
            row, column = divmod(site, 2)
            mosaic[row::2, column::2] = rgb[row::2, column::2, "rgb".index(channel)]
        return mosaic
    if encoding.startswith(("mono", "8UC1")):
        return rgb[..., 0]
    y, u, v = yuv(rgb)
    chroma = np.dstack([u, v])[:, ::2].reshape(len(y), -1)  # u v u v …
    if encoding in ("yuv422", "uyvy"):
        return np.dstack([chroma, y])
    if encoding in ("yuv422_yuy2", "yuyv"):
        return np.dstack([y, chroma])
    if encoding == "nv21":
        chroma = np.dstack([v, u])[:, ::2].reshape(len(y), -1)
    return np.vstack([y, chroma[::2]])


def yuv(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ITU-R BT.601, limited range: Y from 16 to 235, U and V from 16 to 240."""
    red, green, blue = np.moveaxis(rgb / 255.0, 2, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    y = 16 + 219 * luma
    u = 128 + 224 * (blue - luma) / 1.772
    v = 128 + 224 * (red - luma) / 1.402
    return tuple(np.rint(plane).astype(np.uint8) for plane in (y, u, v))


def message_of(rgb: np.ndarray, encoding: str, *, padding: int = 0, big_endian: bool = False) -> Image:
    """The message a driver would send; `padding` bytes of junk follow each row."""
    samples = samples_of(rgb, encoding)
    if ENCODINGS[encoding].bits == 16:
        samples = (samples.astype(np.uint16) * 257).astype(">u2" if big_endian else "<u2")
    rows = np.ascontiguousarray(samples).reshape(len(samples), -1).view(np.uint8)
    rows = np.hstack([rows, np.full((len(rows), padding), 0xAB, np.uint8)])
    return Image(*rgb.shape[:2], encoding, int(big_endian), rows.shape[1], rows.tobytes())


def tolerance_of(encoding: str) -> int:
    """What rounding to 8 bits of Y, U and V costs, in grey levels; nothing elsewhere."""
    return 2 if ENCODINGS[encoding].block != (1, 1) else 0
