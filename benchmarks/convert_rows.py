"""What `python -m benchmarks convert` gives: a row for each job, and the peak memory."""

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
    spread: float  # the middle half's width, as a share of the median
    times_real_time: float  # seconds of the recording for each second
    share_of_limit: float  # reading and encoding one after the other took so much of its time
    speedup_over_baseline: float | None


@dataclass(frozen=True, kw_only=True)
class ConvertResult:
    """What `--json` prints."""

    machine: Machine
    seconds: float  # of the recording
    rounds: int
    complete: bool  # false after Ctrl-C
    peak_memory_mib: float  # of one conversion in a process of its own
    rows: list[Row]
