"""The overlay: a camera's picture under the colours of its mask, with outlines and a legend.

In: RGB uint8 (H, W, 3), class ids uint8 (H, W) and class names. Out: RGB uint8 (H, W, 3).
Colours are those of Okabe and Ito, which the colour-blind can tell apart (jfly.uni-koeln.de/color); class 0 has none.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

OKABE_ITO = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
UNKNOWN = (0, 0, 0)  # the eighth of them: labels that have no name
INK = (255, 255, 255)
FONT = cv2.FONT_HERSHEY_SIMPLEX
PANEL_OPACITY = 0.65
SMALLEST_LETTER = 7  # pixels; below, nobody can read it

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Legend:
    """Where the legend's lines go, in pixels."""

    lines: tuple[tuple[str, Colour | None], ...]  # text, and the colour of the swatch before it
    width: int
    height: int
    letter: int  # height of a capital
    pitch: int  # from one line to the next


def overlay(
    rgb: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    class_names: Sequence[str],
    *,
    alpha: float,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """The picture (H, W, 3) with the classes of `labels` (H, W) laid over it, `alpha` of 0 to 1 thick.

    Written to `out` where given: (H, W, 3), contiguous, and not `rgb` itself.
    """
    assert rgb.shape[:2] == labels.shape
    out = np.empty_like(rgb) if out is None else out
    colours = cv2.merge([cv2.LUT(labels, channel) for channel in _tables(len(class_names))])  # (H, W, 3)

    cv2.addWeighted(rgb, 1.0 - alpha, colours, alpha, 0.0, dst=out)
    cv2.copyTo(rgb, (labels == 0).view(np.uint8), out)
    cv2.copyTo(colours, _outlines(labels), out)

    unknown = int(labels.max()) >= len(class_names)
    _draw(_legend(tuple(class_names[1:]), unknown, *labels.shape), out)
    return out


@lru_cache
def class_colours(count: int) -> NDArray[np.uint8]:
    """Colours (count, 3) of the classes 1, 2, …: Okabe and Ito's, then those that differ most from all before.

    Difference is distance in CIELAB. Read-only.
    """
    steps = np.linspace(0, 255, 8)
    candidates = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)  # (512, 3)
    taken = np.array([*OKABE_ITO, UNKNOWN, INK])
    distance = np.linalg.norm(_lab(candidates)[:, None] - _lab(taken), axis=2).min(axis=1)  # (512,)
    colours = list(OKABE_ITO)
    while len(colours) < count:
        farthest = candidates[distance.argmax()]
        colours.append(tuple(np.rint(farthest).astype(int)))
        distance = np.minimum(distance, np.linalg.norm(_lab(candidates) - _lab(farthest[None]), axis=1))
    result = np.array(colours[:count], np.uint8).reshape(-1, 3)
    result.flags.writeable = False
    return result


def _lab(rgb: NDArray[np.float64]) -> NDArray[np.float32]:
    lab: NDArray[np.float32] = cv2.cvtColor((rgb[None] / 255).astype(np.float32), cv2.COLOR_RGB2LAB)[0]
    return lab


@lru_cache
def _tables(classes: int) -> NDArray[np.uint8]:
    """Red, green and blue of each label (3, 256); those of 0 are not used."""
    colours = np.full((256, 3), UNKNOWN, np.uint8)
    colours[1:classes] = class_colours(max(0, classes - 1))
    return np.ascontiguousarray(colours.T)


def _outlines(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Not 0 where a class other than the background ends (H, W)."""
    reach = max(1, round(min(labels.shape) / 300))
    square = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    edge: NDArray[np.bool_] = (cv2.dilate(labels, square) != cv2.erode(labels, square)) & (labels > 0)
    return edge.view(np.uint8)


@lru_cache
def _legend(names: tuple[str, ...], unknown: bool, height: int, width: int) -> Legend:
    """A legend of at most half the height and half the width: letters shrink, then lines go, at last all."""
    colours: list[Colour] = [tuple(colour) for colour in class_colours(len(names)).tolist()]
    lines: list[tuple[str, Colour | None]] = [
        (_drawable(name, label), colours[label - 1]) for label, name in enumerate(names, start=1)
    ]
    if unknown:
        lines.append(("unknown", UNKNOWN))
    letter = max(SMALLEST_LETTER, round(min(height, width) / 48) + 3)
    while letter > SMALLEST_LETTER and (len(lines) + 1) * _pitch(letter) > height // 2:
        letter -= 1
    room, text_room = height // 2 // _pitch(letter) - 1, width // 2 - 5 * letter
    if room < 1 or text_room < 3 * letter:
        lines = []
    elif room < len(lines):
        lines = [*lines[: room - 1], (f"+ {len(lines) - room + 1} more", None)]
    lines = [(_shortened(text, letter, text_room), colour) for text, colour in lines]
    return Legend(
        lines=tuple(lines),
        width=max((_text_width(text, letter) for text, _ in lines), default=0) + 4 * letter,
        height=len(lines) * _pitch(letter) + letter,
        letter=letter,
        pitch=_pitch(letter),
    )


def _draw(legend: Legend, out: NDArray[np.uint8]) -> None:
    if not legend.lines:
        return
    letter = legend.letter
    margin = letter // 2
    panel = out[margin : margin + legend.height, margin : margin + legend.width]
    panel[:] = cv2.convertScaleAbs(panel, alpha=1 - PANEL_OPACITY)
    scale, thickness = _font(letter)
    for line, (text, colour) in enumerate(legend.lines):
        base = margin + letter // 2 + (line + 1) * legend.pitch - (legend.pitch - letter) // 2
        left = margin + letter
        if colour is not None:
            cv2.rectangle(out, (left, base - letter), (left + letter, base), colour, cv2.FILLED)
            cv2.rectangle(out, (left, base - letter), (left + letter, base), INK, 1)
        cv2.putText(out, text, (left + 2 * letter, base), FONT, scale, INK, thickness, cv2.LINE_AA)


def _pitch(letter: int) -> int:
    return letter * 9 // 5


def _font(letter: int) -> tuple[float, int]:
    """OpenCV's scale and thickness of capitals that are `letter` pixels high."""
    return letter / 21, max(1, round(letter / 11))


def _text_width(text: str, letter: int) -> int:
    (width, _), _ = cv2.getTextSize(text, FONT, *_font(letter))
    return width


def _drawable(name: str, label: int) -> str:
    """The name in ASCII, all that OpenCV's font has; accents go, and a name in another script gives its number."""
    text = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return text if text.strip() else f"class {label}"


def _shortened(text: str, letter: int, room: int) -> str:
    if _text_width(text, letter) <= room:
        return text
    while text and _text_width(text + "...", letter) > room:
        text = text[:-1]
    return text + "..."
