"""Joint states that are stamped when they come, for a robot whose own stamps are zero or of another clock.

In: how long ago a message came. Out: when that was, by the node's clock.
"""

from __future__ import annotations

from collections.abc import Callable

from maskact_ros.nodes.ros.managed import ManagedNode
from maskact_ros.nodes.ros.params import NodeParameter

STAMP_SOURCES = ("header", "receipt")
JOINT_STATES_STAMP_SOURCE = NodeParameter(
    "joint_states_stamp_source",
    "header",
    "Where a joint state's time comes from: the message's header, or its receipt. Use receipt if the stamps are zero "
    "or of another clock.",
    choices=STAMP_SOURCES,
)
_JITTER_NS = 500_000_000  # a clock that goes back further was set back; less is how late it was read


class ReceiptClock:
    """Gives stamps of receipt, none of which is before the last unless the clock was set back."""

    def __init__(self, read_ns: Callable[[], int]):
        self._read_ns = read_ns
        self._last_ns: int | None = None

    def stamp_ns(self, age_ns: int) -> int:
        """The stamp of a message that came so long ago."""
        stamp_ns = self._read_ns() - age_ns
        if self._last_ns is not None and 0 < self._last_ns - stamp_ns < _JITTER_NS:
            stamp_ns = self._last_ns
        self._last_ns = stamp_ns
        return stamp_ns


def joint_states_clock(node: ManagedNode, read_ns: Callable[[], int]) -> ReceiptClock | None:
    """What dates joint states that their header does not; None where it does."""
    return ReceiptClock(read_ns) if node.get(JOINT_STATES_STAMP_SOURCE.name) == "receipt" else None
