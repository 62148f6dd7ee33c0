"""The node's clock, to compare stamps with: a simulated clock that ticks coarsely is interpolated between ticks.

In: a node. Out: the time now, from any thread, and how far a correct stamp may be from it.
"""

from __future__ import annotations

import threading
import time

from maskact_ros.control.plan_clock import PlanClock
from maskact_ros.nodes.ros.managed import ManagedNode


class EvenClock:
    """The system's time; with `use_sim_time` the simulated time, interpolated by `PlanClock` at each call."""

    def __init__(self, node: ManagedNode):
        self._clock = node.get_clock()
        self._even = PlanClock() if node.get("use_sim_time") else None
        self._reading = threading.Lock()

    def now_ns(self) -> int:
        """The time now."""
        if self._even is None:
            return time.time_ns()
        with self._reading:
            return self._even.read(self._clock.now().nanoseconds, time.clock_gettime_ns(time.CLOCK_BOOTTIME))

    @property
    def off_ns(self) -> int:
        """How far a correct stamp may be from the time now: with `use_sim_time` about a tick, else 0."""
        return 0 if self._even is None else self._even.off_ns

    def steady_s(self, seconds: float) -> float:
        """The same duration on the steady clock: longer if the simulation is slower than real time."""
        return seconds if self._even is None else seconds * self._even.slowness

    def is_recent(self, age_s: float, received_s: float, limit_s: float) -> bool:
        """Whether something is not older than a limit, by its stamp and by its receipt on the steady clock."""
        return age_s <= limit_s + self.off_ns / 1e9 and time.monotonic() - received_s <= self.steady_s(limit_s)
