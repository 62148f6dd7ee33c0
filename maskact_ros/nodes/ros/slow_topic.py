"""A topic with few messages: it is polled about twenty times a second, however many messages are sent on it.

In: a topic and a callback. Out: calls of the callback, a few messages a turn, in the executor's thread. A message that
is too large or cannot be parsed is refused in one sentence. Messages that there is no time for are counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rclpy.qos import QoSProfile

from maskact_ros.nodes.ros.control_cdr import deserialized
from maskact_ros.nodes.ros.messages import MessageError
from maskact_ros.nodes.ros.polled import MOST_BYTES, PolledSubscription

if TYPE_CHECKING:
    from maskact_ros.nodes.ros.managed import ManagedNode

EVERY_S = 0.05


class SlowTopic:
    """Calls `receive` with each message that there is time for, in one turn at most as many as the queue holds."""

    def __init__(
        self,
        node: ManagedNode,
        kind: type,
        topic: str,
        receive: Callable[[Any], None],
        qos: QoSProfile,
        *,
        most_bytes: int = MOST_BYTES,
    ):
        self._node, self._kind, self._receive = node, kind, receive
        self._topic = topic.rsplit("/", 1)[-1]  # for reports: the name without namespace and before remapping
        self._turns = range(qos.depth)
        self._polled = PolledSubscription(node, kind, topic, qos, most_bytes=most_bytes, share=node.STRANGERS_SHARE)
        self._timer = node.create_steady_timer(EVERY_S, self._hear)

    def destroy(self) -> None:
        """Destroy timer and subscription."""
        self._node.destroy_timer(self._timer)
        self._polled.destroy()

    def _hear(self) -> None:
        diagnostics = self._node.diagnostics
        for _ in self._turns:
            try:
                heard = self._polled.read(lambda data: deserialized(data, self._kind))
            except MessageError as error:
                diagnostics.problem(f"{self._topic} refused", f"{self._topic} is refused: {error}")
                continue
            if heard is None:
                break
            diagnostics.solved(f"{self._topic} refused")
            self._receive(heard[0])
        if self._polled.skipped:
            diagnostics.count(f"{self._topic}_skipped", self._polled.skipped)
            self._polled.skipped = 0
