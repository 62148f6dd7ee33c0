"""What `python -m benchmarks train` gives: a row for each way to train, and what a matrix product reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maskact_ros.tools.bench.machine import Machine

VARIANTS = ("frozen", "frozen_cached", "lora")
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True, kw_only=True)
class TrainArguments:
    """What to measure."""

    stage: str
    backbone: str
    image_size: int
    batch_size: int
    steps: int
    device: str
    baseline: bool
    variants: tuple[str, ...] = VARIANTS
    precisions: tuple[str, ...] = PRECISIONS
    compile: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way to train; None where a figure has no meaning."""

    part: str  # train
    variant: str  # frozen, frozen_cached or lora
    backend: str  # torch or baseline
    precision: str
    stage: str
    device: str
    backbone: str
    image_size: int
    batch_size: int
    median_ms: float  # of a step, its batch included
    p95_ms: float
    spread: float  # the middle half's width, as a share of the median
    samples_per_s: float
    gflop: float  # 10^9 operations of a step, by counting
    share_of_gemm: float | None  # those in a second, as a share of a matrix product's of the same rounds
    speedup_over_baseline: float | None  # the median of the rounds' ratios


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a matrix product reached in the same rounds; 10^9 operations a second."""

    device: str  # cpu, or a card by name
    threads: int
    gemm_gflops: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What `--json` prints."""

    machine: Machine
    hardware: Limits
    compiled: bool
    steps: int
    complete: bool  # false after Ctrl-C
    rows: list[Row]
    left_out: list[str]  # what could not be measured, and why
