"""`CommandLoop`: the thread that serves the inbox, reads joint states and chunks, and publishes set points.

In: requests, joint states, chunks. Out: one command each control period. After a bug the arm brakes; when it is at
rest, the node ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from maskact_ros.control.curves import Moment
from maskact_ros.control.follower import PlanFollower
from maskact_ros.control.ladder import MOVING
from maskact_ros.control.loop_clock import LoopClock, steady_ns
from maskact_ros.control.loop_time import stall_ns
from maskact_ros.control.lost_peers import LostPeers, gone
from maskact_ros.control.realtime import RateLoop
from maskact_ros.control.trajectory_follower import TrajectoryFollower
from maskact_ros.nodes.command.command_output import PositionOutput, TrajectoryOutput
from maskact_ros.nodes.command.loop_inbox import LoopInbox
from maskact_ros.nodes.command.loop_intake import LoopIntake
from maskact_ros.nodes.ros.diagnostics import Diagnostics

# A peer that is heard again within these times after it was lost counts as delayed by the scheduler, not as gone.
# The first time holds while a plan is valid, the second without a plan.
_HICCUP_NS, _PAUSE_NS = 400_000_000, 100_000_000


class CommandLoop:
    """Runs from `start` until `stop`."""

    def __init__(
        self,
        follower: PlanFollower,
        *,
        cpu: int | None,
        clock: LoopClock,
        intake: LoopIntake,
        inbox: LoopInbox,
        lost: LostPeers,
        output: PositionOutput | TrajectoryOutput | None,
        say_state: Callable[[], None],
        diagnostics: Diagnostics,
    ):
        """Prepare the loop.

        Args:
            follower: makes the decisions; the loop has its rate.
            cpu: the core to run on, or None.
            clock: gives the time of each period.
            intake: the newest joint state and chunk.
            inbox: requests of other threads.
            lost: peers that gave no sign of life.
            output: where commands go; None in a dry run.
            say_state: called in each period, in this thread.
            diagnostics: count the commands.
        """
        self.follower, self.intake, self._clock, self._inbox = follower, intake, clock, inbox
        self._lost, self._output, self._say_state, self._diagnostics = lost, output, say_state, diagnostics
        self._bug: Exception | None = None
        self.rate_loop = RateLoop(follower.rate_hz, self._tick, name="command", realtime=True, cpu=cpu)

    def start(self) -> None:
        """Begin, silent."""
        self._inbox.clear()
        self.intake.begin(self.follower)
        self.rate_loop.start()

    def stop(self) -> None:
        """End, wherever the arm is."""
        self.rate_loop.stop()

    def comes_to_rest(self, within_s: float) -> bool:
        """Wait until all requests are served and the set point is at rest; return whether it is."""
        until_s = time.monotonic() + within_s
        while self._inbox or not self.follower.at_rest:
            if self.rate_loop.failure is not None or time.monotonic() > until_s:
                return False
            time.sleep(0.01)
        return True

    @property
    def crash(self) -> BaseException | None:
        """A bug that has ended the loop, or will end it when the arm is at rest."""
        return self.rate_loop.failure or (self._bug if self._bug is not None and self.follower.at_rest else None)

    def _tick(self, deadline_ns: int) -> None:
        """One control period."""
        try:
            self._command(deadline_ns)
        except Exception as bug:  # noqa: BLE001 - a moving arm must not be left at speed
            self._bug = self._bug or bug
            set_point = self.follower.brake()
            if set_point is not None and isinstance(self._output, PositionOutput):
                self._output.publish(set_point)
        try:
            self._say_state()
        except Exception as bug:  # noqa: BLE001 - this period's command is out: the arm brakes from the next one on
            self._bug = self._bug or bug

    def _command(self, deadline_ns: int) -> None:
        """Decide on a set point, and send it."""
        follower = self.follower
        # A call that is more than a period late belongs to another period: stalls are measured by when commands are
        # sent, not by when they were due. A horizon always begins when it is sent.
        most_late_ns = 0 if isinstance(follower, TrajectoryFollower) else follower.period_ns
        moment, now_ns = self._clock.moment(deadline_ns, most_late_ns)
        set_point = self._decide(moment, now_ns)
        if set_point is None:
            return
        if steady_ns() - moment.steady_ns > stall_ns(follower.period_ns):
            follower.retract()  # the process was stopped during this period; the next period begins from rest
        elif self._output is not None:
            self._send(self._output, set_point, moment)

    def _decide(self, moment: Moment, now_ns: int) -> NDArray[np.float64] | None:
        """The set point of this period. After a bug the arm brakes in any case."""
        follower = self.follower
        if self._bug is not None:
            self._inbox.clear()
            return follower.brake()
        self.intake.observe()
        self.intake.hear_chunk()
        self._inbox.serve(follower, moment._replace(now_ns=now_ns))
        moving = follower.state.rung in MOVING
        if lost := self._lost.due(moment.steady_ns, _HICCUP_NS if moving else _PAUSE_NS):
            follower.condemn(gone(lost))
        set_point = follower.tick(moment, self._clock.standing(moment))
        if follower.rate_hz != self.rate_loop.rate_hz:
            self.rate_loop.rate_hz = follower.rate_hz
        return set_point

    def _send(self, output: PositionOutput | TrajectoryOutput, set_point: NDArray[np.float64], moment: Moment) -> None:
        if isinstance(output, PositionOutput):
            output.publish(set_point)
        else:
            assert isinstance(self.follower, TrajectoryFollower)
            horizon = self.follower.horizon(moment)
            if horizon is None:
                return
            output.publish(horizon.positions, horizon.velocities, horizon.period_ns)
        self._diagnostics.event("commands")
