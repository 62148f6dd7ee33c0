"""`Latency`: from the stamps of a stream to their receipt; how large it is, how it grows, and how two streams differ.

In: each message's stamp and receipt. Out: figures for the report, and what cannot be of one clock. Memory holds some
thousand messages, evenly spread, however long the bag.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MOST = 4096  # messages that are looked at
_FEWEST = 5
_AHEAD_S = 0.005  # two machines whose clocks are kept together differ by less
_BLOCKS = 10  # of time
_QUICK = 10  # percentile of a block's latencies that is compared
_SHARE = 0.25  # of blocks, from which on it is no matter of single ones
_STEEPEST = 0.001  # seconds per second; clocks of quartz differ by a tenth of that
_STRAIGHT = 0.9  # share of the blocks' variance that a drift explains
_STUCK = 0.01  # of the time that passed while they were received: stamps that advance by less do not advance


@dataclass(frozen=True)
class Difference:
    """What is wrong between two streams: its size in seconds, and what it is."""

    kind: str  # ahead, apart, drifts or changes
    seconds: float  # ahead and apart: the median; drifts: per second; changes: the largest
    own_s: float  # the stream's own latency


class Latency:
    """The latency of one stream."""

    def __init__(self) -> None:
        self.messages = 0
        self._every = 1
        self._samples: list[tuple[int, int]] = []  # receipt, and stamp

    def add(self, received_ns: int, stamp_ns: int) -> None:
        """Take a message."""
        if self.messages % self._every == 0:
            self._samples.append((received_ns, stamp_ns))
            if len(self._samples) >= _MOST:
                del self._samples[1::2]
                self._every *= 2
        self.messages += 1

    @property
    def is_stuck(self) -> bool:
        """Whether the stamps stand still while messages are received."""
        if len(self._samples) < 2 * _FEWEST:
            return False
        samples = np.array(self._samples, np.int64)
        received_ns, stamps_ns = np.ptp(samples, axis=0)
        return bool(stamps_ns < _STUCK * received_ns)

    def figures(self) -> dict[str, float]:
        """For the report; the drift is None where too few messages tell it."""
        received_s, latency_s = self._arrays()
        if not len(received_s):
            return {}
        p50, p95 = np.percentile(latency_s, [50, 95])
        figures = {"messages": self.messages, "p50_ms": round(p50 * 1e3, 3), "p95_ms": round(p95 * 1e3, 3)}
        edges = np.linspace(received_s[0], received_s[-1], _BLOCKS + 1)
        quickest_s = _quickest(received_s, latency_s, edges)
        if np.isfinite(quickest_s).all() and (fit := _drift(edges[1:], quickest_s)) is not None:
            figures["drift_ms_per_s"] = round(fit[0] * 1e3, 4)
        return figures

    @property
    def median_s(self) -> float:
        """The usual latency."""
        return float(np.median(self._arrays()[1])) if self._samples else 0.0

    def difference(self, other: Latency | None, tolerance_s: float) -> Difference | None:
        """What tells that this stream and another are not stamped by one clock; None: another that goes by receipt."""
        if len(self._samples) < _FEWEST or (other is not None and len(other._samples) < _FEWEST):
            return None
        received_s, latency_s = self._arrays()
        own_s = float(np.median(latency_s))
        if own_s < -_AHEAD_S <= (0.0 if other is None else other.median_s):
            return Difference("ahead", -own_s, own_s)
        edges = np.linspace(received_s[0], received_s[-1], min(_BLOCKS, len(received_s) // 3 or 1) + 1)
        apart_s = _quickest(received_s, latency_s, edges)
        if other is not None:
            apart_s = apart_s - _quickest(*other._arrays(self._samples[0][0]), edges)
        times_s = ((edges[1:] + edges[:-1]) / 2)[known := np.isfinite(apart_s)]
        apart_s = apart_s[known]
        if not len(apart_s):
            return None
        if (fit := _drift(times_s, apart_s)) is not None:
            grown_s = abs(fit[0]) * (times_s[-1] - times_s[0])
            if fit[1] > _STRAIGHT and abs(fit[0]) > _STEEPEST and grown_s > tolerance_s / 4:
                return Difference("drifts", fit[0], own_s)
        if (np.abs(apart_s) > tolerance_s).mean() > 1 - _SHARE:
            return Difference("apart", float(np.median(apart_s)), own_s)
        if (np.abs(apart_s) > 2 * tolerance_s).mean() > _SHARE:
            return Difference("changes", float(np.abs(apart_s).max()), own_s)
        return None

    def _arrays(self, since_ns: int | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Receipts, in order, since a moment, and latencies, in seconds."""
        samples = np.array(sorted(self._samples), np.int64).reshape(-1, 2)
        if since_ns is None:
            since_ns = self._samples[0][0] if self._samples else 0
        return (samples[:, 0] - since_ns) / 1e9, (samples[:, 0] - samples[:, 1]) / 1e9


def _quickest(
    received_s: NDArray[np.float64], latency_s: NDArray[np.float64], edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The latency of the quickest messages in each block of time, NaN where there are none.

    A busy machine delays some messages, or many; two clocks differ in the quickest ones, too.
    """
    places = np.clip(np.searchsorted(edges, received_s, side="right") - 1, 0, len(edges) - 2)
    blocks = [latency_s[places == place] for place in range(len(edges) - 1)]
    return np.array([np.percentile(block, _QUICK) if len(block) else np.nan for block in blocks])


def _drift(times_s: NDArray[np.float64], values_s: NDArray[np.float64]) -> tuple[float, float] | None:
    """How fast values grow, in seconds per second, and how well a straight line explains that; None if too few tell."""
    if len(values_s) < _BLOCKS or np.ptp(times_s) <= 0:
        return None
    slope, start = np.polyfit(times_s, values_s, 1)
    around = ((values_s - values_s.mean()) ** 2).sum()
    left = ((values_s - start - slope * times_s) ** 2).sum()
    return float(slope), float(1 - left / around) if around > 0 else 0.0
