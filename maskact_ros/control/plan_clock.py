"""Interpolates the node's clock: a simulated clock ticks coarsely and at any pace, but commands need an even time.

In: readings of the node's clock, at about the control rate, and the steady clock. Out: a time that advances evenly
between ticks, the size of the ticks, and whether the clock stands still. A jump of the clock remains a jump.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

_JUMP_NS = 200_000_000  # a step larger than this plus the time passed at the fastest pace means that the clock was set
_FASTEST, _FASTEST_FIRST = 3.0, 20.0  # fastest pace that counts as no jump: with a measured pace, and before
_STANDS_NS = 500_000_000  # without a tick for this long the clock stands still, unless its usual ticks are as rare
_STANDS_TICKS = 2.5
_RAREST_NS = 1_000_000_000  # longest usual interval of ticks that is allowed for in this
_WINDOW_NS, _LEAST_NS = 300_000_000, 50_000_000  # the pace is measured over this window, and at least over this time
_PAUSE_INTERVALS = 3.0  # an interval longer than this many usual ones is a pause or a stall, not a slower pace
_SLACK_NS = 20_000_000  # if a tick is noticed late by up to this, the time is corrected slowly, not at once
# This many usual intervals, or at least this long, after a tick the time stops and waits for the next one.
_OVERDUE, _OVERDUE_NS = 1.25, 50_000_000
_SLEW_NS = 300_000_000  # time constant of the estimate's correction towards the readings
_FORGOTTEN = 0.8  # factor by which the largest known tick decays at each smaller tick
_SLOWEST = 0.02  # timeouts by receipt grow with a slower simulation down to this pace


class _Line(NamedTuple):
    """The present estimate, replaced as a whole so that any thread may read it."""

    estimate_ns: float  # time of the node's clock
    at_ns: int  # the steady time of this estimate
    pace: float  # seconds of the node's clock per steady second; 0 until it is measured
    most_ns: float  # the estimate stops here until the next tick
    off_ns: int  # how far a correct stamp may be from the estimate


class PlanClock:
    """Estimates a clock that may tick coarsely and at another pace than the steady clock.

    The estimate stays between the last tick and the next one, as the true time does, apart from the delay with which a
    tick is noticed. It never goes back, unless the clock does.
    """

    def __init__(self) -> None:
        self._reading_ns: int | None = None
        self._ticks: deque[tuple[int, int]] = deque()  # reading, and when it was noticed on the steady clock
        self._noticed_ns = 0  # when the last new reading was noticed
        self._interval_ns = 0.0  # usual time between two ticks; 0 until it is measured
        self._tick_ns = 0  # size of a tick
        self._line: _Line | None = None

    def read(self, reading_ns: int, steady_ns: int, at_ns: int | None = None) -> int:
        """The time in ns, at `at_ns` (by default `steady_ns`), of a clock that read `reading_ns` at `steady_ns`."""
        at_ns = steady_ns if at_ns is None else at_ns
        line = self._line
        if self._reading_ns is None or line is None or self._jumped(reading_ns, steady_ns, line.pace):
            return self._begin(reading_ns, steady_ns, at_ns)
        pace = line.pace
        if reading_ns > self._reading_ns:
            pace = self._note_tick(reading_ns, steady_ns, pace)
        since_ns = at_ns - self._noticed_ns
        elapsed_ns = max(0, at_ns - line.at_ns)
        target_ns = reading_ns + pace * since_ns
        passed_ns = pace * elapsed_ns
        correction_ns = (target_ns - line.estimate_ns - passed_ns) * min(1.0, elapsed_ns / _SLEW_NS)
        estimate_ns = line.estimate_ns + max(0.0, passed_ns + correction_ns)
        least_ns = reading_ns + pace * (min(since_ns, 0) - _SLACK_NS)
        most_ns = reading_ns + pace * max(_OVERDUE * self._interval_ns, _OVERDUE_NS)
        estimate_ns = max(line.estimate_ns, least_ns, min(estimate_ns, most_ns))
        self._line = _Line(estimate_ns, max(at_ns, line.at_ns), pace, most_ns, self._off_ns(pace))
        return round(estimate_ns)

    @property
    def begun(self) -> bool:
        """Whether there was a reading."""
        return self._line is not None

    def at(self, steady_ns: int) -> int:
        """The time at a moment since the last reading, of which there must be one; from any thread."""
        line = self._line
        assert line is not None
        ahead_ns = line.pace * max(0, steady_ns - line.at_ns)
        return round(max(line.estimate_ns, min(line.estimate_ns + ahead_ns, line.most_ns)))

    @property
    def off_ns(self) -> int:
        """How far a correct stamp may be from this clock's time: a tick, and the delay of noticing it."""
        return 0 if self._line is None else self._line.off_ns

    @property
    def slowness(self) -> float:
        """Steady seconds per second of a slower clock; 1 for any other clock, and until the pace is measured."""
        pace = 0.0 if self._line is None else self._line.pace
        return 1.0 / min(1.0, max(_SLOWEST, pace)) if pace > 0 else 1.0

    def stands(self, steady_ns: int) -> bool:
        """Whether the clock has not moved for half a second, or for longer if its ticks are rare."""
        allowed_ns = max(_STANDS_NS, _STANDS_TICKS * min(self._interval_ns, _RAREST_NS))
        return self._reading_ns is not None and steady_ns - self._noticed_ns > allowed_ns

    def _jumped(self, reading_ns: int, steady_ns: int, pace: float) -> bool:
        assert self._reading_ns is not None
        moved_ns = reading_ns - self._reading_ns
        fastest = max(pace, _FASTEST) if pace > 0 else _FASTEST_FIRST
        return not 0 <= moved_ns <= _JUMP_NS + fastest * (steady_ns - self._noticed_ns)

    def _off_ns(self, pace: float) -> int:
        return self._tick_ns + round(pace * _SLACK_NS)

    def _begin(self, reading_ns: int, steady_ns: int, at_ns: int) -> int:
        """Start anew at a reading. The pace is unknown until two ticks have been seen."""
        self._ticks.clear()
        if self._reading_ns is not None:  # else the last tick may be long ago
            self._ticks.append((reading_ns, steady_ns))
        self._reading_ns, self._noticed_ns, self._interval_ns = reading_ns, steady_ns, 0.0
        self._line = _Line(float(reading_ns), at_ns, 0.0, float(reading_ns), self._off_ns(1.0))
        return reading_ns

    def _note_tick(self, reading_ns: int, steady_ns: int, pace: float) -> float:
        """Take a new reading; return the pace."""
        paused_ns = _PAUSE_INTERVALS * self._interval_ns + _OVERDUE_NS
        if len(self._ticks) > 1 and steady_ns - self._noticed_ns > paused_ns:
            self._ticks.clear()
        if self._ticks:
            self._tick_ns = max(reading_ns - self._ticks[-1][0], round(_FORGOTTEN * self._tick_ns))
        self._reading_ns, self._noticed_ns = reading_ns, steady_ns
        self._ticks.append((reading_ns, steady_ns))
        while len(self._ticks) > 3 and self._ticks[1][1] < steady_ns - _WINDOW_NS:
            self._ticks.popleft()
        first_reading_ns, first_ns = self._ticks[0]
        if steady_ns - first_ns < _LEAST_NS:
            return pace
        self._interval_ns = (steady_ns - first_ns) / (len(self._ticks) - 1)
        return (reading_ns - first_reading_ns) / (steady_ns - first_ns)
