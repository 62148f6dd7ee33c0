"""The results of `python -m benchmarks model`: a row for each part of a step, and what could not be measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maskact_ros.tools.bench.machine import Machine


@dataclass(frozen=True, kw_only=True)
class Row:
    """One part of a step, for one backend and precision; None for a figure that has no meaning."""

    part: str  # encoder, mask_head, act, their sum model, rest, step; and label_mask, which is a part of act
    backend: str  # or baseline; baseline_sdpa is the baseline with PyTorch's fused attention in DINOv3
    precision: str
    device: str
    backbone: str
    image_size: int
    background: float | None  # the share of the patches that were left out; None where the option is off
    median_ms: float
    p95_ms: float
    p99_ms: float
    spread: float  # interquartile range as a share of the median
    gflop: float | None  # 10^9 operations of one call, counted
    share_of_gemm: float | None  # operations per second, as a share of a matrix product's in the same rounds
    nominal_share_of_gemm: float | None  # the same, with the operations that the backend skips
    share_of_step: float | None
    speedup_over_baseline: float | None  # the median of the rounds' ratios
    over_all_patches: float | None  # with patches left out: time as a share of that with all
    label_agreement: float | None  # share of the patches with the same label as by torch in fp32


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A combination that could not be measured, and the reason."""

    backend: str
    precision: str
    backbone: str
    image_size: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The median speed of a matrix product in the same rounds, in 10^9 operations per second."""

    device: str  # cpu, or a card by name
    threads: int
    gemm_gflops: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class ModelResult:
    """The content of `--json`."""

    machine: Machine
    hardware: Limits
    chunk: int
    dim_model: int
    rounds: int
    complete: bool  # false after Ctrl-C
    rows: list[Row]
    left_out: list[LeftOut]


def table(result: ModelResult) -> str:
    """For people."""
    limits = result.hardware
    shown = ", ".join(f"{value:.0f} in {precision}" for precision, value in limits.gemm_gflops.items())
    lines = [
        result.machine.text,
        f"{limits.device}, {limits.threads} threads; a matrix product reaches {shown} GFLOP/s; chunk {result.chunk}, "
        f"width {result.dim_model}; median of {result.rounds} rounds",
        "",
        f"{'backbone':<9}{'size':>5}  {'backend':<14}{'precision':<10}{'part':<22}{'ms':>9}{'p95':>9}{'of GEMM':>9}"
        f"{'of step':>9}{'x base':>8}",
    ]
    for row in result.rows:
        part = row.part if row.background is None else f"{row.part}, {row.background:.0%} dropped"
        line = (
            f"{row.backbone:<9}{row.image_size:>5}  {row.backend:<14}{row.precision:<10}{part:<22}{row.median_ms:>9.2f}"
            f"{row.p95_ms:>9.2f}{_share(row.share_of_gemm):>9}{_share(row.share_of_step):>9}"
            f"{_times(row.speedup_over_baseline):>8}"
        )
        if row.over_all_patches is not None:
            line += f"  {row.over_all_patches:.2f} of all patches"
        if row.label_agreement is not None:
            line += f"  labels agree {row.label_agreement:.1%}"
        lines.append(line)
    lines += [
        f"not measured: {left.backend} {left.precision}, {left.backbone} at {left.image_size}: {left.reason}"
        for left in result.left_out
    ]
    return "\n".join(lines)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
