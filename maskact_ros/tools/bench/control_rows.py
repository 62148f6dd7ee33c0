"""The results of `maskact bench control`: rows of lateness, rows that could not be measured, and aims."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maskact_ros.tools.bench.control_floods import FloodRow
    from maskact_ros.tools.bench.machine import Machine


@dataclass(frozen=True, kw_only=True)
class Row:
    """One loop at one rate under one scheduler; lateness is from the deadline to the call."""

    loop: str
    rate_hz: float
    scheduler: str
    p50_us: float
    p99_us: float
    p999_us: float
    max_us: float
    missed_share: float
    missed: int
    periods: int
    core_share: float  # CPU time of the whole process, as a share of one core


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A row that could not be measured, and why."""

    loop: str
    scheduler: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Aim:
    """An aim for our loop at one rate, and the measured figure."""

    rate_hz: float
    scheduler: str
    aim: str
    measured: float
    allowed: float
    met: bool


@dataclass(frozen=True, kw_only=True)
class ControlResult:
    """The content of `--json`."""

    machine: Machine
    load: str
    seconds: float  # requested time for each row
    complete: bool  # false after Ctrl-C
    rows: list[Row]
    left_out: list[LeftOut]
    aims: list[Aim]
    floods: list[FloodRow] = field(default_factory=list)
