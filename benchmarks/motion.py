"""`benchmarks motion`: how smooth hand-overs between the chunks of a noisy policy are, by four methods.

In: how many hand-overs, which noise, a seed. Out: rows of steps, jerk, delay and violated limits, and a plot. All in
simulated time: the figures depend on the seeds alone, not on the machine.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from maskact_ros.tools.bench.machine import Machine
from maskact_ros.tools.bench.options import add_output, check_output, check_range, put_out

if TYPE_CHECKING:
    from benchmarks.motion_methods import Motion


def add_command(benches: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare it."""
    motion = benches.add_parser(
        "motion",
        help="smoothness and delay of hand-overs between chunks",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="""Let a noisy policy plan a known motion of the simulated arm, chunk after chunk, and execute it:

  replace         the newest chunk, straight from point to point, from the moment it is there
  replace_limited the same through the safety filter: within velocity and acceleration limits, as hard as they allow
  act_ensembling  a chunk from every image, averaged as published (coefficient 0.01), straight from point to point
  maskact         the action publisher's own follower: splines, hand-overs blended over 0.2 s, the safety filter

Each chunk is off by an offset and a drift of its own (--noise, in rad, one standard deviation) and its points by a
tenth of that; it comes 0.1 s after its image. All methods know what time it is, so replace and act_ensembling are
better here than published runtimes, which count points. Each row is the median over --repeat seeds.""",
    )
    motion.set_defaults(run=_run)
    motion.add_argument("--handovers", type=int, default=100, help="in each repetition; default: 100")
    motion.add_argument("--noise", type=float, default=0.02, metavar="RAD", help="of a chunk; default: 0.02")
    motion.add_argument("--rate", type=float, default=500.0, metavar="HZ", help="commands a second; default: 500")
    motion.add_argument("--repeat", type=int, default=5, help="repetitions, each with a seed of its own; default: 5")
    motion.add_argument("--seed", type=int, default=0, help="the first; default: 0")
    add_output(motion, plot="some hand-overs")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A method's medians over the repetitions; rad, rad/s and rad/s³ of the worst joint, seconds, periods."""

    method: str
    max_position_step: float
    max_velocity_step: float
    rms_jerk: float
    delay_s: float
    limit_violations: int
    rms_jerk_range: tuple[float, float]  # smallest and largest repetition


@dataclass(frozen=True, kw_only=True)
class MotionResult:
    """What `--json` prints; allowed steps are the largest within velocity and acceleration limits."""

    machine: Machine
    rate_hz: float
    handovers: int
    noise_rad: float
    repetitions: int
    policy_period_s: float
    allowed_position_step: float
    allowed_velocity_step: float
    jerk_of_replace_over_maskact: float
    rows: list[Row]

    def text(self) -> str:
        """A table for people."""
        lines = [
            f"{self.handovers} hand-overs, noise {self.noise_rad:g} rad, {self.rate_hz:g} Hz, median of "
            f"{self.repetitions} repetitions; the limits allow steps of {1e3 * self.allowed_position_step:.2f} mrad "
            f"and {self.allowed_velocity_step:.3f} rad/s",
            f"{'method':<16}{'step, mrad':>12}{'step, rad/s':>13}"
            f"{'RMS jerk, rad/s³':>18}{'delay, ms':>11}{'violations':>12}",
        ]
        lines += [
            f"{row.method:<16}{1e3 * row.max_position_step:>12.2f}{row.max_velocity_step:>13.3f}{row.rms_jerk:>18.1f}"
            f"{1e3 * row.delay_s:>11.1f}{row.limit_violations:>12}"
            for row in self.rows
        ]
        lines.append(f"RMS jerk of replace over that of maskact: {self.jerk_of_replace_over_maskact:.0f}")
        return "\n".join(lines)


def _run(a: argparse.Namespace) -> int:
    check_output(a)
    check_range("--handovers", a.handovers, 1, 100_000)
    check_range("--noise", a.noise, 0.0, 1.0)
    check_range("--rate", a.rate, 10.0, 1000.0)
    check_range("--repeat", a.repeat, 1, 1000)
    from rich.console import Console
    from rich.progress import track

    from benchmarks.motion_methods import METHODS, ROBOT, execute

    motions: dict[str, list[Motion]] = {method: [] for method in METHODS}
    interrupted = False
    try:
        for seed in track(range(a.seed, a.seed + a.repeat), "repetitions", console=Console(stderr=True)):
            done = {m: execute(m, handovers=a.handovers, noise=a.noise, rate_hz=a.rate, seed=seed) for m in METHODS}
            for method, motion in done.items():
                motions[method].append(motion)
    except KeyboardInterrupt:
        interrupted = True
    if not motions[METHODS[0]]:
        return 130
    rows = [_row(method, motions[method]) for method in METHODS]
    by_method = {row.method: row for row in rows}
    result = MotionResult(
        machine=Machine.here(),
        rate_hz=a.rate,
        handovers=a.handovers,
        noise_rad=a.noise,
        repetitions=len(motions[METHODS[0]]),
        policy_period_s=1.0 / ROBOT.policy_rate_hz,
        allowed_position_step=float(ROBOT.velocity.max() / a.rate),
        allowed_velocity_step=float(ROBOT.acceleration.max() / a.rate),
        jerk_of_replace_over_maskact=by_method["replace"].rms_jerk / by_method["maskact"].rms_jerk,
        rows=rows,
    )
    if a.plot is not None:
        from benchmarks.motion_plot import plot

        plot({method: runs[0] for method, runs in motions.items()}, a.plot)
    put_out(a, result, lambda shown: print(shown.text()))
    if interrupted:
        print("interrupted; these are the repetitions that were done", file=sys.stderr)
    return 130 if interrupted else 0


def _row(method: str, motions: list[Motion]) -> Row:
    import numpy as np

    def median(name: str) -> float:
        return float(np.median([getattr(motion, name) for motion in motions]))

    jerks = [motion.rms_jerk for motion in motions]
    return Row(
        method=method,
        max_position_step=median("max_position_step"),
        max_velocity_step=median("max_velocity_step"),
        rms_jerk=median("rms_jerk"),
        delay_s=median("delay_s"),
        limit_violations=sum(motion.limit_violations for motion in motions),
        rms_jerk_range=(min(jerks), max(jerks)),
    )
