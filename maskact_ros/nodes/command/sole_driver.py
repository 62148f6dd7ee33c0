"""Finds other action publishers of the same command topic. Each announces itself twice a second on `<topic>/driver`.

In: a topic that only one node may drive. Out: the number of other nodes that drive it, within half a second.
"""

from __future__ import annotations

import math
import re
import time
import uuid
from collections.abc import Callable

from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from std_msgs.msg import String

from maskact_ros.nodes.ros.managed import ManagedNode
from maskact_ros.nodes.ros.peers import BEAT_S
from maskact_ros.nodes.ros.slow_topic import SlowTopic

SILENT_S = 3 * BEAT_S  # a driver that is silent for longer has ended
MOST_OTHERS = 100  # drivers that are counted; more are ignored
_DRIVER = re.compile(r"\d{20} [0-9a-f]{32}", re.ASCII)  # when it began, in ns, and a random identifier
_LATCHED = QoSProfile(depth=10, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)  # a new node gets it on discovery


class SoleDriver:
    """Detects other nodes that drive a topic, through the topic `<topic>/driver`, on which each of them publishes.

    `give_way` is called, in the executor's thread, when a node appears that began earlier. So of two drivers always the
    earlier one continues, whenever they discover each other.
    """

    def __init__(self, node: ManagedNode, topic: str, give_way: Callable[[], None]):
        self._node, self._give_way = node, give_way
        self._own = String(data=f"{time.time_ns():020} {uuid.uuid4().hex}")  # the earlier one sorts first
        self._heard_s: dict[str, float] = {}  # when each other driver was last heard, on the steady clock
        self._publisher = node.create_publisher(String, f"{topic}/driver", _LATCHED)
        self._subscription = SlowTopic(node, String, f"{topic}/driver", self._hear, _LATCHED)
        self._timer = node.create_steady_timer(BEAT_S, self._beat)
        self._beat()

    @property
    def others(self) -> int:
        """The number of other drivers."""
        now_s = time.monotonic()
        return sum(now_s - heard_s < SILENT_S for heard_s in self._heard_s.values())

    def destroy(self) -> None:
        """Destroy publisher and subscription."""
        self._subscription.destroy()
        self._node.destroy_publisher(self._publisher)
        self._node.destroy_timer(self._timer)

    def _beat(self) -> None:
        self._publisher.publish(self._own)

    def _hear(self, message: String) -> None:
        if message.data == self._own.data:
            return
        now_s = time.monotonic()
        if not _DRIVER.fullmatch(message.data):
            self._node.diagnostics.count("drivers_refused")
            return
        if message.data not in self._heard_s:
            self._heard_s = {name: at_s for name, at_s in self._heard_s.items() if now_s - at_s < SILENT_S}
            if len(self._heard_s) == MOST_OTHERS:
                return
        appears = now_s - self._heard_s.get(message.data, -math.inf) >= SILENT_S
        self._heard_s[message.data] = now_s
        if appears and message.data < self._own.data:
            self._give_way()
