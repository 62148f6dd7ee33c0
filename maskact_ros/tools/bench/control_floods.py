"""Commands per second while a stranger floods the topics and services of the action publisher.

In: rounds. Out: for each flood, the median and the least number of commands per second (of 100), and the number just
before the flood. One publisher runs through all floods, so lasting damage shows in the next figures.
"""

from __future__ import annotations

import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from maskact_ros.core.errors import MaskACTError
from maskact_ros.tools.bench import children
from maskact_ros.tools.bench.flooder import FLOODS
from maskact_ros.tools.bringup import BringupArguments, environment, processes
from maskact_ros.tools.isolation import IsolatedDomain

RATE_HZ = 100.0
LEAST_HZ = 95.0  # aim, of each median
SLICE_S = 2.0
SETTLE_S = 0.5  # from the flood's begin to the measurement
WITHIN_S = 30.0


@dataclass(frozen=True, kw_only=True)
class FloodRow:
    """Commands a second during one flood."""

    flood: str
    median_hz: float
    worst_hz: float
    before_hz: float  # the median of as many slices without a flood
    rounds: int
    met: bool


class _Line:
    """A process that reads requests as lines, and answers with lines."""

    def __init__(self, module: str, environment: dict[str, str]) -> None:
        self._module = module
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"maskact_ros.tools.bench.{module}"],
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=children.end_with_parent,
        )

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ask(self, line: str) -> str:
        assert self.process.stdout is not None
        self.tell(line)
        answers = select.select([self.process.stdout], [], [], WITHIN_S)[0]
        if not answers or not (answer := self.process.stdout.readline().strip()):
            raise MaskACTError(f"{self._module} does not answer {line!r} within {WITHIN_S:g} s")
        return answer


def measure_floods(rounds: int, progress: Callable[[str], None]) -> list[FloodRow]:
    """Measure all floods in turn; raises MaskACTError when a process ends by itself."""
    flooded: dict[str, list[float]] = {flood: [] for flood in FLOODS}
    quiet: dict[str, list[float]] = {flood: [] for flood in FLOODS}
    with tempfile.TemporaryDirectory(prefix="maskact_bench_") as temporary:
        domain, folder = IsolatedDomain(), Path(temporary)
        variables = domain.environment | environment()
        peer, flooder = (_Line(module, variables) for module in ("control_peer", "flooder"))
        bringup = BringupArguments(
            publisher_parameters={"control_rate_hz": RATE_HZ, "limits_from": "robot_description"}
        )
        log = folder / "log"
        publisher = children.start(processes(bringup)[-1].command(folder), log, environment=variables)
        try:
            peer.ask("maskact")  # until the arm follows
            for _ in range(rounds):
                for flood in FLOODS:
                    progress(flood)
                    peer.ask("again")
                    quiet[flood].append(_commands_hz(peer))
                    flooder.ask(flood)
                    time.sleep(SETTLE_S)
                    flooded[flood].append(_commands_hz(peer))
                    flooder.tell("")
                    if publisher.poll() is not None:
                        raise MaskACTError(f"the publisher ended during {flood}")
        except MaskACTError as error:
            last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:]
            raise MaskACTError(f"{error}; the publisher's last lines:", lines=last) from None
        finally:
            for each in (publisher, flooder.process, peer.process):
                each.kill()
                each.wait()
            domain.close()
    return [_row(flood, flooded[flood], quiet[flood]) for flood in FLOODS]


def _commands_hz(peer: _Line) -> float:
    """Commands per second over a slice, by the sequence numbers of the commands."""
    number, at_s = _count(peer)
    time.sleep(SLICE_S)
    later, later_s = _count(peer)
    return (later - number) / (later_s - at_s)


def _count(peer: _Line) -> tuple[int, float]:
    number, at_s = peer.ask("commands").split()
    return int(number), float(at_s)


def _row(flood: str, flooded: list[float], quiet: list[float]) -> FloodRow:
    median = statistics.median(flooded)
    return FloodRow(
        flood=flood,
        median_hz=round(median, 1),
        worst_hz=round(min(flooded), 1),
        before_hz=round(statistics.median(quiet), 1),
        rounds=len(flooded),
        met=median >= LEAST_HZ,
    )


def table(rows: list[FloodRow]) -> str:
    """The rows as a Markdown table."""
    lines = [
        f"Commands a second, of {RATE_HZ:g}, over {SLICE_S:g} s each; aim: {LEAST_HZ:g}\n",
        "| flood | median | worst | without | rounds | |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        verdict = "met" if row.met else "not met"
        figures = f"{row.median_hz:.1f} | {row.worst_hz:.1f} | {row.before_hz:.1f} | {row.rounds}"
        lines.append(f"| {row.flood} | {figures} | {verdict} |")
    return "\n".join(lines)
