"""A polled subscription: its owner takes messages when it needs them, without callbacks.

It does not wake the executor: rclpy's takes 1 ms or more for each message on a busy machine, and joint states can come
at 1 kHz. It also limits what strangers can cause: a message with too many bytes is refused before it is parsed, and
after a message that took long the topic is not read for a while (it "rests").
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile

from maskact_ros.nodes.ros.messages import MessageError

MOST_BYTES = 65_536  # of a message, unless its reader sets another limit: 600 joints with velocities and efforts
SHORT_S = 0.5e-3  # after a message that took no longer than this, the topic need not rest
_MOST_SENDERS = 100  # senders whose messages are counted separately

Read = TypeVar("Read")


class _Nobody(CallbackGroup):  # type: ignore[misc]
    """A callback group whose entities no executor serves."""

    def can_execute(self, entity: object) -> bool:
        """Never."""
        return False

    def beginning_execution(self, entity: object) -> bool:
        """Never."""
        return False

    def ending_execution(self, entity: object) -> None:
        """Do nothing, as no execution ever begins."""


class PolledSubscription:
    """The messages of a topic as bytes. Each has at most `most_bytes`; reading takes at most `share` of the time."""

    def __init__(
        self,
        node: Node,
        kind: type,
        topic: str,
        qos: QoSProfile,
        *,
        most_bytes: int = MOST_BYTES,
        share: float = 1.0,
    ):
        self._node, self._kind = node, kind
        self._most_bytes, self._share = most_bytes, share
        self._rests_until_s = 0.0
        self._numbers: dict[bytes, int] = {}  # sender -> sequence number of its last message taken
        self.number = 0  # sequence number of the last message taken, of any sender
        self.came_ns = 0  # when that message came, by the system's clock
        self.skipped = 0  # messages that a newer one replaced before they were taken
        self._subscription = node.create_subscription(
            kind, topic, lambda _: None, qos, callback_group=_Nobody(), raw=True
        )

    def destroy(self) -> None:
        """Destroy the subscription."""
        self._node.destroy_subscription(self._subscription)

    @property
    def rests(self) -> bool:
        """Whether `read` takes no message now, because the topic has used its share of the time."""
        return time.monotonic() < self._rests_until_s

    def take(self) -> tuple[bytes, int] | None:
        """The next message, and its age since receipt in ns by the system's clock; None if no message is waiting.

        Raises:
            MessageError: it has too many bytes.
        """
        with self._subscription.handle:
            taken = self._subscription.handle.take_message(self._kind, True)
        if taken is None:
            return None
        data, about = taken
        self.came_ns = about["received_timestamp"]
        self._count(about)
        if len(data) > self._most_bytes:
            raise MessageError(f"the message has {len(data)} bytes; allowed: at most {self._most_bytes}")
        return data, max(0, time.time_ns() - self.came_ns)

    def read(self, parse: Callable[[bytes], Read]) -> tuple[Read, int] | None:
        """The result of `parse` for the next message, and its age as `take` gives it; None also while the topic rests.

        Raises:
            MaskACTError: as `take` and `parse` do.
        """
        if self.rests:
            return None
        began_s = time.thread_time()  # this clock stops while the thread has to wait
        try:
            taken = self.take()
            return None if taken is None else (parse(taken[0]), taken[1])
        finally:
            took_s = time.thread_time() - began_s
            if took_s > SHORT_S and self._share < 1.0:
                self._rests_until_s = time.monotonic() + took_s / self._share

    def _count(self, about: dict) -> None:  # type: ignore[type-arg]  # rclpy's own
        """Count the messages that came before this one and were not taken, by its sequence number."""
        self.number = about["publication_sequence_number"]
        known = "publisher_gid" in about  # only some ROS distributions have it
        if not known and self._subscription.get_publisher_count() > 1:
            return
        sender = bytes(about["publisher_gid"]["data"]) if known else b""
        before = self._numbers.pop(sender, None)
        self._numbers[sender] = self.number
        if before is not None and self.number > before:
            self.skipped += self.number - before - 1
        elif len(self._numbers) > _MOST_SENDERS:
            del self._numbers[next(iter(self._numbers))]
