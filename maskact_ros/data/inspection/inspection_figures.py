"""The pictures of `maskact inspect`: overlays of an episode, traces of its joints, lengths of all; as data URIs."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from maskact_ros.core.errors import drawable
from maskact_ros.core.overlay import OKABE_ITO, class_colours, overlay
from maskact_ros.data.datasets.dataset import Dataset, EpisodeInfo, Frame

_PICTURES, _WIDTH = 12, 320  # of a film: how many, and how wide in pixels
_ALPHA = 0.45
_BACKGROUND = "#d5d8dc"  # the colour of class 0 in figures; overlays leave it as it is
_STATE, _ACTION = ("#{:02x}{:02x}{:02x}".format(*OKABE_ITO[i]) for i in (4, 5))


@dataclass(frozen=True)
class Film:
    """An episode in a few overlays, and how much of each picture each class has."""

    pictures: tuple[tuple[float, str], ...]  # seconds from the episode's start, and a JPEG
    seconds: NDArray[np.float64]  # (P,), of the shares
    shares: NDArray[np.float64] | None  # (P, C); None without masks


def film(dataset: Dataset, episode: EpisodeInfo) -> Film:
    """Evenly spread pictures of an episode; raises DatasetError on a damaged one."""
    wanted = set(np.linspace(0, episode.length - 1, _PICTURES).round().astype(int).tolist())
    every = max(1, episode.length // 100)
    pictures, seconds, shares = [], [], []
    for n, frame in enumerate(dataset.frames(episode.index)):
        if n in wanted:
            pictures.append((n / dataset.fps, _overlaid(dataset, frame)))
        if frame.mask is not None and dataset.mask_classes is not None and n % every == 0:
            counts = np.bincount(frame.mask.ravel(), minlength=len(dataset.mask_classes))
            seconds.append(n / dataset.fps)
            shares.append(counts[: len(dataset.mask_classes)] / frame.mask.size)
    return Film(tuple(pictures), np.array(seconds), np.array(shares) if shares else None)


def swatch(label: int, classes: int) -> str:
    """The colour of a class as CSS and matplotlib want it."""
    if label == 0:
        return _BACKGROUND
    return "#{:02x}{:02x}{:02x}".format(*class_colours(classes - 1)[label - 1].tolist())


def traces_figure(dataset: Dataset, episode: EpisodeInfo, shown: Film) -> str:
    """State and action of every joint over time, and the classes' shares below."""
    rows = slice(episode.start, episode.start + episode.length)
    seconds = np.arange(episode.length) / dataset.fps
    joints = dataset.robot.joint_names
    panels = len(joints) + (shown.shares is not None)
    figure = Figure(figsize=(7.5, 0.5 + 0.85 * panels), layout="constrained")
    axes: list[Axes] = list(np.atleast_1d(figure.subplots(panels, 1, sharex=True)))
    for j, (axis, name) in enumerate(zip(axes, joints, strict=False)):
        axis.plot(seconds, dataset.states[rows, j], color=_STATE, linewidth=1.3, label="state")
        axis.plot(
            seconds + 1 / dataset.fps,
            dataset.actions[rows, j],
            color=_ACTION,
            linewidth=1,
            linestyle="--",
            label="action",
        )
        axis.set_ylabel(drawable(name), rotation=0, ha="right", va="center", fontsize=9)
    if shown.shares is not None and dataset.mask_classes is not None:
        colours = [swatch(label, len(dataset.mask_classes)) for label in range(1, len(dataset.mask_classes))]
        axes[-1].stackplot(shown.seconds, shown.shares[:, 1:].T * 100, colors=colours)
        axes[-1].set_ylabel("mask, %", rotation=0, ha="right", va="center", fontsize=9)
    for axis in axes:
        axis.tick_params(labelsize=8)
        axis.margins(x=0)
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", fontsize=8, frameon=False, ncols=2)
    axes[-1].set_xlabel("seconds", fontsize=9)
    return _svg(figure)


def lengths_figure(dataset: Dataset) -> str:
    """How long each episode is."""
    figure = Figure(figsize=(11, 1.6), layout="constrained")
    axis = figure.subplots()
    lengths_s = [episode.length / dataset.fps for episode in dataset.episodes]
    axis.stairs(lengths_s, np.arange(len(lengths_s) + 1) - 0.5, fill=True, color=_STATE)
    axis.set_ylabel("seconds", fontsize=9)
    axis.set_xlabel("episode", fontsize=9)
    axis.tick_params(labelsize=8)
    axis.margins(x=0)
    axis.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def _overlaid(dataset: Dataset, frame: Frame) -> str:
    height, width = frame.rgb.shape[:2]
    size = (min(_WIDTH, width), round(height * min(_WIDTH, width) / width))
    picture = cv2.resize(frame.rgb, size, interpolation=cv2.INTER_AREA)
    if frame.mask is not None and dataset.mask_classes is not None:
        mask = cv2.resize(frame.mask, size, interpolation=cv2.INTER_NEAREST)
        picture = overlay(
            np.ascontiguousarray(picture, np.uint8),
            np.ascontiguousarray(mask, np.uint8),
            dataset.mask_classes,
            alpha=_ALPHA,
        )
    content = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 72])[1]
    return _uri("image/jpeg", content.tobytes())


def _svg(figure: Figure) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="svg")
    return _uri("image/svg+xml", content.getvalue())


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
