"""Checks that chunks come from one planner only. Two planners would pull the arm to and fro, within the limits.

In: the publishing nodes of the topic, once a second, and the sequence numbers of chunks. Out: why no chunk is followed
now, or None. We cannot know which of two planners is the right one, so neither is followed: the arm comes to rest.
"""

from __future__ import annotations

import time
from collections import deque

from maskact_ros.core.errors import printable
from maskact_ros.nodes.ros.managed import ManagedNode
from maskact_ros.nodes.ros.publishers import publishing_nodes

LOOK_S = 1.0
TURNS_S = 2.0  # two planners of one name both send within this time


class SolePlanner:
    """Tells planners apart by node name, and two of one name by their sequence numbers, which rise in each of them."""

    def __init__(self, node: ManagedNode, topic: str):
        self._node, self._topic = node, node.resolve_topic_name(topic)
        self._names: tuple[str, ...] = ()
        self._number = 0
        self._back_s: deque[float] = deque(maxlen=2)  # when numbers last decreased; a restart causes one decrease only
        self._timer = node.create_steady_timer(LOOK_S, self.look)
        self.look()

    def destroy(self) -> None:
        """Stop looking."""
        self._node.destroy_timer(self._timer)

    def look(self) -> str | None:
        """Find the publishing nodes, in the executor's thread; returns `refusal`."""
        self._names = tuple(publishing_nodes(self._node, self._topic))
        return self.refusal

    def heard(self, number: int) -> str | None:
        """Note the sequence number of a received chunk, always in one and the same thread; returns `refusal`."""
        if number <= self._number:
            self._back_s.append(time.monotonic())
        self._number = number
        return self.refusal

    @property
    def refusal(self) -> str | None:
        """Why no chunk is followed now, or None."""
        names = self._names
        if len(names) > 1:
            shown = printable(", ".join(names), 300)
            return f"{len(names)} nodes send {self._topic}: {shown}; none is followed until one is left"
        if len(self._back_s) == 2 and self._back_s[0] > time.monotonic() - TURNS_S:
            shown = printable(", ".join(names) or "unknown", 300)
            return f"two nodes of one name ({shown}) send {self._topic}; neither is followed until one is left"
        return None
