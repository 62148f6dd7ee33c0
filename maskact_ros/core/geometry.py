"""`ImageGeometry`: how a camera's picture becomes the model's square, and how a mask finds its way back.

In: RGB pictures or label images of any size. Out: the model's size, and from there the camera's size again.
Training, evaluation and the nodes share it, and a checkpoint carries it. Every resize keeps pixel centres aligned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.errors import MaskACTError

Mode = Literal["stretch", "letterbox", "center_crop"]
Interpolation = Literal["linear", "area", "nearest", "cubic"]
Pixels = TypeVar("Pixels", NDArray[np.uint8], NDArray[np.float32])

BACKGROUND = 0  # the label, and the grey value, of what letterbox adds and what a centre crop has cut off

_FLAGS = {
    "linear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "nearest": cv2.INTER_NEAREST_EXACT,  # INTER_NEAREST is half a pixel off
    "cubic": cv2.INTER_CUBIC,
}


class GeometryError(MaskACTError):
    """A geometry that does not exist: the text names the entry, its value and what is allowed."""


@dataclass(frozen=True)
class ImageGeometry:
    """The way from the camera's picture to the model's, and back.

    `stretch` fits both sides, `letterbox` keeps the aspect ratio and adds black, `center_crop` keeps it and cuts.

    Raises:
        GeometryError: an entry is unknown or out of range.
    """

    mode: Mode = "stretch"
    interpolation: Interpolation = "linear"  # of pictures; labels are always nearest

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("mode", self.mode, get_args(Mode)),
            ("interpolation", self.interpolation, get_args(Interpolation)),
        ):
            if value not in allowed:
                raise GeometryError(f"geometry: {name} is {value!r}; allowed: {', '.join(allowed)}")

    @classmethod
    def from_dict(cls, values: Any) -> ImageGeometry:
        """Build a geometry from JSON's types; what is left out has its default."""
        if not isinstance(values, Mapping):
            raise GeometryError(f"geometry is {values!r}; allowed: a mapping of mode and interpolation")
        for key in values:
            if key not in cls.__dataclass_fields__:
                raise GeometryError(f"geometry: unknown entry {key!r}; allowed: mode, interpolation")
        return cls(**values)

    def to_dict(self) -> dict[str, str]:
        """JSON's types; `from_dict` gives the same geometry back."""
        return asdict(self)

    def to_model(self, rgb: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
        """The model's picture (size, size, 3) of a camera's (H, W, 3); the same array when it has that size."""
        return self._to_square(rgb, size, _FLAGS[self.interpolation])

    def labels_to_model(self, labels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
        """Class ids (size, size) of (H, W); nearest, and background where letterbox adds."""
        return self._to_square(labels, size, cv2.INTER_NEAREST_EXACT)

    def to_camera(self, image: Pixels, height: int, width: int) -> Pixels:
        """The model's labels (uint8, nearest) or confidence (float32, linear) (S, S), at the camera's (H, W).

        Outside of a centre crop the model has seen nothing: background, with a confidence of 0.
        """
        flag = cv2.INTER_NEAREST_EXACT if image.dtype == np.uint8 else cv2.INTER_LINEAR
        if self.mode == "letterbox":
            inner_height, inner_width, top, left = _fitted(height, width, len(image))
            image = image[top : top + inner_height, left : left + inner_width]
        if self.mode == "center_crop":
            side, top, left = _cropped(height, width)
            whole = np.full((height, width), BACKGROUND, image.dtype)
            whole[top : top + side, left : left + side] = _resized(image, side, side, flag)
            return whole
        return _resized(image, height, width, flag)

    def _to_square(self, image: NDArray[np.uint8], size: int, flag: int) -> NDArray[np.uint8]:
        height, width = image.shape[:2]
        if self.mode == "letterbox":
            inner_height, inner_width, top, left = _fitted(height, width, size)
            inner = _resized(image, inner_height, inner_width, flag)
            if inner_height == inner_width:
                return inner
            square = np.full((size, size, *image.shape[2:]), BACKGROUND, np.uint8)
            square[top : top + inner_height, left : left + inner_width] = inner
            return square
        if self.mode == "center_crop":
            side, top, left = _cropped(height, width)
            image = image[top : top + side, left : left + side]
        return _resized(image, size, size, flag)


def _fitted(height: int, width: int, size: int) -> tuple[int, int, int, int]:
    """Height, width, top and left of the picture inside the letterbox of side `size`."""
    longer = max(height, width)
    inner_height = max(1, round(height * size / longer))
    inner_width = max(1, round(width * size / longer))
    return inner_height, inner_width, (size - inner_height) // 2, (size - inner_width) // 2


def _cropped(height: int, width: int) -> tuple[int, int, int]:
    """Side, top and left of the largest square in the middle of a picture."""
    side = min(height, width)
    return side, (height - side) // 2, (width - side) // 2


def _resized(image: Pixels, height: int, width: int, flag: int) -> Pixels:
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)  # a crop is a view with gaps; anything else passes uncopied
    return cv2.resize(image, (width, height), interpolation=flag)  # type: ignore[return-value]
