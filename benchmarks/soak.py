"""`benchmarks soak`: the demonstration for a long time, with every core busy: does anything grow, slip or stop?

In: minutes, rate, load. Out: memory, threads and files of each node over time, missed periods of the command loop, and
every change of rung that nobody asked for.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from maskact_ros.core.errors import MaskACTError
from maskact_ros.tools.bench.options import add_load, add_output, check_output, put_out

if TYPE_CHECKING:
    from benchmarks.usage import Usage
    from maskact_ros.control.ladder import FollowerState
    from maskact_ros.tools.bench.machine import Machine
    from maskact_ros.tools.episode_runner import EpisodeRunner

SAMPLE_EVERY_S = 5.0
WARM_UP_SHARE, WARM_UP_MOST_S = 1 / 3, 180.0  # of the time, that the slope of the memory leaves out
EPISODE_LIMIT_S = 15.0
RATES_HZ = (10.0, 1000.0)
# What enabling and disabling lead to; any other change of rung was not asked for.
ASKED_FOR = {
    ("idle", "engaging"),
    ("disabled", "engaging"),
    ("engaging", "following"),
    ("engaging", "disabled"),
    ("engaging", "idle"),
    ("following", "disabled"),
    ("disabled", "idle"),
}


def add_command(benches: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare it."""
    soak = benches.add_parser(
        "soak",
        help="the demonstration for a quarter of an hour: leaks, misses, unwanted stops",
        description="Run the simulated robot and the three nodes, episode after episode, and watch them: memory, "
        "threads and open files of each process, missed periods of the command loop, and every change of the action "
        "publisher's rung that was not asked for by enabling or disabling. A fault ends its episode, and counts as "
        "such a change. Ctrl-C brings the arm to rest and prints what was seen so far.",
    )
    soak.set_defaults(run=_run)
    soak.add_argument("--minutes", type=float, default=15.0, help="default: 15")
    soak.add_argument("--rate", type=float, default=500.0, metavar="HZ", help="of the command loop; default: 500")
    add_load(soak)
    soak.add_argument("--policy-path", default="", metavar="DIR", help="checkpoint; default: the package's own")
    add_output(soak)


@dataclass(frozen=True, kw_only=True)
class ProcessUsage:
    """One node over the whole time: first, last and most, and the memory at each of `SoakResult.at_s`."""

    name: str
    memory_mib_first: float
    memory_mib_last: float
    memory_mib_per_hour: float | None  # by a straight line after the warm-up; None for too short a time
    threads_first: int
    threads_last: int
    threads_most: int
    files_first: int
    files_last: int
    files_most: int
    shm_entries_first: int
    shm_entries_last: int
    memory_mib: list[float]


@dataclass(frozen=True, kw_only=True)
class RungChange:
    """One that nobody asked for."""

    at_s: float
    before: str
    after: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class SoakResult:
    """What `--json` prints."""

    machine: Machine
    load: str
    rate_hz: float
    seconds: float
    complete: bool  # false after Ctrl-C or a fault
    episodes: int
    successes: int
    deadline_misses: int
    missed_share: float
    rung_changes_unasked: list[RungChange]
    rung_changes: dict[str, int]  # "before -> after", all of them
    at_s: list[float]
    processes: list[ProcessUsage]


class Soak:
    """One run; what it has seen so far is in `result`."""

    def __init__(self, minutes: float, rate_hz: float, load: str, policy_path: str) -> None:
        least, most = RATES_HZ
        if not least <= rate_hz <= most:
            raise MaskACTError(f"--rate is {rate_hz:g}; allowed: a number from {least:g} to {most:g}")
        if not 0 < minutes <= 100_000:
            raise MaskACTError(f"--minutes is {minutes:g}; allowed: a number > 0")
        self._seconds, self._rate_hz, self._load, self._policy_path = minutes * 60, rate_hz, load, policy_path
        self._complete = False
        self._episodes = self._successes = 0
        self._at_s: list[float] = []
        self._usages: dict[str, list[Usage]] = {}
        self._misses: list[int] = []
        self._changes: Counter[str] = Counter()
        self._unasked: list[RungChange] = []
        self._rung = "idle"
        self._began_s = float("inf")

    def run(self) -> None:
        """Until the time is over, Ctrl-C or a fault; raises MaskACTError when a node ends by itself."""
        from maskact_ros.core.progress import Progress
        from maskact_ros.tools.bench.load import CpuLoad
        from maskact_ros.tools.bringup import BringupArguments, processes
        from maskact_ros.tools.episode_runner import EpisodeRunner

        described = processes(
            BringupArguments(
                policy_path=self._policy_path,
                sim=True,
                publisher_parameters={"control_rate_hz": self._rate_hz, "release_on_disable": True},
            )
        )
        with CpuLoad(self._load) as load, Progress("seconds", self._seconds) as progress:

            def say(name: str, line: str) -> None:
                if any(level in line for level in ("[WARN]", "[ERROR]", "[FATAL]")):
                    progress.say(f"{name}: {line}")

            def show(doing: str) -> None:
                if self._at_s:
                    progress.reach(self._elapsed_s, doing or self._rung)
                self._sample(runner)

            with EpisodeRunner(described, say, show=show) as runner:
                runner.start()
                self._watch_rungs(runner)
                self._began_s = time.monotonic()
                load.resume()
                self._sample(runner)
                until_s = self._began_s + self._seconds
                while not runner.stop.is_set() and time.monotonic() < until_s:
                    outcome = runner.episode(EPISODE_LIMIT_S, until_s)
                    if outcome is not None:
                        self._episodes += 1
                        self._successes += outcome.success
                self._complete = not runner.stop.is_set()

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    def _watch_rungs(self, runner: EpisodeRunner) -> None:
        from rclpy.qos import QoSDurabilityPolicy, QoSProfile
        from std_msgs.msg import String

        from maskact_ros.nodes.ros.messages import state_from_message

        def receive(message: String) -> None:
            self._note(state_from_message(message))
            if self._rung == "fault":  # which ends the motion until somebody has seen to it
                runner.stop.set()

        every = QoSProfile(depth=100, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        runner.observer.create_subscription(String, "state", receive, every)

    def _note(self, state: FollowerState) -> None:
        before, self._rung = self._rung, str(state.rung)
        if before == self._rung:
            return  # another reason
        self._changes[f"{before} -> {self._rung}"] += 1
        if (before, self._rung) not in ASKED_FOR:
            at_s = round(self._elapsed_s, 3)
            self._unasked.append(RungChange(at_s=at_s, before=before, after=self._rung, reason=state.reason))

    def _sample(self, runner: EpisodeRunner) -> None:
        """Look at the processes, if it is time to."""
        from benchmarks.usage import Usage, children

        if self._elapsed_s < (self._at_s[-1] + SAMPLE_EVERY_S if self._at_s else 0.0):
            return
        pids = children("maskact_ros.nodes")
        self._at_s.append(round(self._elapsed_s, 1))
        for name, pid in pids.items():
            self._usages.setdefault(name, []).append(Usage.of(pid))
        self._misses.append(int(runner.observer.figure("action_publisher", "deadline_misses")))

    def result(self) -> SoakResult:
        """What was seen so far; raises MaskACTError when it ended before the nodes were active."""
        from maskact_ros.tools.bench.machine import Machine

        if not self._at_s:
            raise MaskACTError("the soak ended before the nodes were active")
        seconds = self._at_s[-1] - self._at_s[0]
        misses = self._misses[-1] - self._misses[0]
        return SoakResult(
            machine=Machine.here(),
            load=self._load,
            rate_hz=self._rate_hz,
            seconds=round(seconds, 1),
            complete=self._complete,
            episodes=self._episodes,
            successes=self._successes,
            deadline_misses=misses,
            missed_share=round(misses / max(1.0, seconds * self._rate_hz), 6),
            rung_changes_unasked=self._unasked,
            rung_changes=dict(self._changes),
            at_s=self._at_s,
            processes=[self._process(name, usages) for name, usages in self._usages.items()],
        )

    def _process(self, name: str, usages: list[Usage]) -> ProcessUsage:
        import numpy as np

        from benchmarks.usage import slope_per_hour

        at_s = np.array(self._at_s)
        memory = np.array([usage.memory_mib for usage in usages])
        warm = at_s - at_s[0] >= min(WARM_UP_MOST_S, WARM_UP_SHARE * (at_s[-1] - at_s[0]))
        slope = slope_per_hour(at_s[warm], memory[warm])
        threads, files = [usage.threads for usage in usages], [usage.files for usage in usages]
        return ProcessUsage(
            name=name,
            memory_mib_first=round(float(memory[0]), 2),
            memory_mib_last=round(float(memory[-1]), 2),
            memory_mib_per_hour=None if slope is None else round(slope, 2),
            threads_first=threads[0],
            threads_last=threads[-1],
            threads_most=max(threads),
            files_first=files[0],
            files_last=files[-1],
            files_most=max(files),
            shm_entries_first=len(usages[0].shm_entries),
            shm_entries_last=len(usages[-1].shm_entries),
            memory_mib=[round(float(value), 2) for value in memory],
        )


def _run(a: argparse.Namespace) -> int:
    check_output(a)
    soak = Soak(a.minutes, a.rate, a.load, a.policy_path)
    soak.run()
    result = soak.result()
    put_out(a, result, _print_table)
    return 0 if result.complete else 130


def _print_table(result: SoakResult) -> None:
    print(result.machine.text)
    print(f"{result.seconds:.0f} s at {result.rate_hz:g} Hz, load: {result.load}\n")
    print("| process          | memory, MiB    | MiB per hour | threads    | most | files      | most | /dev/shm |")
    print("|------------------|----------------|--------------|------------|------|------------|------|----------|")
    for process in result.processes:
        slope = "too short" if process.memory_mib_per_hour is None else f"{process.memory_mib_per_hour:+.1f}"
        memory = f"{process.memory_mib_first:.0f} → {process.memory_mib_last:.0f}"
        threads = f"{process.threads_first} → {process.threads_last}"
        files = f"{process.files_first} → {process.files_last}"
        shm = f"{process.shm_entries_first} → {process.shm_entries_last}"
        print(
            f"| {process.name:16} | {memory:14} | {slope:>12} | {threads:10} | {process.threads_most:4} "
            f"| {files:10} | {process.files_most:4} | {shm:8} |"
        )
    print(f"\nepisodes: {result.episodes}, solved: {result.successes}")
    print(f"missed periods: {result.deadline_misses} ({result.missed_share:.3%})")
    counts = Counter(f"{change.before} -> {change.after}" for change in result.rung_changes_unasked)
    listed = ", ".join(f"{change}: {count}" for change, count in counts.items()) or "none"
    print(f"changes of rung that nobody asked for: {listed}")
