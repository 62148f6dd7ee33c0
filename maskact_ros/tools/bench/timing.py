"""Timings that can be compared: all jobs in turn, round by round, so that all have the same disturbances.

In: named functions without arguments that return when their work is done. Out: `Samples` of each, round by round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Job = Callable[[], object]


@dataclass(frozen=True, eq=False)
class Samples:
    """How long a job took in each round; round i of all jobs of one `interleaved` ran at about the same time."""

    times_s: NDArray[np.float64]  # (rounds,)

    @property
    def rounds(self) -> int:
        """The number of rounds: fewer than requested after Ctrl-C."""
        return len(self.times_s)

    @property
    def median_ms(self) -> float:
        """The median."""
        return self.percentile_ms(50)

    @property
    def p95_ms(self) -> float:
        """The 95th percentile."""
        return self.percentile_ms(95)

    @property
    def spread(self) -> float:
        """The interquartile range as a share of the median."""
        low, middle, high = np.percentile(self.times_s, (25, 50, 75))
        return float((high - low) / middle)

    def percentile_ms(self, percent: float) -> float:
        """A percentile."""
        return float(np.percentile(self.times_s, percent)) * 1e3

    def over(self, other: Samples) -> float:
        """The ratio to `other` of the same rounds: the median of the rounds' ratios."""
        return float(np.median(self.times_s / other.times_s))


def interleaved(
    jobs: Mapping[str, Job], rounds: int, *, warm_up: int = 1, after_round: Callable[[], object] | None = None
) -> dict[str, Samples]:
    """Time every job once a round, in an order that rotates by one each round; `warm_up` rounds are not counted.

    `after_round` is called after each counted round, for a progress bar. Ctrl-C ends it, and the complete rounds are
    returned; if there is none, KeyboardInterrupt is passed on.
    """
    names = list(jobs)
    taken_s: list[list[float]] = []
    try:
        for _ in range(warm_up):
            for job in jobs.values():
                job()
        for number in range(rounds):
            turn = number % len(names)
            taken = dict.fromkeys(names, 0.0)
            for name in names[turn:] + names[:turn]:
                began = time.perf_counter()
                jobs[name]()
                taken[name] = time.perf_counter() - began
            taken_s.append(list(taken.values()))
            if after_round is not None:
                after_round()
    except KeyboardInterrupt:
        if not taken_s:
            raise
    columns = np.array(taken_s).T  # (jobs, rounds)
    return {name: Samples(column) for name, column in zip(names, columns, strict=True)}
