"""Compares the clocks from one control period to the next: stalls of the loop, jumps of the clock, its pace.

In: the moment of each period. Out: the time since the last one, the time of a simulated arm, and the lead.
"""

from __future__ import annotations

from typing import NamedTuple

from maskact_ros.control.curves import Moment

# After this time without a command, or three periods if that is longer, an arm has stopped at the last command.
_STALL_NS = 100_000_000

# If the node's clock advances by this much more or less than the steady clock, it was set, not slewed.
_JUMP_NS = 200_000_000


class Passed(NamedTuple):
    """The time since the last period."""

    steady_ns: int = 0
    stalled: bool = False
    jumped: str = ""  # "ahead" or "back"


_NOTHING = Passed()


def stall_ns(period_ns: int) -> int:
    """After this time without a command an arm has stopped at the last one."""
    return max(_STALL_NS, 3 * period_ns)


class LoopTime:
    """Tracks the node's clock and the steady clock."""

    def __init__(self, period_ns: int, lead_s: float):
        self._last: Moment | None = None
        self.step_ns = period_ns  # advance of the node's clock in one period
        self._paused_ns = 0  # by how much simulated time is behind steady time, as it is slow or paused
        self.lead_ns = round(lead_s * 1e9)  # how far ahead of now the plan is sampled
        self.stalls = 0

    def passed(self, moment: Moment, period_ns: int) -> Passed:
        """The time since the last period; call it when a period begins."""
        last, self._last = self._last, moment
        if last is None:
            return _NOTHING
        elapsed_ns = moment.steady_ns - last.steady_ns
        pace = self.step_ns / period_ns
        most_ns = elapsed_ns * max(1.0, pace) + _JUMP_NS + moment.off_ns
        moved_ns = moment.now_ns - last.now_ns
        jumped = "back" if moved_ns < 0 else "ahead" if moved_ns > most_ns else ""
        self.step_ns = period_ns
        if not jumped and elapsed_ns > 0:
            self.step_ns = round(moved_ns * period_ns / elapsed_ns)
        if moment.off_ns:
            self._paused_ns += max(0, elapsed_ns - max(0, moved_ns))
        stalled = elapsed_ns > stall_ns(period_ns)
        self.stalls += stalled
        return Passed(elapsed_ns, stalled, jumped)

    def slew_lead(self, wished_s: float, period_ns: int, *, sends: bool) -> None:
        """Change the lead towards `wished_s`, by at most a tenth of a period; at once while nothing is sent."""
        wished_ns = round(wished_s * 1e9)
        most_ns = period_ns // 10 if sends else wished_ns + self.lead_ns
        self.lead_ns += min(max(wished_ns - self.lead_ns, -most_ns), most_ns)

    def of_the_arm(self, moment: Moment) -> Moment:
        """The moment with the arm's own time as steady time: a simulated arm moves and measures in simulated time."""
        return moment._replace(steady_ns=self.received_ns(moment.steady_ns))

    def received_ns(self, steady_ns: int) -> int:
        """The same for an instant on the steady clock."""
        return steady_ns - self._paused_ns
