"""The results of `python -m benchmarks convert`: a row for each job, and the peak memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maskact_ros.tools.bench.machine import Machine


@dataclass(frozen=True, kw_only=True)
class Row:
    """One of the jobs."""

    part: str  # convert, baseline, read or encode
    images: str
    median_ms: float
    p95_ms: float
    spread: float  # interquartile range as a share of the median
    times_real_time: float  # seconds of the recording per second
    share_of_limit: float  # the time of reading plus encoding, as a share of its time
    speedup_over_baseline: float | None


@dataclass(frozen=True, kw_only=True)
class ConvertResult:
    """The content of `--json`."""

    machine: Machine
    seconds: float  # of the recording
    rounds: int
    complete: bool  # false after Ctrl-C
    peak_memory_mib: float  # of one conversion in a process of its own
    rows: list[Row]
