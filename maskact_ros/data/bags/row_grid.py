"""When rows are due, and whether a camera's rate can be the policy's."""

from __future__ import annotations

from collections import deque

import numpy as np

GAIN = 0.1  # share of a picture's distance from its due moment by which the next one moves; so a clock is followed
_STEPS = 30  # between pictures: so many tell the camera's rate
_FEWEST_STEPS = 10


class RowGrid:
    """When rows are due: a policy period apart on average, from an episode's first row on."""

    def __init__(self, period_ns: int):
        self._period_ns = period_ns
        self._due_ns = 0
        self._rows = 0

    def off(self, stamp_ns: int) -> float:
        """How long after the moment of the next row, in periods."""
        return (stamp_ns - self._due_ns) / self._period_ns

    def take(self, stamp_ns: int, *, begins: bool) -> None:
        """Make a row of a picture, the first of an episode or the next one."""
        if begins:
            self._due_ns, self._rows = stamp_ns, 0
        self._rows += 1
        gain = max(GAIN, 1 / self._rows)  # the mean of the first pictures, so that a first one off the beat is no harm
        self._due_ns += self._period_ns + round(gain * (stamp_ns - self._due_ns))


class CameraRate:
    """The rate of the last pictures, beside the policy's."""

    def __init__(self, policy_hz: float, period_ns: int, tolerance: float):
        self._policy_hz, self._period_ns, self._tolerance = policy_hz, period_ns, tolerance
        self._seen_ns: int | None = None
        self._steps_ns: deque[int] = deque(maxlen=_STEPS)  # from picture to picture

    def see(self, stamp_ns: int) -> None:
        """Take a picture's stamp."""
        if self._seen_ns is not None and stamp_ns > self._seen_ns:
            self._steps_ns.append(stamp_ns - self._seen_ns)
        self._seen_ns = stamp_ns

    @property
    def fits(self) -> bool:
        """Whether rows of this camera can be a period apart on average; while too few pictures tell, they can."""
        if len(self._steps_ns) < _FEWEST_STEPS:
            return True
        step = self._step()
        every = max(1, round(1 / step))  # a row is made of every 2nd picture, if the camera is twice as fast
        return step / 2 <= self._tolerance or abs(every * step - 1) <= GAIN * self._tolerance

    @property
    def sentence(self) -> str:
        """What is wrong where it does not fit."""
        found_hz = self._policy_hz / self._step()
        return f"the camera's rate is not the policy's: {found_hz:.1f} instead of {self._policy_hz:g} Hz"

    def _step(self) -> float:
        """From picture to picture, in periods; those that were lost, and those that came in bursts, do not count."""
        steps = np.sort(self._steps_ns) / self._period_ns
        usual = steps[len(steps) // 2]  # one of them, so that the mean has at least that
        return float(steps[abs(steps - usual) < usual / 2].mean())
