"""Watches a running bringup: figures from /diagnostics, the state, the episode; records a video and an overview.

In: the topics of the nodes. Out: `overlay.mp4`, growing while it runs, and `overview.png` of moments and joints.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.task import Future
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import SetBool, Trigger

from maskact_ros.control.follower import FollowerState
from maskact_ros.images import mask_from_message, rgb_from_message
from maskact_ros.nodes.messages import stamp_to_ns, state_from_message
from maskact_ros.nodes.newest import NewestWorker
from maskact_ros.overlay import class_colours, overlay
from maskact_ros.sim.scene import CLASS_NAMES

MOMENTS = 6  # columns of the overview
MOMENT_EVERY_NS = 500_000_000
MILLISECOND = Fraction(1, 1000)


@dataclass(frozen=True, eq=False)
class Moment:
    """One column of the overview, at a third of the camera's size."""

    stamp_ns: int
    rgb: NDArray[np.uint8]  # (h, w, 3)
    labels: NDArray[np.uint8]  # (h, w)
    overlay: NDArray[np.uint8]  # (h, w, 3)


class Observer(Node):  # type: ignore[misc]
    """A plain node beside the others; with `true_masks` it shows the simulation's masks instead of the policy's."""

    def __init__(self, out: Path, *, true_masks: bool) -> None:
        super().__init__("demo", namespace="/maskact")
        self.recording = False  # video, moments and joints
        self.state = FollowerState()
        self.episode: dict[str, Any] = {"number": 0, "success": False}
        self._first: dict[str, tuple[int, dict[str, str]]] = {}  # node -> (stamp, values) of its first report
        self._last: dict[str, tuple[int, dict[str, str]]] = {}
        self._images: dict[int, NDArray[np.uint8]] = {}  # the last few, by stamp, until their mask comes
        self._moments: list[Moment] = []
        self._measured: list[tuple[int, list[float]]] = []
        self._commanded: list[tuple[int, list[float]]] = []
        self._joint_names: list[str] = []
        self._video = _Video(out / "overlay.mp4")
        self._worker = NewestWorker(self._record, name="record")
        newest = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._receive_diagnostics, 20)
        self.create_subscription(String, "state", self._receive_state, latched)
        self.create_subscription(String, "episode", self._receive_episode, latched)
        self.create_subscription(Image, "image_raw", self._receive_image, newest)
        self.create_subscription(Image, "mask_truth" if true_masks else "mask", self._receive_mask, newest)
        self.create_subscription(JointState, "joint_states", self._receive_joints, newest)
        self.create_subscription(Float64MultiArray, "command", self._receive_command, newest)
        self._enable = self.create_client(SetBool, "action_publisher/enable")
        self._reset = self.create_client(Trigger, "sim_robot/reset")

    def active(self) -> set[str]:
        """The names of the nodes that say they are active."""
        return {name for name, (_, values) in self._last.items() if values.get("state") == "active"}

    def figure(self, node: str, key: str) -> float:
        """A figure of a node's last report; 0 where it has none yet."""
        return float(self._last.get(node, (0, {}))[1].get(key, 0.0))

    def mean_rate_hz(self, node: str, event: str) -> float:
        """Mean rate of an event between a node's first report of it and the last."""
        if node not in self._last:
            return 0.0
        (began_ns, first), (ended_ns, last) = self._first[f"{node} {event}"], self._last[node]
        key = f"{event}_total"
        span_s = (ended_ns - began_ns) / 1e9
        return round((float(last[key]) - float(first[key])) / span_s, 2) if span_s > 0 else 0.0

    def enable(self, on: bool) -> Future:
        """Ask the action publisher to begin or to end motion."""
        return self._enable.call_async(SetBool.Request(data=on))

    def reset_simulation(self) -> Future:
        """Ask for the next episode."""
        return self._reset.call_async(Trigger.Request())

    def close(self) -> None:
        """Finish the video."""
        self._worker.stop()
        self._video.close()
        self.destroy_node()

    def draw_overview(self, path: Path) -> None:
        """Moments above (camera, mask, overlay), measured and commanded joints below."""
        from matplotlib.figure import Figure

        chosen = [self._moments[i] for i in _spread(len(self._moments), MOMENTS)]
        figure = Figure(figsize=(2.6 * MOMENTS, 10.5), dpi=100, layout="constrained")
        pictures, traces = figure.subfigures(2, 1, squeeze=False, height_ratios=(6, 4.5)).ravel()
        start_ns = self._measured[0][0] if self._measured else 0
        axes = pictures.subplots(3, MOMENTS, squeeze=False)
        for row, name in enumerate(("camera", "mask", "overlay")):
            for column in range(MOMENTS):
                axis = axes[row, column]
                axis.set_xticks([])
                axis.set_yticks([])
                if column >= len(chosen):
                    axis.set_visible(False)
                    continue
                moment = chosen[column]
                if row == 0:
                    axis.set_title(f"{(moment.stamp_ns - start_ns) / 1e9:.1f} s", fontsize=9)
                    axis.imshow(moment.rgb)
                elif row == 1:
                    axis.imshow(_coloured(moment.labels))
                else:
                    axis.imshow(moment.overlay)
                if column == 0:
                    axis.set_ylabel(name)
        self._draw_joints(traces, start_ns)
        figure.savefig(path)

    def _draw_joints(self, figure: Any, start_ns: int) -> None:
        axes = figure.subplots(2, 4, sharex=True).ravel()
        for joint, name in enumerate(self._joint_names[:8]):
            for samples, style, label in ((self._commanded, "C1-", "commanded"), (self._measured, "C0-", "measured")):
                times_s = [(stamp_ns - start_ns) / 1e9 for stamp_ns, _ in samples]
                axes[joint].plot(times_s, [values[joint] for _, values in samples], style, label=label, linewidth=0.9)
            axes[joint].set_title(name, fontsize=9)
            axes[joint].tick_params(labelsize=8)
        for axis in axes[len(self._joint_names) :]:
            axis.set_axis_off()
        axes[0].legend(fontsize=8)
        figure.supxlabel("seconds", fontsize=9)
        figure.supylabel("rad (gripper: m)", fontsize=9)

    def _receive_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            name = status.name.rsplit("/", 1)[-1]
            report = stamp_to_ns(message.header.stamp), {item.key: item.value for item in status.values}
            self._last[name] = report
            for key in report[1]:
                if key.endswith("_total"):
                    self._first.setdefault(f"{name} {key.removesuffix('_total')}", report)

    def _receive_state(self, message: String) -> None:
        self.state = state_from_message(message)

    def _receive_episode(self, message: String) -> None:
        self.episode = json.loads(message.data)

    def _receive_image(self, message: Image) -> None:
        self._images[stamp_to_ns(message.header.stamp)] = rgb_from_message(message)
        while len(self._images) > 30:
            self._images.pop(next(iter(self._images)))

    def _receive_mask(self, message: Image) -> None:
        stamp_ns = stamp_to_ns(message.header.stamp)
        rgb = self._images.get(stamp_ns)
        if self.recording and rgb is not None:
            self._worker.put((stamp_ns, rgb, mask_from_message(message)))

    def _receive_joints(self, message: JointState) -> None:
        self._joint_names = list(message.name)
        if self.recording:
            self._measured.append((stamp_to_ns(message.header.stamp), list(message.position)))

    def _receive_command(self, message: Float64MultiArray) -> None:
        if self.recording:
            self._commanded.append((self.get_clock().now().nanoseconds, list(message.data)))

    def _record(self, item: tuple[int, NDArray[np.uint8], NDArray[np.uint8]]) -> None:
        """One frame of the video and, now and then, a moment; in the worker's thread."""
        stamp_ns, rgb, labels = item
        picture = overlay(rgb, labels, CLASS_NAMES, alpha=0.45)
        self._video.add(stamp_ns, picture)
        if not self._moments or stamp_ns - self._moments[-1].stamp_ns >= MOMENT_EVERY_NS:
            size = (rgb.shape[1] // 2, rgb.shape[0] // 2)
            small = [cv2.resize(p, size, interpolation=cv2.INTER_AREA).astype(np.uint8) for p in (rgb, picture)]
            nearest = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST).astype(np.uint8)
            self._moments.append(Moment(stamp_ns, small[0], nearest, small[1]))


class _Video:
    """An H.264 file whose frames are shown when they were captured."""

    def __init__(self, path: Path) -> None:
        self._container = av.open(str(path), mode="w")
        self._stream: Any = None
        self._start_ns = 0
        self._last_ms = -1

    def add(self, stamp_ns: int, rgb: NDArray[np.uint8]) -> None:
        """Append a frame; one that is not newer than the last is left out."""
        if self._stream is None:
            self._start_ns = stamp_ns
            self._stream = self._container.add_stream("libx264", rate=30, options={"preset": "veryfast", "crf": "23"})
            self._stream.height, self._stream.width = rgb.shape[:2]
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = MILLISECOND
        at_ms = (stamp_ns - self._start_ns) // 1_000_000
        if at_ms <= self._last_ms:
            return
        self._last_ms = at_ms
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
        frame.pts, frame.time_base = at_ms, MILLISECOND
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what is still in the encoder, and the index."""
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()


def _coloured(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels (h, w) in the overlay's colours (h, w, 3), background black."""
    colours = np.vstack([np.zeros((1, 3), np.uint8), class_colours(max(1, int(labels.max())))])
    picture: NDArray[np.uint8] = colours[labels]
    return picture


def _spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` indices, evenly over `count`."""
    return sorted({round(x) for x in np.linspace(0, count - 1, min(count, wanted))}) if count else []
