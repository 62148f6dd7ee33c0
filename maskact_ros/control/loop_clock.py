"""`LoopClock`: the command loop's two clocks; a simulated clock is interpolated between its ticks.

In: the node's clock. Out: the moment at which a period began, and whether the clock stands still.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from maskact_ros.control.curves import Moment
from maskact_ros.control.plan_clock import PlanClock

_READ_WITHIN_NS = 200_000  # two readings within this time count as simultaneous


class LoopClock:
    """`read_ns` reads the node's clock; a simulated clock is interpolated between its ticks."""

    def __init__(self, read_ns: Callable[[], int], *, simulated: bool):
        self.read_ns = read_ns
        self._plan_clock = PlanClock() if simulated else None

    def moment(self, deadline_ns: int, most_late_ns: int) -> tuple[Moment, int]:
        """When a period began, and the node's clock now.

        A period begins at its deadline, as the thread's wake-up has jitter, but at most `most_late_ns` ago.
        """
        for _ in range(3):
            before_ns = time.monotonic_ns()
            now_ns, at_ns = self.read_ns(), steady_ns()
            woken_ns = time.monotonic_ns()
            if woken_ns - before_ns < _READ_WITHIN_NS:
                break  # else the thread was interrupted in between, and the two readings are not simultaneous
        late_ns = min(woken_ns - deadline_ns, most_late_ns)
        if (clock := self._plan_clock) is None:
            return Moment(now_ns - late_ns, at_ns - late_ns), now_ns
        began_ns = clock.read(now_ns, at_ns, at_ns - late_ns)
        return Moment(began_ns, at_ns - late_ns, clock.off_ns), clock.at(at_ns)

    def even_time(self) -> tuple[int, int]:
        """The node's clock as the command loop uses it, in ns, and how far a correct stamp may be from it."""
        clock = self._plan_clock
        if clock is None or not clock.begun:
            return self.read_ns(), 0
        return clock.at(steady_ns()), clock.off_ns

    def standing(self, moment: Moment) -> str | None:
        """What is wrong with the clock, or None."""
        stands = self._plan_clock is not None and self._plan_clock.stands(moment.steady_ns)
        return "the clock stands still" if stands else None


def steady_ns() -> int:
    """The follower's steady clock. Unlike the loop's monotonic clock it also runs while the machine is suspended."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
