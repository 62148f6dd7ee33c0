"""Do chunks come from one source only? Two that take turns would pull the arm to and fro, each within the limits.

In: who offers the topic, once a second, and the numbers under which chunks are sent. Out: why no chunk is to be
followed now, or None. Who of two is the right one cannot be known, so neither is followed: the arm comes to rest.
"""

from __future__ import annotations

import time
from collections import deque

from maskact_ros.core.errors import printable
from maskact_ros.nodes.ros.managed import ManagedNode
from maskact_ros.nodes.ros.publishers import publishing_nodes

LOOK_S = 1.0
TURNS_S = 2.0  # two of one name that take turns do so within this


class SolePlanner:
    """Knows the sources of a topic by their nodes' names, and two of one name by their numbers, which go up in each."""

    def __init__(self, node: ManagedNode, topic: str):
        self._node, self._topic = node, node.resolve_topic_name(topic)
        self._names: tuple[str, ...] = ()
        self._number = 0
        self._back_s: deque[float] = deque(maxlen=2)  # when numbers last went back; a restart does so once
        self._timer = node.create_steady_timer(LOOK_S, self.look)
        self.look()

    def destroy(self) -> None:
        """Look no more."""
        self._node.destroy_timer(self._timer)

    def look(self) -> str | None:
        """Find out who offers the topic, in the executor's thread; `refusal` then."""
        self._names = tuple(publishing_nodes(self._node, self._topic))
        return self.refusal

    def heard(self, number: int) -> str | None:
        """Note the number of a chunk that came, in any one thread; `refusal` then."""
        if number <= self._number:
            self._back_s.append(time.monotonic())
        self._number = number
        return self.refusal

    @property
    def refusal(self) -> str | None:
        """Why no chunk is to be followed, or None."""
        names = self._names
        if len(names) > 1:
            shown = printable(", ".join(names), 300)
            return f"{len(names)} nodes send {self._topic}: {shown}; none is followed until one is left"
        if len(self._back_s) == 2 and self._back_s[0] > time.monotonic() - TURNS_S:
            shown = printable(", ".join(names) or "unknown", 300)
            return f"two nodes of one name ({shown}) send {self._topic}; neither is followed until one is left"
        return None
