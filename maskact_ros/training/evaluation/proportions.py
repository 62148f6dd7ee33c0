"""Statistics of success rates: an interval, and whether two rates over the same seeds differ."""

from __future__ import annotations

import math
from statistics import NormalDist


def wilson(successes: int, trials: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval of a proportion (Wilson 1927); 0 to 1 without trials."""
    if trials == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = successes / trials
    middle = rate + z * z / (2 * trials)
    half = z * math.sqrt(rate * (1 - rate) / trials + (z / (2 * trials)) ** 2)
    scale = 1 + z * z / trials
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """The exact two-sided p-value that two policies are equally good (McNemar 1947).

    In: the number of seeds that only the first one solved, and only the second. Other seeds have no influence.
    """
    discordant = only_first + only_second
    tail = sum(math.comb(discordant, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, 2.0 * (tail / (1 << discordant)))
