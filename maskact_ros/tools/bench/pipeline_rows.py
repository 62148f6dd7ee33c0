"""The results of `maskact bench pipeline`: for each model the percentiles of the stages from picture to command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maskact_ros.tools.bench.machine import Machine


@dataclass(frozen=True, kw_only=True)
class Percentiles:
    """Of milliseconds."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model, with or without the profile."""

    part: str
    backbone: str
    image_size: int
    profile: bool
    images: int
    overhead_ms: Percentiles
    model_ms: Percentiles
    stages_ms: dict[str, Percentiles]


@dataclass(frozen=True, kw_only=True)
class PipelineResult:
    """The content of `--json`."""

    machine: Machine
    camera: str
    camera_rate_hz: float
    control_rate_hz: float
    precision: str
    load: str
    complete: bool  # false after Ctrl-C
    overhead_ms: Percentiles  # of the first row
    profile_gain: dict[str, float]  # backbone -> p95 without the profile, over p95 with it
    rows: list[Row]
