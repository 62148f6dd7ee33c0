"""A subscription that is asked instead of answered: who wants the newest message takes it, when it suits.

The executor neither waits for it nor is woken by it. rclpy's takes a millisecond or more for each message on a busy
machine, and joint states can come a thousand times a second.
"""

from __future__ import annotations

import time

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile


class _Nobody(CallbackGroup):  # type: ignore[misc]
    """Whose entities no executor may serve."""

    def can_execute(self, entity: object) -> bool:
        """Never."""
        return False

    def beginning_execution(self, entity: object) -> bool:
        """Never."""
        return False

    def ending_execution(self, entity: object) -> None:
        """It never began."""


class PolledSubscription:
    """Messages of a topic, as bytes."""

    def __init__(self, node: Node, kind: type, topic: str, qos: QoSProfile):
        self._node, self._kind = node, kind
        self._subscription = node.create_subscription(
            kind, topic, lambda _: None, qos, callback_group=_Nobody(), raw=True
        )

    def destroy(self) -> None:
        """Take it from the node."""
        self._node.destroy_subscription(self._subscription)

    def take(self) -> tuple[bytes, int] | None:
        """The next message, and how long ago it came, in ns by the system's clock; None if none has come."""
        with self._subscription.handle:
            taken = self._subscription.handle.take_message(self._kind, True)
        if taken is None:
            return None
        data, about = taken
        return data, max(0, time.time_ns() - about["received_timestamp"])
