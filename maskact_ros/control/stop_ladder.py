"""`StopLadder`: the follower's state, and the actions at each change of state, by the table in `transitions`.

In: events. Out: the state. A new epoch discards the chunk; a fault may begin a retreat of the set point to the arm.
"""

from __future__ import annotations

from dataclasses import replace

from maskact_ros.control.curves import Moment
from maskact_ros.control.ladder import FollowerSettings, FollowerState, Rung
from maskact_ros.control.motion import Motion
from maskact_ros.control.newest_chunk import NewestChunk
from maskact_ros.control.retreat import Retreat
from maskact_ros.control.transitions import Event, step


class StopLadder:
    """Applies events to the state, the motion, the chunk and the retreat."""

    def __init__(self, motion: Motion, newest: NewestChunk, retreat: Retreat):
        self._motion, self._newest, self._retreat = motion, newest, retreat
        self._since_ns: int | None = None  # the first period without a plan in this state, on the steady clock
        self.state = FollowerState()
        self.releasing = False  # disabled in a fault: goes silent when at rest
        self.rivals = ""  # other nodes that send commands; the reason of a fault mentions them
        self.unasked_stops = 0  # how often it stopped following a plan because chunks or joint states were missing

    def take(self, event: Event, settings: FollowerSettings, why: str = "", now_ns: int | None = None) -> bool:
        """Change the state by the table; return whether the event changes it. `now_ns` is the time of a new epoch."""
        before = self.state
        after = step(before, event, sends=self._motion.sends, settings=settings, why=why)
        if after is None:
            return False
        is_new_epoch, is_new_rung = after.epoch != before.epoch, after.rung is not before.rung
        if is_new_epoch:
            assert now_ns is not None
            self._newest.begin_epoch(now_ns, after.reason)
            self.releasing = False
        if is_new_epoch or is_new_rung:
            self._since_ns = None
        if not after.enabled:
            self._newest.chunk = None
        if is_new_rung and after.rung is Rung.DECELERATING:
            self.unasked_stops += 1
        if is_new_rung and after.rung is Rung.FAULT:
            self._retreat.begin_fault(before.enabled)
            after = replace(after, reason=f"{after.reason}; {self.rivals}") if self.rivals else after
        if after != before:
            self.state = after
        return True

    def follow(self, at_ns: int, settings: FollowerSettings) -> None:
        """Follow the chunk: go to `following` or `remaining`, at a time by the node's clock."""
        if not self._newest.is_stale(at_ns, settings):
            self.take(Event.FRESH, settings)
        elif self._newest.condemned is None:
            self.take(Event.STALE, settings)
        else:
            self.take(Event.ORPHANED, settings, self._newest.condemned)

    def descend(self, problem: str, settings: FollowerSettings, moment: Moment) -> None:
        """Go down the ladder, as there is nothing to follow."""
        if self.take(Event.NO_PLAN, settings, problem, moment.now_ns):
            return
        if self._since_ns is None:
            self._since_ns = moment.steady_ns
        waited = (moment.steady_ns - self._since_ns) / 1e9 > settings.hold_timeout_s
        rests, condemned = self._motion.filter.at_rest, self._newest.condemned
        if rests and condemned is not None:
            self.take(Event.PEER_GONE, settings, condemned)
        elif (
            not (rests and self.take(Event.RESTS, settings, problem))
            and not (waited and self.take(Event.WAITED, settings, problem))
            and problem != self.state.reason
        ):
            self.state = replace(self.state, reason=problem)
