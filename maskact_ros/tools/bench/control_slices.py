"""Runs the three loops of the control benchmark in turn, a few seconds each, each in a process of its own.

In: rates, schedulers, seconds, load. Out: the `Wakes` and the CPU time of each loop. They run in turn, so that all have
the same disturbances by the machine, and no loop disturbs another.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from maskact_ros.control.realtime import LOOP_PRIORITY
from maskact_ros.core.errors import MaskACTError
from maskact_ros.tools.bench import children
from maskact_ros.tools.bench.c_loop import compile_loop
from maskact_ros.tools.bench.load import CpuLoad
from maskact_ros.tools.bench.wakes import Wakes
from maskact_ros.tools.bringup import BringupArguments, environment, processes
from maskact_ros.tools.isolation import IsolatedDomain

LOOPS = ("maskact", "rclpy_timer", "c_nanosleep")
SLICE_S = 5.0
SETTLE_S = 0.5  # between the start of the load and the slice
AFTER_S = 0.2  # a loop runs this much longer than the slice, so that its end is not measured
START_WITHIN_S = 30.0
STOP_WITHIN_S = 10.0


@dataclass(frozen=True)
class Case:
    """One row of the benchmark."""

    loop: str
    rate_hz: float
    scheduler: str  # "fifo" or "normal"


@dataclass(frozen=True, eq=False)
class Slice:
    """The measurement of a loop over a few seconds."""

    case: Case
    wakes: Wakes
    core_share: float  # CPU time of its process, divided by the time


class Slices:
    """A context manager that holds the ROS domain, the peer, the load and the compiled loop."""

    def __init__(self, load: str) -> None:
        self._load = CpuLoad(load)
        self.without_c: str | None = None  # why there is no loop in C

    def __enter__(self) -> Self:
        self._temporary = tempfile.TemporaryDirectory(prefix="maskact_bench_")
        self._folder = Path(self._temporary.name)
        self._domain = IsolatedDomain()
        self._environment = self._domain.environment | environment()
        try:
            self._program = compile_loop(self._folder)
        except MaskACTError as error:
            self.without_c = str(error)
        self._peer = subprocess.Popen(
            [sys.executable, "-m", "maskact_ros.tools.bench.control_peer"],
            env=os.environ | self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=children.end_with_parent,
        )
        self._load.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._load.__exit__(kind, error, trace)
        self._peer.kill()
        self._peer.wait()
        self._domain.close()
        self._temporary.cleanup()

    def measure(self, case: Case, seconds: float) -> Slice:
        """Start a loop while the load is paused, measure it under load, end it.

        Raises:
            MaskACTError: it does not start, or ends by itself.
        """
        record = self._folder / "wakes"
        record.unlink(missing_ok=True)
        if case.loop != "c_nanosleep":
            self._tell_peer(case.loop)
        process = children.start(
            self._command(case, record), self._log, scheduler=case.scheduler, environment=self._environment
        )
        try:
            if case.loop != "c_nanosleep":
                self._await_peer(case.loop, process)
            self._load.resume()
            time.sleep(SETTLE_S)
            began_ns, began_cpu_s = time.monotonic_ns(), _cpu_s(process)
            time.sleep(seconds)
            ended_ns, ended_cpu_s = time.monotonic_ns(), _cpu_s(process)
            time.sleep(AFTER_S)
        finally:
            self._load.pause()
            children.stop(process, STOP_WITHIN_S)
        if not record.exists():
            raise MaskACTError(f"the loop {case.loop} ended without a record; its last lines:", lines=self._last_lines)
        wakes = Wakes.within(record, began_ns, ended_ns, case.rate_hz)
        return Slice(case, wakes, (ended_cpu_s - began_cpu_s) / (ended_ns - began_ns) * 1e9)

    def _command(self, case: Case, record: Path) -> list[str]:
        rate, priority = f"{case.rate_hz:g}", str(LOOP_PRIORITY if case.scheduler == "fifo" else 0)
        if case.loop == "c_nanosleep":
            return [str(self._program), str(record), rate, priority]
        if case.loop == "rclpy_timer":
            return [sys.executable, "-m", "maskact_ros.tools.bench.rclpy_timer", str(record), rate, priority]
        bringup = BringupArguments(publisher_parameters={"control_rate_hz": case.rate_hz})
        python, option, _, *arguments = processes(bringup)[-1].command(self._folder)
        return [python, option, "maskact_ros.tools.bench.recorded_publisher", str(record), *arguments]

    def _tell_peer(self, name: str) -> None:
        assert self._peer.stdin is not None
        self._peer.stdin.write(f"{name}\n".encode())
        self._peer.stdin.flush()

    def _await_peer(self, name: str, process: subprocess.Popen[str]) -> None:
        """Wait until the peer reports that the loop moves the arm."""
        assert self._peer.stdout is not None
        until_s = time.monotonic() + START_WITHIN_S
        while process.poll() is None and self._peer.poll() is None and time.monotonic() < until_s:
            if select.select([self._peer.stdout], [], [], 0.05)[0]:
                self._peer.stdout.readline()
                return
        raise MaskACTError(f"the loop {name} does not move the arm; its last lines:", lines=self._last_lines)

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    @property
    def _last_lines(self) -> list[str]:
        return self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:]


def in_turn(cases: list[Case], seconds: float) -> Iterator[tuple[Case, float]]:
    """The slices in order, with their durations: `seconds` in all for each case."""
    rounds = max(1, round(seconds / SLICE_S))
    for _ in range(rounds):
        for case in cases:
            yield case, seconds / rounds


def _cpu_s(process: subprocess.Popen[str]) -> float:
    """CPU time that a process has used; 0 when it has ended."""
    try:
        stat = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0.0
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
