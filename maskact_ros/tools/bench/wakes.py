"""The record of a periodic loop: for each call its deadline and its time, both on the steady clock.

In: `WakeRecord`, which a loop fills and writes as pairs of int64. Out: `Wakes`, with lateness and missed periods.
"""

from __future__ import annotations

import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class WakeRecord:
    """Grows by two numbers for each call; `save` writes them."""

    def __init__(self) -> None:
        self._pairs = array.array("q")

    def note(self, deadline_ns: int, called_ns: int) -> None:
        """Record a call: its deadline and its time."""
        self._pairs.append(deadline_ns)
        self._pairs.append(called_ns)

    def save(self, file: Path) -> None:
        """Write the record."""
        file.write_bytes(self._pairs.tobytes())


@dataclass(frozen=True, eq=False)
class Wakes:
    """The lateness of each call (N,) in one time span or several, and the number of periods."""

    lateness_us: NDArray[np.float64]  # (N,)
    periods: int

    @classmethod
    def within(cls, file: Path, began_ns: int, ended_ns: int, rate_hz: float) -> Wakes:
        """The calls of a saved record whose deadlines are within a time span.

        A period is missed when no call was made for its deadline. The first deadline after the span shows how many
        periods were missed after the last call, so a loop must run for longer than the span.
        """
        pairs = np.fromfile(file, np.int64).reshape(-1, 2)  # (N, 2): deadline, call
        first, end = np.searchsorted(pairs[:, 0], (began_ns, ended_ns))
        inside = pairs[first:end]
        if not len(inside):
            return cls(np.zeros(0), 0)
        until_ns = pairs[end, 0] if end < len(pairs) else inside[-1, 0] + round(1e9 / rate_hz)
        periods = round(float(until_ns - inside[0, 0]) * rate_hz / 1e9)
        return cls((inside[:, 1] - inside[:, 0]) / 1e3, periods)

    @classmethod
    def joined(cls, parts: list[Wakes]) -> Wakes:
        """Several time spans as one."""
        return cls(np.concatenate([part.lateness_us for part in parts]), sum(part.periods for part in parts))

    @property
    def missed(self) -> int:
        """Periods without a call."""
        return self.periods - len(self.lateness_us)
