"""Watches a running bringup, and calls its services: figures from /diagnostics, state, episode; enable and reset.

In: the topics of the nodes. Out: their reports; on request pictures and joints for a film, or the policy's masks with
the true ones. It subscribes to pictures only on request, because the nodes need time to make them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.client import Client
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.task import Future
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import SetBool, Trigger

from maskact_ros.control.ladder import FollowerState
from maskact_ros.core.images import mask_from_message, rgb_from_message
from maskact_ros.nodes.ros.latest_worker import NewestWorker
from maskact_ros.nodes.ros.messages import stamp_to_ns, state_from_message
from maskact_ros.tools.demo_pictures import Film

IMAGES_KEPT = 30  # images that wait for their mask

Labels = NDArray[np.uint8]  # (H, W)
Ask = Callable[[], AbstractContextManager[Future]]  # sends a request


class Observer(Node):  # type: ignore[misc]
    """A plain node that runs beside the bringup's nodes."""

    def __init__(self) -> None:
        super().__init__("demo", namespace="/maskact")
        self._film: Film | None = None
        self._compare: Callable[[Labels, Labels], None] | None = None
        self.state = FollowerState()
        self.episode: dict[str, Any] = {"number": 0, "success": False}
        self._first: dict[str, tuple[int, dict[str, str]]] = {}  # "node event" -> its first report: stamp, values
        self._last: dict[str, tuple[int, dict[str, str]]] = {}  # node -> its last report
        self._images: dict[int, NDArray[np.uint8]] = {}  # by stamp
        self._truths: dict[int, Labels] = {}  # by stamp
        self._worker = NewestWorker(self._expose, name="film")
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._receive_diagnostics, 20)
        self.create_subscription(String, "state", self._receive_state, latched)
        self.create_subscription(String, "episode", self._receive_episode, latched)
        self._enable = self.create_client(SetBool, "action_publisher/enable")
        self._reset = self.create_client(Trigger, "sim_robot/reset")
        self._clear = self.create_client(Trigger, "action_publisher/reset")

    def active(self) -> set[str]:
        """The names of the nodes that report to be active."""
        return {name for name, (_, values) in self._last.items() if values.get("state") == "active"}

    def figure(self, node: str, key: str) -> float:
        """A figure of a node's last report; 0 if there is none yet."""
        return float(self._last.get(node, (0, {}))[1].get(key, 0.0))

    def mean_rate_hz(self, node: str, event: str) -> float:
        """Mean rate of an event between a node's first and last report of it; 0 if there are not two."""
        began_ns, first = self._first.get(f"{node} {event}", (0, {}))
        ended_ns, last = self._last.get(node, (0, {}))
        if began_ns == ended_ns or not first:
            return 0.0
        key = f"{event}_total"
        return round((float(last[key]) - float(first[key])) / (ended_ns - began_ns) * 1e9, 2)

    def enable(self) -> AbstractContextManager[Future]:
        """Ask the action publisher to begin motion; wait for the answer within the `with` block."""
        return _asked(self._enable, SetBool.Request(data=True))

    def disable(self) -> AbstractContextManager[Future]:
        """Ask the action publisher to end motion."""
        return _asked(self._enable, SetBool.Request(data=False))

    def clear_fault(self) -> AbstractContextManager[Future]:
        """Ask the action publisher to clear its fault."""
        return _asked(self._clear, Trigger.Request())

    def reset_simulation(self) -> AbstractContextManager[Future]:
        """Ask for the next episode."""
        return _asked(self._reset, Trigger.Request())

    def film(self, film: Film, *, true_masks: bool) -> None:
        """Give pictures, joints and commands to `film`; with `true_masks` the simulation's masks, not the policy's."""
        self._film = film
        every = _best_effort(depth=200)
        self.create_subscription(Image, "image_raw", self._receive_image, _best_effort(depth=1))
        self.create_subscription(
            Image, "mask_truth" if true_masks else "mask", self._receive_mask, _best_effort(depth=1)
        )
        self.create_subscription(JointState, "joint_states", self._receive_joints, every)
        self.create_subscription(Float64MultiArray, "command", self._receive_command, every)

    def compare_masks(self, compare: Callable[[Labels, Labels], None]) -> None:
        """Call `compare` with the policy's mask and the true one, for each true mask of the simulation."""
        self._compare = compare
        self.create_subscription(Image, "mask", self._receive_mask, _best_effort(depth=1))
        self.create_subscription(Image, "mask_truth", self._receive_truth, _best_effort(depth=10))

    def close(self) -> None:
        """Stop watching."""
        self._worker.stop()
        self.destroy_node()

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
        while len(self._images) > IMAGES_KEPT:
            self._images.pop(next(iter(self._images)))

    def _receive_truth(self, message: Image) -> None:
        self._truths[stamp_to_ns(message.header.stamp)] = mask_from_message(message)
        while len(self._truths) > IMAGES_KEPT:
            self._truths.pop(next(iter(self._truths)))

    def _receive_mask(self, message: Image) -> None:
        stamp_ns = stamp_to_ns(message.header.stamp)
        rgb, truth = self._images.get(stamp_ns), self._truths.get(stamp_ns)
        if self._film is not None and rgb is not None:
            self._worker.put((stamp_ns, rgb, mask_from_message(message)))
        if self._compare is not None and truth is not None:
            self._compare(mask_from_message(message), truth)

    def _expose(self, item: tuple[int, NDArray[np.uint8], NDArray[np.uint8]]) -> None:
        if self._film is not None:
            self._film.add_picture(*item)

    def _receive_joints(self, message: JointState) -> None:
        if self._film is not None:
            self._film.joint_names = list(message.name)
            self._film.measured.add(stamp_to_ns(message.header.stamp), message.position)

    def _receive_command(self, message: Float64MultiArray, info: Mapping[str, int]) -> None:
        if self._film is not None:
            self._film.commanded.add(info["source_timestamp"], message.data)  # the time of sending, not of receipt


@contextmanager
def _asked(client: Client, request: Any) -> Iterator[Future]:
    answer = client.call_async(request)
    try:
        yield answer
    finally:
        client.remove_pending_request(answer)  # else a lost request would be kept for ever


def _best_effort(*, depth: int) -> QoSProfile:
    return QoSProfile(depth=depth, reliability=QoSReliabilityPolicy.BEST_EFFORT)
