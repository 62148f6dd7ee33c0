"""Episodes through the nodes: starts a bringup with the simulated robot, enables, watches, disables, resets, and so on.

In: processes to run. Out: one `Outcome` for each episode. Ctrl-C sets `stop`; leaving it brings the arm to rest.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from maskact_ros.errors import MaskACTError
from maskact_ros.nodes.bringup import Process, environment
from maskact_ros.nodes.isolation import IsolatedDomain
from maskact_ros.nodes.observer import Observer
from maskact_ros.nodes.supervisor import Supervisor


@dataclass(frozen=True)
class Outcome:
    """How an episode ended."""

    seed: int
    success: bool
    seconds: float  # since the first command


class Conductor:
    """A context manager: the nodes run, in a ROS domain of their own, as long as it is open.

    What they print goes to `say(name, line)`; `show(doing)` is called while something is waited for, at most every
    quarter of a second.
    """

    def __init__(
        self,
        described: Sequence[Process],
        say: Callable[[str, str], None],
        *,
        show: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._described, self._say, self._show = described, say, show
        self._begun = False  # an episode
        self.stop = threading.Event()

    def __enter__(self) -> Self:
        self._domain = IsolatedDomain()
        self.domain_id = self._domain.id
        os.environ.update(self._domain.environment | environment())
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self.stop.set())
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self.observer = Observer()
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.observer)
        self._supervisor = Supervisor(self._described, {}, self._say)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._supervisor.stop()
        self.observer.close()
        rclpy.try_shutdown()
        self._domain.close()

    def start(self) -> None:
        """Wait until all nodes are active; raises MaskACTError when one ends by itself."""
        names = {process.name for process in self._described}
        self._until(lambda: self.observer.active() >= names, f"starting {len(names)} nodes")

    def episode(self, limit_s: float, until_s: float = float("inf")) -> Outcome | None:
        """Run the next episode; None if Ctrl-C, or `until_s` on the steady clock, ended it before it was decided.

        Raises:
            MaskACTError: a node ended by itself, or refused what was asked of it.
        """
        observer = self.observer
        if self._begun:
            number = observer.episode["number"]
            self._ask(observer.reset_simulation, "resetting the scene")
            self._until(lambda: observer.episode["number"] != number, "resetting the scene")
        self._begun = True
        self._ask(lambda: observer.enable(True), "enabling")
        deadline_s = min(time.monotonic() + limit_s, until_s)
        self._until(lambda: observer.episode["success"] or time.monotonic() > deadline_s, "")
        self._ask(lambda: observer.enable(False), "disabling")
        self._until(lambda: observer.state.rung == "idle", "disabling")
        solved = bool(observer.episode["success"])
        if not solved and (self.stop.is_set() or time.monotonic() >= until_s):
            return None
        return Outcome(observer.episode["seed"], solved, observer.episode["seconds"] if solved else limit_s)

    def _ask(self, request: Callable[[], Future], doing: str) -> None:
        future = request()
        self._until(future.done, doing)
        if future.done() and not future.result().success:
            raise MaskACTError(f"{doing} failed: {future.result().message}")

    def _until(self, condition: Callable[[], bool], doing: str) -> None:
        """Spin until the condition holds or it is time to stop; raises when a node ends by itself."""
        shown_s = 0.0
        while not condition():
            if self.stop.is_set():
                return
            self._executor.spin_once(timeout_sec=0.05)
            ended = self._supervisor.ended()
            if ended is not None:
                lines = "\n  ".join(ended.last_lines)
                raise MaskACTError(f"{ended.name} ended by itself ({ended.how}); its last lines:\n  {lines}")
            if time.monotonic() - shown_s > 0.25:
                shown_s = time.monotonic()
                self._show(doing)
