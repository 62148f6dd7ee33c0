"""A topic on which a word is said now and then: heard some twenty times a second, whoever says how much on it.

In: a topic, and what to do with its messages. Out: that is done with a few messages a turn, in the executor's thread;
what is too large, or no such message, is refused in one sentence, and what there is no time for is counted.
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
    """Calls `receive` with each message that it has time for: as many in one turn as the subscription keeps."""

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
        self._topic = topic.rsplit("/", 1)[-1]  # as it is called here, wherever it is
        self._turns = range(qos.depth)
        self._polled = PolledSubscription(node, kind, topic, qos, most_bytes=most_bytes, share=node.STRANGERS_SHARE)
        self._timer = node.create_steady_timer(EVERY_S, self._hear)

    def destroy(self) -> None:
        """Hear no more."""
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
