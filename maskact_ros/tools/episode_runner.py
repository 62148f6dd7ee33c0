"""Runs episodes through the nodes: a bringup with the simulated robot; enable, watch, disable and reset each time.

In: processes to run. Out: one `Outcome` for each episode. Ctrl-C sets `stop`; the context's end brings the arm to rest.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from maskact_ros.control.ladder import Rung
from maskact_ros.core.errors import MaskACTError
from maskact_ros.nodes.ros.stop_request import StopRequest
from maskact_ros.tools.bringup import Process, environment
from maskact_ros.tools.isolation import IsolatedDomain
from maskact_ros.tools.observer import Ask, Observer
from maskact_ros.tools.supervisor import Supervisor

ASKED_AGAIN_S, ANSWERED_WITHIN_S = 3.0, 30.0
ENABLED_WITHIN_S, ENABLED_AGAIN_S = 5.0, 0.1
CLEARED_WITHIN_S = 20.0  # a fault that lasts longer than this ends the run


@dataclass(frozen=True)
class Outcome:
    """How an episode ended."""

    seed: int
    success: bool
    seconds: float  # since the first command


class EpisodeRunner:
    """A context manager: while it is open the nodes run, in a ROS domain of their own.

    From construction on, SIGINT and SIGTERM set `stop`, which ends any waiting. The nodes' output goes to
    `say(name, line)`. During any waiting `show(doing)` is called, at most four times a second.
    """

    def __init__(
        self,
        described: Sequence[Process],
        say: Callable[[str, str], None],
        *,
        show: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._described, self._say, self._show = described, say, show
        self._begun = False  # whether an episode has begun
        self.stop = StopRequest()

    def __enter__(self) -> Self:
        self._domain = IsolatedDomain()
        self.domain_id = self._domain.id
        os.environ.update(self._domain.environment | environment())
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

            def next_one() -> bool:
                return bool(observer.episode["number"] != number)

            self._ask(observer.reset_simulation, "resetting the scene", done=next_one)
            self._until(next_one, "resetting the scene")
        self._begun = True
        epoch = observer.state.epoch
        self._enable()
        self._until(lambda: observer.state.enabled or observer.state.epoch != epoch, "enabling")
        deadline_s = min(time.monotonic() + limit_s, until_s)
        self._until(
            lambda: observer.episode["success"] or not observer.state.enabled or time.monotonic() > deadline_s, ""
        )
        self._ask(observer.disable, "disabling")
        self._until(lambda: observer.state.rung in (Rung.IDLE, Rung.FAULT), "disabling")
        self._clear_fault()
        solved = bool(observer.episode["success"])
        if not solved and (self.stop.is_set() or time.monotonic() >= until_s):
            return None
        return Outcome(observer.episode["seed"], solved, observer.episode["seconds"] if solved else limit_s)

    def _enable(self) -> None:
        """Enable, with retries: a reset of the scene moves the arm, and its new pose is believed only after 0.5 s."""
        until_s = time.monotonic() + ENABLED_WITHIN_S
        while refusal := self._answer(self.observer.enable, "enabling"):
            if time.monotonic() > until_s:
                raise MaskACTError(f"enabling failed for {ENABLED_WITHIN_S:g} s: {refusal}")
            again_s = time.monotonic() + ENABLED_AGAIN_S
            self._until(lambda: time.monotonic() > again_s, "enabling")  # noqa: B023

    def _clear_fault(self) -> None:
        """If the episode ended in a fault, reset the publisher when its cause is gone."""
        until_s, asked_s = time.monotonic() + CLEARED_WITHIN_S, 0.0

        def cleared_or_later() -> bool:
            return self.observer.state.rung is Rung.IDLE or time.monotonic() > asked_s + 0.5

        while self.observer.state.rung is Rung.FAULT and not self.stop.is_set():
            refusal = self._answer(self.observer.clear_fault, "clearing a fault")
            if refusal and time.monotonic() > until_s:
                raise MaskACTError(f"the fault is not cleared within {CLEARED_WITHIN_S:g} s: {refusal}")
            asked_s = time.monotonic()
            self._until(cleared_or_later, "clearing a fault")

    def _ask(self, ask: Ask, doing: str, *, done: Callable[[], bool] = lambda: False) -> None:
        """Send a request, and wait for success; raises MaskACTError if it is refused."""
        refusal = self._answer(ask, doing, done)
        if refusal:
            raise MaskACTError(f"{doing} failed: {refusal}")

    def _answer(self, ask: Ask, doing: str, done: Callable[[], bool] = lambda: False) -> str:
        """Why a request is refused; "" on success, when `done` holds without an answer, or when `stop` is set.

        During DDS discovery a request or its answer can be lost, so requests are repeated. All requests here may be
        served twice.
        """
        until_s = time.monotonic() + ANSWERED_WITHIN_S
        while not self.stop.is_set() and not done():
            again_s = min(time.monotonic() + ASKED_AGAIN_S, until_s)
            with ask() as answer:
                self._until(lambda: answer.done() or done() or time.monotonic() > again_s, doing)  # noqa: B023
                if answer.done():
                    return "" if answer.result().success else str(answer.result().message)
            if time.monotonic() > until_s:
                raise MaskACTError(f"{doing} failed: no answer within {ANSWERED_WITHIN_S:g} s")
        return ""

    def _until(self, condition: Callable[[], bool], doing: str) -> None:
        """Spin until the condition holds or `stop` is set; raises MaskACTError when a node ends by itself."""
        shown_s = 0.0
        while not condition():
            if self.stop.is_set():
                return
            self._executor.spin_once(timeout_sec=0.05)
            ended = self._supervisor.ended()
            if ended is not None:
                raise MaskACTError(
                    f"{ended.name} ended by itself ({ended.how}); its last lines:", lines=ended.last_lines
                )
            if time.monotonic() - shown_s > 0.25:
                shown_s = time.monotonic()
                self._show(doing)
