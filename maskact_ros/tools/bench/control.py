"""`maskact bench control`: how late the command loop wakes up, compared with an rclpy timer and a bare loop in C.

In: rates, seconds, load. Out: rows of lateness and missed periods, whether they meet our aims, and a plot.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from maskact_ros.core.errors import MaskACTError
from maskact_ros.tools.bench.control_rows import Aim, ControlResult, LeftOut, Row
from maskact_ros.tools.bench.options import add_load, add_output, check_output, put_out

if TYPE_CHECKING:
    from maskact_ros.tools.bench.control_slices import Case, Slice
    from maskact_ros.tools.bench.wakes import Wakes

RATES_HZ = (10.0, 1000.0)  # as the publisher's parameter allows
P99_OVER_C_US = 100.0  # aim under SCHED_FIFO: p99 at most this much over C's
MISSES_OVER_C = (2.0, 5)  # aim under SCHED_FIFO: missed periods at most first x C's + second
MISSES_OVER_TIMER = 0.5  # aim without SCHED_FIFO: missed periods at most this share of the timer's


def add_command(benches: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare it."""
    control = benches.add_parser(
        "control",
        help="lateness and missed periods of the command loop",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="""Measure how late three loops wake up, each in a process of its own, in turn, a few seconds each:

  maskact      the real action_publisher: it follows chunks that come at 10 Hz, hears joint states at 100 Hz, and
               its command has one subscriber in another process
  rclpy_timer  an rclpy timer in a SingleThreadedExecutor that publishes as many numbers and hears the same joints
  c_nanosleep  a loop in C that only sleeps: what this machine can do; compiled on the spot with cc or gcc

A period is missed when there was no call for its deadline. fifo is SCHED_FIFO, which needs an rtprio limit for the
user; normal is what everybody has. On two cores, 60 seconds for each of 18 rows take half an hour.

With --floods N it measures something else: commands a second of 100 while a stranger floods each topic and service of
the publisher, with the largest messages that are allowed and with refused ones, N times each.""",
    )
    control.set_defaults(run=_run)
    control.add_argument("--rates", default="200,500,1000", metavar="HZ,…", help="default: 200,500,1000")
    control.add_argument("--seconds", type=float, default=60.0, help="for each row; default: 60")
    add_load(control)
    control.add_argument("--floods", type=int, default=0, metavar="N", help="measure floods instead; default: 0, none")
    control.add_argument("--scheduler", default="fifo,normal", metavar="S,…", help="default: fifo,normal")
    add_output(control, plot="the distributions")


@dataclass(frozen=True, kw_only=True)
class ControlArguments:
    """The command's arguments."""

    rates_hz: tuple[float, ...]
    seconds: float
    load: str
    schedulers: tuple[str, ...]

    @classmethod
    def parse(cls, rates: str, seconds: float, load: str, scheduler: str) -> ControlArguments:
        """From the command line; raises MaskACTError."""
        from maskact_ros.tools.bench.children import SCHEDULERS

        least, most = RATES_HZ
        try:
            rates_hz = tuple(float(rate) for rate in rates.split(","))
        except ValueError:
            rates_hz = (0.0,)
        if not all(least <= rate <= most for rate in rates_hz):
            raise MaskACTError(f"--rates is {rates}; allowed: numbers from {least:g} to {most:g}, with commas between")
        if not 1 <= seconds <= 86_400:
            raise MaskACTError(f"--seconds is {seconds:g}; allowed: a number from 1 to 86400")
        schedulers = tuple(scheduler.split(","))
        if not set(schedulers) <= set(SCHEDULERS):
            raise MaskACTError(f"--scheduler is {scheduler}; allowed: {', '.join(SCHEDULERS)}, with commas between")
        return cls(rates_hz=rates_hz, seconds=seconds, load=load, schedulers=schedulers)


@dataclass
class _Measured:
    slices: list[Slice] = field(default_factory=list)

    def wakes(self) -> Wakes:
        from maskact_ros.tools.bench.wakes import Wakes

        return Wakes.joined([part.wakes for part in self.slices])

    def core_share(self) -> float:
        return sum(part.core_share for part in self.slices) / len(self.slices)


class ControlBenchmark:
    """Measures, and keeps the results so far."""

    def __init__(self, arguments: ControlArguments) -> None:
        self.arguments = arguments
        self.complete = False
        self._measured: dict[Case, _Measured] = {}
        self._left_out: list[LeftOut] = []

    def run(self) -> None:
        """Measure everything. After KeyboardInterrupt `result` has what was measured so far."""
        from maskact_ros.core.progress import Progress
        from maskact_ros.tools.bench.control_slices import Slices, in_turn

        with Slices(self.arguments.load) as slices:
            cases = self._cases(slices.without_c)
            total_s = self.arguments.seconds * len(cases)
            with Progress("seconds measured", total_s) as progress:
                for case, seconds in in_turn(cases, self.arguments.seconds):
                    progress.advance(0.0, f"{case.loop} {case.rate_hz:g} Hz {case.scheduler}")
                    part = slices.measure(case, seconds)
                    if part.wakes.periods:
                        self._measured.setdefault(case, _Measured()).slices.append(part)
                    progress.advance(seconds)
        self.complete = True

    def _cases(self, without_c: str | None) -> list[Case]:
        from maskact_ros.tools.bench.children import check_fifo
        from maskact_ros.tools.bench.control_slices import LOOPS, Case

        cases = []
        for scheduler in self.arguments.schedulers:
            try:
                if scheduler == "fifo":
                    check_fifo()
            except MaskACTError as error:
                self._left_out += [LeftOut(loop=loop, scheduler=scheduler, reason=str(error)) for loop in LOOPS]
                continue
            loops = list(LOOPS)
            if without_c is not None:
                loops.remove("c_nanosleep")
                self._left_out.append(LeftOut(loop="c_nanosleep", scheduler=scheduler, reason=without_c))
            cases += [Case(loop, rate, scheduler) for rate in self.arguments.rates_hz for loop in loops]
        if not cases:
            raise MaskACTError(self._left_out[0].reason)
        return cases

    def result(self) -> ControlResult:
        """The results so far."""
        from maskact_ros.tools.bench.machine import Machine

        rows = [_row(case, measured) for case, measured in self._measured.items()]
        return ControlResult(
            machine=Machine.here(),
            load=self.arguments.load,
            seconds=self.arguments.seconds,
            complete=self.complete,
            rows=rows,
            left_out=self._left_out,
            aims=_aims(rows),
        )

    def wakes(self) -> dict[Case, Wakes]:
        """Each row's raw figures, for the plot."""
        return {case: measured.wakes() for case, measured in self._measured.items()}


def _row(case: Case, measured: _Measured) -> Row:
    import numpy as np

    wakes = measured.wakes()
    p50, p99, p999, most = np.percentile(wakes.lateness_us, (50, 99, 99.9, 100))
    return Row(
        **asdict(case),
        p50_us=round(float(p50), 1),
        p99_us=round(float(p99), 1),
        p999_us=round(float(p999), 1),
        max_us=round(float(most), 1),
        missed_share=round(wakes.missed / wakes.periods, 6),
        missed=wakes.missed,
        periods=wakes.periods,
        core_share=round(measured.core_share(), 3),
    )


def _aims(rows: list[Row]) -> list[Aim]:
    """Our aims, for each rate and scheduler whose rows were measured."""
    by = {(row.loop, row.rate_hz, row.scheduler): row for row in rows}
    aims = []
    for ours in (row for row in rows if row.loop == "maskact"):
        rate_hz, scheduler = ours.rate_hz, ours.scheduler
        c, timer = (by.get((loop, rate_hz, scheduler)) for loop in ("c_nanosleep", "rclpy_timer"))

        def aim(text: str, measured: float, allowed: float, rate_hz: float = rate_hz, of: str = scheduler) -> Aim:
            met = measured <= allowed
            return Aim(rate_hz=rate_hz, scheduler=of, aim=text, measured=measured, allowed=round(allowed, 1), met=met)

        if scheduler == "fifo" and c is not None:
            times, more = MISSES_OVER_C
            aims.append(aim(f"p99 at most C's + {P99_OVER_C_US:g} µs", ours.p99_us, c.p99_us + P99_OVER_C_US))
            # Scaled to our number of periods.
            allowed = times * c.missed_share * ours.periods + more
            aims.append(aim(f"misses at most {times:g} times C's + {more}", ours.missed, allowed))
        if scheduler == "normal" and timer is not None:
            allowed = MISSES_OVER_TIMER * timer.missed_share * ours.periods
            aims.append(aim(f"misses at most {MISSES_OVER_TIMER:g} times the rclpy timer's", ours.missed, allowed))
    return aims


def _run(a: argparse.Namespace) -> int:
    check_output(a)
    if a.floods:
        return _run_floods(a)
    benchmark = ControlBenchmark(ControlArguments.parse(a.rates, a.seconds, a.load, a.scheduler))
    try:
        benchmark.run()
    except KeyboardInterrupt:
        print("maskact bench: ended early; what follows is what was measured so far", file=sys.stderr)
    result = benchmark.result()
    put_out(a, result, _print_table)
    if a.plot and result.rows:
        from maskact_ros.tools.bench.control_plot import plot

        plot(benchmark.wakes(), result, a.plot)
    return 0 if result.complete else 130


def _run_floods(a: argparse.Namespace) -> int:
    from maskact_ros.tools.bench.control_floods import SLICE_S, measure_floods, table
    from maskact_ros.tools.bench.machine import Machine

    if not 1 <= a.floods <= 1000:
        raise MaskACTError(f"--floods is {a.floods}; allowed: an integer from 0 to 1000")
    rows = measure_floods(a.floods, lambda name: print(f"maskact bench: {name}", file=sys.stderr))
    result = ControlResult(
        machine=Machine.here(),
        load="none",
        seconds=a.floods * SLICE_S,
        complete=True,
        rows=[],
        left_out=[],
        aims=[],
        floods=rows,
    )
    put_out(a, result, lambda shown: print(f"{shown.machine.text}\n{table(shown.floods)}"))
    return 0


def _print_table(result: ControlResult) -> None:
    print(result.machine.text)
    print(f"Lateness in µs, from a period's deadline to its call; load: {result.load}\n")
    print("| loop        | scheduler |    rate |  p50 |   p99 | p99.9 |    max | missed |  share | core |")
    print("|-------------|-----------|---------|------|-------|-------|--------|--------|--------|------|")
    for row in sorted(result.rows, key=lambda row: (row.scheduler, row.rate_hz)):
        print(
            f"| {row.loop:11} | {row.scheduler:9} | {row.rate_hz:4g} Hz | {row.p50_us:4.0f} | {row.p99_us:5.0f} "
            f"| {row.p999_us:5.0f} | {row.max_us:6.0f} | {row.missed:6} "
            f"| {row.missed_share:6.2%} | {row.core_share:4.0%} |"
        )
    print()
    for aim in result.aims:
        verdict = "met" if aim.met else "not met"
        print(f"{verdict}: {aim.scheduler}, {aim.rate_hz:g} Hz, {aim.aim}: {aim.measured:g}, allowed {aim.allowed:g}")
    for left_out in result.left_out:
        print(f"left out: {left_out.loop}, {left_out.scheduler}: {left_out.reason}")
