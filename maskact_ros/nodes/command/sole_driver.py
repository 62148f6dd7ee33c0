"""Does another node drive the same topic? Each that does says so twice a second, on a topic beside it.

In: a topic that only one may drive. Out: how many others drive it, within half a second.
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

SILENT_S = 3 * BEAT_S  # who says nothing for so long does not drive any more
MOST_OTHERS = 100  # told apart; who drives besides is not noticed
_DRIVER = re.compile(r"\d{20} [0-9a-f]{32}", re.ASCII)  # when it began, in ns, and a number of its own
_LATCHED = QoSProfile(depth=10, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)  # a newcomer hears it when it finds us


class SoleDriver:
    """Tells whether another node drives a topic, too, by a topic beside it that each such node offers.

    `give_way` is called, in the executor's thread, when one appears that began before us, so that of two that meet, at
    whatever time, it is always the same one that goes on.
    """

    def __init__(self, node: ManagedNode, topic: str, give_way: Callable[[], None]):
        self._node, self._give_way = node, give_way
        self._own = String(data=f"{time.time_ns():020} {uuid.uuid4().hex}")  # the elder sorts first
        self._heard_s: dict[str, float] = {}  # the others, on the steady clock
        self._publisher = node.create_publisher(String, f"{topic}/driver", _LATCHED)
        self._subscription = SlowTopic(node, String, f"{topic}/driver", self._hear, _LATCHED)
        self._timer = node.create_steady_timer(BEAT_S, self._beat)
        self._beat()

    @property
    def others(self) -> int:
        """How many others there are."""
        now_s = time.monotonic()
        return sum(now_s - heard_s < SILENT_S for heard_s in self._heard_s.values())

    def destroy(self) -> None:
        """Stop offering and hearing."""
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
