"""`Augmentation`: how strongly training changes pictures; `augment`: changes one picture and its mask in the same way.

In: RGB bytes (S, S, 3), class ids (S, S) or None, and a random generator. Out: new arrays of these shapes. All changes
of colour are one affine map of RGB. Changes by class are skipped if a picture has no mask.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.documents import read_yaml, shortened
from maskact_ros.core.geometry import BACKGROUND
from maskact_ros.core.paths import resolve_path
from maskact_ros.training.errors import TrainingError
from maskact_ros.training.run import backgrounds

Picture = NDArray[np.uint8]  # (S, S, 3), or (S, S) of labels
_GREY = np.array([0.299, 0.587, 0.114])  # luma of RGB (ITU-R BT.601)
_ONE = 127  # a factor of 1 in bytes
_NOISE_STD = 32
# Drawn once, as drawing takes more time than all the rest. As bytes, for OpenCV's saturating arithmetic.
_NOISE = np.clip(128 + np.random.default_rng(0).normal(0, _NOISE_STD, 2**22), 0, 255).astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The largest change of each kind; each picture gets a random change up to it, and 0 switches a kind off.

    Raises:
        TrainingError: a value is not allowed.
    """

    probability: float = 1.0  # that a picture is changed at all
    # Colour
    brightness: float = 0.0  # added, as a share of the full range
    contrast: float = 0.0  # factor 1 ± contrast, about mid-grey
    saturation: float = 0.0  # factor 1 ± saturation
    hue_deg: float = 0.0  # turned about the grey axis
    gain: float = 0.0  # factor 1 ± gain of each channel by itself: coloured light
    light_gradient: float = 0.0  # factor 1 ± light_gradient at opposite edges: a lamp at one side
    blur_px: float = 0.0  # standard deviation
    noise: float = 0.0  # standard deviation, as a share of the full range
    # Space
    shift: float = 0.0  # share of the side
    scale: float = 0.0  # factor 1 ± scale
    rotation_deg: float = 0.0
    # Classes, where there are masks
    recolour_probability: float = 0.0  # that a class' pixels get a colour map of their own, for each class
    recolour_hue_deg: float = 0.0
    recolour_saturation: float = 0.0  # factor 1 ± recolour_saturation
    recolour_gain: float = 0.0
    background_probability: float = 0.0  # that the background is painted over
    distractors: int = 0  # shapes on the background, at most
    distractor_size: float = 0.0  # their largest diameter, as a share of the side

    def __post_init__(self) -> None:
        for f in fields(self):
            value, largest = getattr(self, f.name), _LARGEST.get(f.name, 1.0)
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= largest:
                raise TrainingError(f"augmentation: {f.name} is {shortened(repr(value))}; allowed: 0 to {largest:g}")
        if not isinstance(self.distractors, int):
            raise TrainingError(f"augmentation: distractors is {self.distractors!r}; allowed: an integer")

    @property
    def needs_masks(self) -> bool:
        """Whether some changes are by class."""
        return bool(self.recolour_probability or self.background_probability or self.distractors)

    def to_dict(self) -> dict[str, float]:
        """JSON's types; `augmentation_from_dict` gives the same back."""
        return asdict(self)


_LARGEST = {"hue_deg": 180.0, "rotation_deg": 180.0, "recolour_hue_deg": 180.0, "blur_px": 20.0, "distractors": 100}

_COLOUR = Augmentation(
    brightness=0.15, contrast=0.3, saturation=0.4, hue_deg=15, gain=0.25, light_gradient=0.4, blur_px=0.8, noise=0.03
)
_STANDARD = replace(_COLOUR, shift=0.03, scale=0.03, rotation_deg=2)
PRESETS: Mapping[str, Augmentation] = MappingProxyType(
    {
        "none": Augmentation(probability=0.0),
        "colour": _COLOUR,
        "standard": _STANDARD,
        "full": replace(
            _STANDARD,
            recolour_probability=0.5,
            recolour_hue_deg=40,
            recolour_saturation=0.4,
            recolour_gain=0.3,
            background_probability=0.6,
            distractors=4,
            distractor_size=0.2,
        ),
    }
)


def augmentation_from(name_or_file: str) -> Augmentation:
    """A preset by its name, or a YAML file: `preset`, and the numbers that differ from it.

    Raises:
        MaskACTError: there is no such preset or file, or the file is not valid.
    """
    if name_or_file in PRESETS:
        return PRESETS[name_or_file]
    path = resolve_path(name_or_file)
    if not path.is_file():
        raise TrainingError(f"--augment is {name_or_file}; allowed: {', '.join(PRESETS)}, or a YAML file")
    values = read_yaml(path)
    try:
        return augmentation_from_dict(values)
    except TrainingError as error:
        raise TrainingError(f"{path}: {error}") from None


def augmentation_from_dict(values: Any) -> Augmentation:
    """From JSON's types: numbers by name; missing ones are as in `preset`, by default `none`."""
    if not isinstance(values, Mapping):
        raise TrainingError("augmentation: allowed: a mapping of preset and numbers")
    preset = values.get("preset", "none")
    if not isinstance(preset, str) or preset not in PRESETS:
        raise TrainingError(f"augmentation: preset is {shortened(repr(preset))}; allowed: {', '.join(PRESETS)}")
    numbers = {key: value for key, value in values.items() if key != "preset"}
    if unknown := [key for key in numbers if key not in Augmentation.__dataclass_fields__]:
        known = ", ".join(("preset", *Augmentation.__dataclass_fields__))
        raise TrainingError(f"augmentation: unknown entry {shortened(repr(unknown[0]))}; allowed: {known}")
    base = PRESETS[preset] if preset != "none" else Augmentation()
    return replace(base, **numbers)


def augment(
    rgb: Picture, mask: Picture | None, how: Augmentation, rng: np.random.Generator
) -> tuple[Picture, Picture | None]:
    """The picture and its mask, changed in the same way; the arguments are not changed."""
    if rng.random() >= how.probability:
        return rgb, mask
    if how.shift or how.scale or how.rotation_deg:
        rgb, mask = _moved(rgb, mask, how, rng)
    if mask is not None and how.needs_masks:
        rgb = _by_class(rgb, mask, how, rng)
    rgb = cv2.transform(rgb, _colour_map(rng, how))  # type: ignore[assignment]
    if how.blur_px and (sigma := rng.uniform(0, how.blur_px)) > 0.2:  # less does nothing
        rgb = cv2.GaussianBlur(rgb, (0, 0), sigma)  # type: ignore[assignment]
    if how.light_gradient:
        rgb = _lit(rgb, how.light_gradient, rng)
    if how.noise:
        rgb = _noisy(rgb, how.noise, rng)
    return rgb, mask


def _moved(
    rgb: Picture, mask: Picture | None, how: Augmentation, rng: np.random.Generator
) -> tuple[Picture, Picture | None]:
    """Shifted, scaled and turned about the middle; the new border has the mean colour and is background."""
    size = len(rgb)
    middle = (size - 1) / 2
    angle, factor = rng.uniform(-1, 1) * how.rotation_deg, 1 + rng.uniform(-1, 1) * how.scale
    matrix: Any = cv2.getRotationMatrix2D((middle, middle), angle, max(factor, 0.05))
    matrix[:, 2] = matrix[:, 2] + rng.uniform(-1, 1, 2) * how.shift * size
    border = cv2.mean(rgb)
    moved: Any = cv2.warpAffine(rgb, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=border)
    if mask is None:
        return moved, None
    labels: Any = cv2.warpAffine(mask, matrix, (size, size), flags=cv2.INTER_NEAREST, borderValue=BACKGROUND)
    return moved, labels


def _by_class(rgb: Picture, mask: Picture, how: Augmentation, rng: np.random.Generator) -> Picture:
    """Change each class's colours and the background, and add shapes on the background."""
    changed = rgb.copy()
    classes = int(mask.max()) + 1
    for label in np.flatnonzero(rng.random(classes) < how.recolour_probability):
        hue, saturation = rng.uniform(-1, 1, 2)
        colours = _saturated(1 + saturation * how.recolour_saturation) @ _turned(hue * how.recolour_hue_deg)
        colours *= _gains(rng, how.recolour_gain)[:, None]
        cv2.copyTo(cv2.transform(rgb, colours), _where(mask, int(label)), changed)
    if rng.random() < how.background_probability:
        cv2.copyTo(backgrounds.painted(rgb, rng), _where(mask, BACKGROUND), changed)
    if how.distractors:
        canvas, covered = backgrounds.shapes(changed, how.distractors, how.distractor_size, rng)
        cv2.copyTo(canvas, covered & _where(mask, BACKGROUND), changed)
    return changed


def _where(mask: Picture, label: int) -> Picture:
    """255 where the mask has the label, as OpenCV wants it."""
    chosen: Any = cv2.inRange(mask, label, label)
    return chosen  # type: ignore[no-any-return]


def _colour_map(rng: np.random.Generator, how: Augmentation) -> NDArray[np.float64]:
    """(3, 4), from RGB and 1 to RGB: hue, saturation, coloured light, contrast and brightness."""
    hue, saturation, contrast, brightness = rng.uniform(-1, 1, 4)
    linear = _saturated(1 + saturation * how.saturation) @ _turned(hue * how.hue_deg)
    linear *= (1 + contrast * how.contrast) * _gains(rng, how.gain)[:, None]
    offset = 127.5 * -contrast * how.contrast + 255 * brightness * how.brightness
    return np.column_stack([linear, np.full(3, offset)])


def _gains(rng: np.random.Generator, gain: float) -> NDArray[np.float64]:
    return 1 + rng.uniform(-1, 1, 3) * gain


def _saturated(factor: float) -> NDArray[np.float64]:
    """(3, 3): 0 leaves grey, 1 changes nothing, 2 doubles the distance from grey."""
    return factor * np.eye(3) + (1 - factor) * _GREY


def _turned(angle_deg: float) -> NDArray[np.float64]:
    """The rotation (3, 3) of RGB about the grey axis (Rodrigues' formula)."""
    cosine, sine = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg)) / math.sqrt(3)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    return cosine * np.eye(3) + (1 - cosine) / 3 + sine * cross


def _lit(rgb: Picture, largest: float, rng: np.random.Generator) -> Picture:
    """Light as from a lamp at one side: a linear gradient of factors, brightest at one edge or corner."""
    size = len(rgb)
    angle, strength = rng.uniform(0, 2 * math.pi), rng.uniform(0, largest)
    across = np.linspace(-1, 1, size, dtype=np.float32) * np.float32(_ONE * strength / math.sqrt(2))
    light = across * np.float32(math.cos(angle)) + (across * np.float32(math.sin(angle)) + _ONE)[:, None]  # (S, S)
    factors = cv2.cvtColor(light.astype(np.uint8), cv2.COLOR_GRAY2RGB)
    lit: Any = cv2.multiply(rgb, factors, scale=1 / _ONE)
    return lit  # type: ignore[no-any-return]


def _noisy(rgb: Picture, largest: float, rng: np.random.Generator) -> Picture:
    if rgb.size > len(_NOISE):  # a picture of more than 2 megapixels
        noise = np.resize(_NOISE, rgb.shape)
    else:
        first = int(rng.integers(len(_NOISE) - rgb.size + 1))
        noise = _NOISE[first : first + rgb.size].reshape(rgb.shape)
    factor = 255 * rng.uniform(0, largest) / _NOISE_STD
    noisy: Any = cv2.addWeighted(rgb, 1, noise, factor, -128 * factor)
    return noisy  # type: ignore[no-any-return]
