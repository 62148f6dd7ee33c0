"""The node's clock without its steps: a simulated one ticks coarsely, and commands must not.

In: readings of the node's clock at each control period, and the steady clock. Out: a time that goes on evenly between
the readings, and whether the clock stands still. A jump is passed on as one, for the follower to begin a new epoch.
"""

from __future__ import annotations

_JUMP_NS = 200_000_000  # further from what was expected, the clock has been set
_STANDS_S = 0.5  # without a new reading for so long, it is paused
_SLEW = 0.2  # of the time that passes, at most, goes into correcting what was estimated
_SMOOTHING = 0.2  # the weight of a new measurement of the clock's pace, once there are a few


class PlanClock:
    """Follows a clock that may tick coarsely and at another pace than the steady one's."""

    def __init__(self) -> None:
        self._reading_ns: int | None = None  # the last one that was new
        self._read_at_ns = 0  # when that was, on the steady clock
        self._pace = 1.0  # of this clock, in its seconds per steady second
        self._paces = 0  # measured so far
        self._estimate_ns = 0.0
        self._last_steady_ns = 0

    def read(self, reading_ns: int, steady_ns: int) -> int:
        """The time now, in ns, of a clock that just said `reading_ns`."""
        if self._reading_ns is None:
            return self._begin(reading_ns, steady_ns)
        elapsed_ns = steady_ns - self._last_steady_ns
        self._last_steady_ns = steady_ns
        expected_ns = self._reading_ns + self._pace * (steady_ns - self._read_at_ns)
        stood = self.stands(steady_ns) and reading_ns != self._reading_ns
        if stood or reading_ns < self._reading_ns or reading_ns > expected_ns + _JUMP_NS:
            return self._begin(reading_ns, steady_ns)
        if reading_ns > self._reading_ns:
            pace = (reading_ns - self._reading_ns) / max(1, steady_ns - self._read_at_ns)
            self._paces += 1
            self._pace += max(_SMOOTHING, 1.0 / self._paces) * (min(pace, 20.0) - self._pace)
            self._reading_ns, self._read_at_ns = reading_ns, steady_ns
        if self.stands(steady_ns):
            return round(self._estimate_ns)
        passed_ns = self._pace * elapsed_ns
        target_ns = self._reading_ns + self._pace * (steady_ns - self._read_at_ns)
        correction_ns = target_ns - (self._estimate_ns + passed_ns)
        most_ns = _SLEW * passed_ns
        self._estimate_ns += passed_ns + min(max(correction_ns, -most_ns), most_ns)
        return round(self._estimate_ns)

    def stands(self, steady_ns: int) -> bool:
        """Whether the clock has not moved for half a second."""
        return self._reading_ns is not None and steady_ns - self._read_at_ns > _STANDS_S * 1e9

    def _begin(self, reading_ns: int, steady_ns: int) -> int:
        self._reading_ns, self._read_at_ns = reading_ns, steady_ns
        self._estimate_ns, self._pace, self._paces = float(reading_ns), 1.0, 0
        self._last_steady_ns = steady_ns
        return reading_ns
