"""The pictures of a demonstration: a video of overlays, and an overview of moments and joints.

In: pictures with their masks, joint positions, commands. Out: `overlay.mp4` and `overview.png`, if a picture came.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.errors import drawable
from maskact_ros.core.outputs import MARK, replaced_file, save_figure
from maskact_ros.core.overlay import class_colours, overlay

VIDEO, OVERVIEW = "overlay.mp4", "overview.png"
MOMENTS = 6  # columns of the overview
MOMENT_EVERY_NS = 500_000_000
ALPHA = 0.45  # of the overlay
GAP_NS = 300_000_000  # a trace is interrupted at a longer silence
JUMP = 0.15  # rad or m; a trace is interrupted at a larger step: the simulation has moved the arm
MILLISECOND = Fraction(1, 1000)


@dataclass(frozen=True, eq=False)
class Moment:
    """One column of the overview, at half of the camera's size."""

    stamp_ns: int
    rgb: NDArray[np.uint8]  # (h, w, 3)
    labels: NDArray[np.uint8]  # (h, w)
    overlay: NDArray[np.uint8]  # (h, w, 3)


class Trace:
    """Joint positions over time."""

    def __init__(self) -> None:
        self._times_ns: list[int] = []
        self._values: list[Sequence[float]] = []

    def add(self, stamp_ns: int, positions: Sequence[float]) -> None:
        """Add positions; the trace has a gap where they do not continue the last ones."""
        if self._times_ns:
            leap = max(abs(new - old) for new, old in zip(positions, self._values[-1], strict=True))
            if leap > JUMP or stamp_ns - self._times_ns[-1] > GAP_NS:
                self._times_ns.append(stamp_ns)
                self._values.append([float("nan")] * len(positions))
        self._times_ns.append(stamp_ns)
        self._values.append(positions)

    def draw(self, axis: Any, joint: int, start_ns: int, style: str, label: str) -> None:
        """Plot one joint against the seconds since `start_ns`."""
        times_s = [(time_ns - start_ns) / 1e9 for time_ns in self._times_ns]
        axis.plot(times_s, [values[joint] for values in self._values], style, label=label, linewidth=0.9)


class Film:
    """Collects pictures and traces of a demonstration; `add_picture` may be called from another thread."""

    def __init__(self, out: Path, class_names: Sequence[str]) -> None:
        self._out = out
        self._class_names = class_names
        self._writing = ExitStack()  # holds the video's place until it is whole
        self._video: _Video | None = None
        self._moments: list[Moment] = []
        self.joint_names: Sequence[str] = ()
        self.measured = Trace()
        self.commanded = Trace()

    def add_picture(self, stamp_ns: int, rgb: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """One frame of the video and, now and then, a moment of the overview."""
        picture = overlay(rgb, labels, self._class_names, alpha=ALPHA)
        if self._video is None:
            partial = self._writing.enter_context(replaced_file(self._out / VIDEO, "a film"))
            self._video = _Video(partial, stamp_ns, rgb.shape[0], rgb.shape[1])
        self._video.add(stamp_ns, picture)
        if not self._moments or stamp_ns - self._moments[-1].stamp_ns >= MOMENT_EVERY_NS:
            size = (rgb.shape[1] // 2, rgb.shape[0] // 2)
            small = [cv2.resize(p, size, interpolation=cv2.INTER_AREA).astype(np.uint8) for p in (rgb, picture)]
            nearest = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST).astype(np.uint8)
            self._moments.append(Moment(stamp_ns, small[0], nearest, small[1]))

    def finish(self) -> list[Path]:
        """Close the video, draw the overview, and return the files written: none if no picture came."""
        if self._video is None:
            return []
        self._video.close()
        self._writing.close()
        self._draw(self._out / OVERVIEW)
        return [self._out / VIDEO, self._out / OVERVIEW]

    def _draw(self, path: Path) -> None:
        from matplotlib.figure import Figure  # not at the top: the import takes a second of the running nodes' CPU time

        figure = Figure(figsize=(2.6 * MOMENTS, 10.5), dpi=100, layout="constrained")
        pictures, traces = figure.subfigures(2, 1, squeeze=False, height_ratios=(6, 4.5)).ravel()
        start_ns = self._moments[0].stamp_ns
        self._draw_moments(pictures, start_ns)
        self._draw_joints(traces, start_ns)
        save_figure(figure, path)

    def _draw_moments(self, figure: Any, start_ns: int) -> None:
        axes = figure.subplots(3, MOMENTS, squeeze=False)
        for axis in axes.ravel():
            axis.set_axis_off()
        count = len(self._moments)
        chosen = sorted({round(x) for x in np.linspace(0, count - 1, min(count, MOMENTS))})
        for column, moment in zip(axes.T, (self._moments[i] for i in chosen), strict=False):
            pictures = {"camera": moment.rgb, "mask": _coloured(moment.labels), "overlay": moment.overlay}
            for axis, (name, picture) in zip(column, pictures.items(), strict=True):
                axis.imshow(picture)
                axis.set_title(name, fontsize=8, loc="left", pad=2)
            column[0].set_title(f"{(moment.stamp_ns - start_ns) / 1e9:.1f} s", fontsize=10)

    def _draw_joints(self, figure: Any, start_ns: int) -> None:
        axes = figure.subplots(2, 4, sharex=True).ravel()
        for joint, name in enumerate(self.joint_names[: len(axes)]):
            self.commanded.draw(axes[joint], joint, start_ns, "C1-", "commanded")
            self.measured.draw(axes[joint], joint, start_ns, "C0-", "measured")
            axes[joint].set_title(drawable(name), fontsize=9)
            axes[joint].tick_params(labelsize=8)
        for axis in axes[len(self.joint_names) :]:
            axis.set_axis_off()
        axes[0].legend(fontsize=8)
        figure.supxlabel("seconds", fontsize=9)
        figure.supylabel("rad (gripper: m)", fontsize=9)


class _Video:
    """An H.264 file whose frames have their capture times."""

    def __init__(self, path: Path, start_ns: int, height: int, width: int) -> None:
        self._start_ns, self._last_ms = start_ns, -1
        self._container = av.open(str(path), mode="w")
        self._container.metadata["comment"] = MARK
        self._stream: Any = self._container.add_stream(
            "libx264", rate=30, options={"preset": "veryfast", "crf": "23"}, height=height, width=width
        )
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = MILLISECOND

    def add(self, stamp_ns: int, rgb: NDArray[np.uint8]) -> None:
        """Append a frame, if it is newer than the last one."""
        at_ms = (stamp_ns - self._start_ns) // 1_000_000
        if at_ms <= self._last_ms:
            return
        self._last_ms = at_ms
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
        frame.pts, frame.time_base = at_ms, MILLISECOND
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write the encoder's remaining frames, and the index."""
        self._container.mux(self._stream.encode())
        self._container.close()


def _coloured(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels (h, w) in the overlay's colours (h, w, 3), background black."""
    colours = np.vstack([np.zeros((1, 3), np.uint8), class_colours(max(1, int(labels.max())))])
    picture: NDArray[np.uint8] = colours[labels]
    return picture
