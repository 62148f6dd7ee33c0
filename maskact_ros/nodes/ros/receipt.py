"""Stamps joint states by their receipt, for a robot whose own stamps are zero or of another clock.

In: how long ago a message came. Out: the time of its receipt, by the node's clock.
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
_JITTER_NS = 500_000_000  # a clock that goes back further was set back; a smaller step is jitter of reading it


class ReceiptClock:
    """Gives stamps of receipt. They never decrease, unless the clock was set back."""

    def __init__(self, read_ns: Callable[[], int]):
        self._read_ns = read_ns
        self._last_ns: int | None = None

    def stamp_ns(self, age_ns: int) -> int:
        """The stamp of a message that came `age_ns` ago."""
        stamp_ns = self._read_ns() - age_ns
        if self._last_ns is not None and 0 < self._last_ns - stamp_ns < _JITTER_NS:
            stamp_ns = self._last_ns
        self._last_ns = stamp_ns
        return stamp_ns


def joint_states_clock(node: ManagedNode, read_ns: Callable[[], int]) -> ReceiptClock | None:
    """The clock that stamps joint states by receipt; None if the stamps of their headers are used."""
    return ReceiptClock(read_ns) if node.get(JOINT_STATES_STAMP_SOURCE.name) == "receipt" else None
