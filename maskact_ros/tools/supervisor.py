"""Starts the processes of a bringup, passes on their output, and stops them in the right order.

In: `Process` descriptions. Out: running nodes; the first one that ends by itself, with its last lines. At the end the
arm is at rest: the action publisher is stopped first, the others after it has ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskact_ros.nodes.ros.launcher import launcher_variable
from maskact_ros.nodes.ros.stop_request import StopRequest
from maskact_ros.tools.bringup import (
    BringupArguments,
    BringupError,
    Process,
    consequence,
    environment,
    how_ended,
    processes,
)

END_S = 0.6  # the other nodes end within this time, or are killed
_LOOK_EACH_S = 0.01  # between two checks whether a process has ended


@dataclass(frozen=True)
class Ended:
    """A process that ended by itself."""

    name: str
    how: str  # "exit code 1", "signal SIGKILL"
    last_lines: tuple[str, ...]


class Supervisor:
    """Runs the processes until `stop`; their output goes, line by line, to `say(name, line)`."""

    def __init__(self, processes: Sequence[Process], environment: Mapping[str, str], say: Callable[[str, str], None]):
        self._say = say
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._last_lines: dict[str, deque[str]] = {}
        self._readers: list[threading.Thread] = []
        self._folder = tempfile.TemporaryDirectory(prefix="maskact_ros_")  # for parameter files; temporary
        self._rest_s = max(process.stops_within_s for process in processes) + END_S
        for process in processes:
            self._start(process, {**os.environ, **environment, **launcher_variable(), "PYTHONUNBUFFERED": "1"})

    def pid(self, name: str) -> int:
        """The process id of a node."""
        return self._running[name].pid

    def ended(self) -> Ended | None:
        """The first process that has ended, or None."""
        for name, process in self._running.items():
            code = process.poll()
            if code is not None:
                self._join_reader(name)
                return Ended(name, how_ended(code), tuple(self._last_lines[name]))
        return None

    def stop(self) -> None:
        """Let the arm come to rest, then end all other processes within END_S."""
        # SIGTERM, because SIGINT makes a Python that is still starting print a stack trace.
        publisher = self._running.get("action_publisher")
        if publisher is not None:
            _signal([publisher], signal.SIGTERM)
            _wait([publisher], self._rest_s)
        _signal(self._running.values(), signal.SIGTERM)
        _wait(self._running.values(), END_S)
        _signal(self._running.values(), signal.SIGKILL)
        for name, process in self._running.items():
            process.wait()
            self._join_reader(name)
        self._folder.cleanup()

    def _start(self, process: Process, environment: dict[str, str]) -> None:
        # A session of its own, so that Ctrl-C reaches only this process, which decides the order.
        running = subprocess.Popen(
            process.command(Path(self._folder.name)),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._running[process.name] = running
        self._last_lines[process.name] = deque(maxlen=8)
        reader = threading.Thread(target=self._read, args=(process.name, running), name=process.name, daemon=True)
        reader.start()
        self._readers.append(reader)

    def _read(self, name: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._last_lines[name].append(line.rstrip())
            with contextlib.suppress(OSError):  # our reader may be gone; read on, or the node blocks
                self._say(name, line.rstrip())

    def _join_reader(self, name: str) -> None:
        next(reader for reader in self._readers if reader.name == name).join(timeout=0.5)


def _signal(processes: Iterable[subprocess.Popen[str]], number: int) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)


def _wait(processes: Iterable[subprocess.Popen[str]], timeout_s: float) -> None:
    until_s = time.monotonic() + timeout_s
    for process in processes:
        try:
            process.wait(timeout=max(0.0, until_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            return


def run_bringup(arguments: BringupArguments) -> int:
    """Run a bringup until Ctrl-C (then 0) or until a node ends by itself (then 1, after saying which and why)."""
    if arguments.rviz:
        raise BringupError("rviz is true; allowed: false here, as ros2 launch maskact_ros bringup.launch.py starts it")
    stop = StopRequest()
    supervisor = Supervisor(
        processes(arguments),
        environment(shared_memory=arguments.shared_memory),
        lambda name, line: print(f"[{name}] {line}", flush=True),
    )
    ended = None
    while ended is None and not stop.is_set():
        time.sleep(_LOOK_EACH_S)
        ended = supervisor.ended()
    if ended is not None:
        print(f"{ended.name} ended by itself ({ended.how}); {consequence(ended.name)}", file=sys.stderr, flush=True)
    supervisor.stop()
    if ended is None:
        return 0
    lines = "\n  ".join(ended.last_lines)
    print(f"bringup ends because {ended.name} ended ({ended.how}); its last lines:\n  {lines}", file=sys.stderr)
    return 1
