"""What the clocks did from one control period to the next: a stall of the loop, a jump of the clock, its pace.

In: the moment of each period. Out: what has passed since the last one, the time of a simulated arm, and the lead.
"""

from __future__ import annotations

from typing import NamedTuple

from maskact_ros.control.curves import Moment

# Without a command for so long, or three periods, an arm has stopped at the last one, and starts again from rest.
_STALL_NS = 100_000_000

# A clock that goes ahead or back by so much more than the steady one has been set, not corrected.
_JUMP_NS = 200_000_000


class Passed(NamedTuple):
    """Since the last period."""

    steady_ns: int = 0
    stalled: bool = False
    jumped: str = ""  # "ahead" or "back"


_NOTHING = Passed()


def stall_ns(period_ns: int) -> int:
    """Without a command for so long, an arm has stopped at the last one."""
    return max(_STALL_NS, 3 * period_ns)


class LoopTime:
    """Follows the node's clock and the steady one."""

    def __init__(self, period_ns: int, lead_s: float):
        self._last: Moment | None = None
        self.step_ns = period_ns  # by how much the node's clock moves on while one period passes
        self._paused_ns = 0  # how much less time than on the steady clock has passed in a simulation, slow or paused
        self.lead_ns = round(lead_s * 1e9)  # how far ahead of now the plan is sampled
        self.stalls = 0

    def passed(self, moment: Moment, period_ns: int) -> Passed:
        """What has passed when a period begins."""
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
        """Draw the lead to another one, by a tenth of a period at most; at once while nothing is sent."""
        wished_ns = round(wished_s * 1e9)
        most_ns = period_ns // 10 if sends else wished_ns + self.lead_ns
        self.lead_ns += min(max(wished_ns - self.lead_ns, -most_ns), most_ns)

    def of_the_arm(self, moment: Moment) -> Moment:
        """With the steady time that has passed for the arm: a simulated one moves and measures in its own time."""
        return moment._replace(steady_ns=self.received_ns(moment.steady_ns))

    def received_ns(self, steady_ns: int) -> int:
        """The same, of an instant on the steady clock."""
        return steady_ns - self._paused_ns
