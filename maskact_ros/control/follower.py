"""`PlanFollower`: decides what to command in each control period, without ROS and without threads.

In: chunks, joint states, and requests to enable, disable and reset. Out: the state, and a set point or None in each
period. `transitions` says which event leads to which state; this file says when each event happens.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from maskact_ros.control.curves import Moment
from maskact_ros.control.engaging import EngagingChecks
from maskact_ros.control.joint_watch import JointWatch, Measured
from maskact_ros.control.ladder import MOVING, FollowerSettings, FollowerState, Rung
from maskact_ros.control.loop_time import LoopTime
from maskact_ros.control.motion import Motion
from maskact_ros.control.newest_chunk import NewestChunk
from maskact_ros.control.retreat import Retreat
from maskact_ros.control.stop_ladder import StopLadder
from maskact_ros.control.tracking import ClampingCheck
from maskact_ros.control.transitions import Event
from maskact_ros.core.chunk import Chunk
from maskact_ros.core.limits import Limits
from maskact_ros.core.robot import RobotSpec

Vector = NDArray[np.float64]


class PlanFollower:
    """The decisions of one command loop. Only the loop's thread calls its methods; times are arguments."""

    _DUE_PERIODS = 0.0  # when a set point is due, in periods after its period begins

    def __init__(self, robot: RobotSpec, *, rate_hz: float, settings: FollowerSettings | None = None):
        self._robot_limits = robot.limits
        self._settings = settings or FollowerSettings()
        self._motion = Motion(robot, rate_hz)
        self._time = LoopTime(self.period_ns, self._settings.lead_s)
        self._joints = JointWatch(robot, self._motion, self._settings.following_tolerance_s)
        self._clamping = ClampingCheck(robot)
        self._engaging = EngagingChecks(robot, self._joints, self._motion)
        self._newest = NewestChunk(len(robot.joints))
        self._retreat = Retreat(robot)
        self._ladder = StopLadder(self._motion, self._newest, self._retreat)
        self._run_began_ns: int | None = None
        self._unheard = ""  # why nothing takes the commands
        self.image_to_command_ms, self.chunk_age_ms = self._newest.image_to_command_ms, self._newest.age_ms

    # -- Requests

    def enable(self, now_ns: int) -> None:
        """Follow chunks captured from now on. Does nothing if already enabled, or in a fault that was not reset."""
        if self._take(Event.ENABLE, now_ns=now_ns):
            self._newest.condemned = self._run_began_ns = None

    def disable(self, reason: str, event: Event = Event.DISABLE) -> str:
        """Come to rest, then hold the last set point, or go silent with `release_on_disable`; return the result.

        A fault is not cleared, but with `release_on_disable` it goes silent, too.
        """
        released = self._settings.release_on_disable
        if self.state.rung is Rung.FAULT:
            fault = f"it is in a fault ({self.state.reason})"
            if not self._motion.sends:
                return f"{fault}; nothing is sent"
            if not released:
                again = "set release_on_disable to true and disable again to silence it"
                return f"{fault}, and goes on sending the last set point; {again}"
            self._ladder.releasing = True
            return f"{fault}: going silent once the arm rests; call ~/reset before enabling"
        self._take(event, reason)
        if not self._motion.sends:
            return "disabled; nothing is sent"
        return f"coming to rest, then {'going silent' if released else 'holding the last set point'}"

    def leave(self, reason: str) -> None:
        """As `disable`, but brake with the robot's own acceleration limits, within the position limits in force.

        The waiting time for the node's end is computed from the robot's own limits (`leaving_s`).
        """
        within = self._motion.filter.limits  # those in force: pending ones would delay the harder braking
        self.change(limits=replace(self._robot_limits, lower=within.lower, upper=within.upper))
        self._motion.on_plan = True  # so that a motion to rest that began under tighter limits is planned again, too
        self.disable(reason)

    def reset(self, now_ns: int) -> str:
        """Begin a new epoch without a plan, and clear a fault; return the result in words.

        If it was enabled it stays enabled, and continues from the set point; after a fault it is disabled. If after a
        fault the arm is not at its set point, or its pose is unknown, it goes silent: `enable` then begins at the
        measured pose.
        A condemned planner stays condemned until the next `enable`.
        """
        done = "a new epoch begins; what is in flight is thrown away"
        if self.state.rung is Rung.FAULT and (astray := self._engaging.astray(self._settings)) is not None:
            self._fall_silent()
            done += f"; released, as {astray}: enabling begins where the arm is measured"
        self._take(Event.RESET, self.state.reason, now_ns)
        return done

    def fail(self, why: str, event: Event = Event.NOT_FOLLOWING) -> None:
        """Begin a fault: come to rest, and stay there until reset and enabled again."""
        if self._motion.sends:
            self._take(event, why)

    def condemn(self, reason: str) -> None:
        """Take no more chunks, as their planner is gone: follow the remaining plan; then it is a fault."""
        if self.state.enabled and self._newest.condemned is None:
            self._newest.condemned = reason

    # -- Settings

    @property
    def settings(self) -> FollowerSettings:
        """The settings in force."""
        return self._settings

    @property
    def rate_hz(self) -> float:
        """The rate at which `tick` must be called from now on."""
        return 1.0 / self._motion.filter.period_s

    @property
    def period_ns(self) -> int:
        """The time from one call of `tick` to the next."""
        return self._motion.filter.period_ns

    def change(
        self, *, settings: FollowerSettings | None = None, limits: Limits | None = None, rate_hz: float | None = None
    ) -> None:
        """Change settings, limits or rate without a jump; tighter limits hold as soon as the motion allows."""
        self._settings = settings or self._settings
        self._motion.change(limits, rate_hz)
        self._joints.following.set_tolerance(self._settings.following_tolerance_s)

    # -- Inputs

    def observe(self, measured: Measured) -> str | None:
        """Take a joint state; return why it is not believed (then it is not used), or None.

        Raises:
            ValueError: it has not one finite number for each joint.
        """
        measured = replace(measured, received_ns=self._time.received_ns(measured.received_ns))
        refusal = self._joints.take(measured)
        if refusal is None and (wrong := self._joints.not_following()) is not None:
            self.fail(f"{wrong}; {self._unheard or 'blocked, or its drive is off'}")
            self._retreat.left_behind()
        return refusal

    def hear_of(self, unheard: str, rivals: str) -> None:
        """Take the graph's state: why nothing takes the commands, and which other nodes send some; "" for none."""
        self._unheard, self._ladder.rivals = unheard, rivals

    def offer(self, chunk: Chunk, now_ns: int, off_ns: int = 0) -> None:
        """Take a chunk, unless it is older than the present chunk or the epoch, has ended, or is from the future.

        A correct stamp may be `off_ns` ahead of `now_ns`, see `Moment`.

        Raises:
            ValueError: the chunk has another number of joints than the robot.
        """
        self._newest.offer(chunk, now_ns, off_ns, enabled=self.state.enabled)

    # -- Results

    @property
    def state(self) -> FollowerState:
        """The rung, and its reason."""
        return self._ladder.state

    @property
    def sends(self) -> bool:
        """Whether set points are being sent."""
        return self._motion.sends

    @property
    def unasked_stops(self) -> int:
        """How often it stopped following a plan because chunks or joint states were missing."""
        return self._ladder.unasked_stops

    @property
    def stalls(self) -> int:
        """How often the loop stood still for so long that the arm has stopped."""
        return self._time.stalls

    def lasting_doubt(self, moment: Moment) -> str | None:
        """Why joint states have not been believed for a second, or None."""
        return self._joints.lasting_doubt(self._time.of_the_arm(moment))

    @property
    def chunks_refused(self) -> int:
        """Chunks that were not taken."""
        return self._newest.refused

    @property
    def poses_refused(self) -> int:
        """Joint states that were not believed."""
        return self._joints.refused

    @property
    def clamped(self) -> int:
        """Set points whose target was beyond a joint's position limits."""
        return self._motion.filter.clamped

    @property
    def at_rest(self) -> bool:
        """Whether no motion is being commanded."""
        return self._motion.filter.at_rest

    @property
    def fault_persists(self) -> str | None:
        """Why a fault cannot be reset yet, or None."""
        rests = self.state.rung is not Rung.FAULT or self.at_rest
        return None if rests else "the arm is still coming to rest"

    def cannot_engage(self, moment: Moment, standing: str | None = None) -> str | None:
        """Why enabling would fail now, or None; `standing` is as for `tick`."""
        timeout_s = self._settings.joint_states_timeout_s
        problem = self._joints.cannot_engage(self._time.of_the_arm(moment), timeout_s) or standing
        return problem or self._engaging.misplaced_arm(self._settings)

    def brake(self) -> Vector | None:
        """The set point (D,) of the fastest stop, or None if none was ever sent; needs the last set point only."""
        return self._motion.brake()

    def tick(self, moment: Moment, standing: str | None = None) -> Vector | None:
        """The set point (D,) of this period, or None to send nothing; `standing` is what is wrong with the clock."""
        self._motion.position_before = self._motion.filter.position
        period_ns = self.period_ns
        self._time.slew_lead(self._settings.lead_s, period_ns, sends=self._motion.sends)
        due = self._due(moment)
        at = due.later(self._time.lead_ns)
        self._watch_time(moment)
        before = Moment(at.now_ns - self._time.step_ns, at.steady_ns - period_ns)
        self._watch_run(moment)
        if self.state.enabled:
            problem = self._problem(moment, at, standing)
            if problem is None:
                self._follow(moment, at, before)
            else:
                self._ladder.descend(problem, self._settings, moment)
        set_point = self._move(at, before)
        if set_point is not None:
            self._joints.following.sent(set_point, self._time.of_the_arm(due).steady_ns)
        return set_point

    def retract(self) -> None:
        """Undo the last set point, which was too late to be sent: the arm has stopped at the one before."""
        self._motion.retract()

    def preview(self, moment: Moment, horizon_s: float) -> Vector:
        """The next set points (N, D), a period apart: along the plan for `horizon_s`, then to rest."""
        return self._motion.preview(self._due(moment).later(self._time.lead_ns), horizon_s)

    def _due(self, moment: Moment) -> Moment:
        """When the set point is due of a period that began at this moment."""
        return moment.later(round(self._DUE_PERIODS * self.period_ns))

    # -- The ladder

    def _watch_time(self, moment: Moment) -> None:
        """Begin a new epoch after a stall of the loop or a jump of the clock; go silent after a long stall."""
        passed = self._time.passed(moment, self.period_ns)
        if passed.stalled:
            self._stand_still()
            self._take(Event.STALLED, now_ns=moment.now_ns)
            if passed.steady_ns > self._settings.hold_timeout_s * 1e9:
                self._fall_silent()  # the arm's pose is unknown: the next motion begins at the measured pose
                self._take(Event.STALLED_LONG, f"{passed.steady_ns / 1e9:.1f}")
        if passed.jumped:
            self._take(Event.CLOCK_JUMPED, passed.jumped, moment.now_ns)

    def _stand_still(self) -> None:
        self._motion.stand_still()

    def _watch_run(self, moment: Moment) -> None:
        """End the motion when the maximum run time is over, or when joint states are not believed for long."""
        most_s, began_ns = self._settings.max_run_s, self._run_began_ns
        if most_s and began_ns is not None and moment.steady_ns - began_ns >= most_s * 1e9:
            self.disable("", Event.RUN_OVER)
        if (doubt := self.lasting_doubt(moment)) is not None:
            self.fail(doubt, Event.NOT_BELIEVED)

    def _problem(self, moment: Moment, at: Moment, standing: str | None) -> str | None:
        """Why there is nothing to follow, or None."""
        timeout_s = self._settings.joint_states_timeout_s
        problem = self._joints.problem(self._time.of_the_arm(moment), timeout_s) or standing
        problem = problem or self._newest.problem(at.now_ns, self._settings)
        if problem is not None or self.state.rung in MOVING:
            return problem
        assert self._newest.chunk is not None
        return self._engaging.misplaced(self._newest.chunk, at, self._settings)

    def _follow(self, moment: Moment, at: Moment, before: Moment) -> None:
        """Lead the plan along the newest chunk."""
        chunk, settings = self._newest.chunk, self._settings
        assert chunk is not None
        assert self._joints.last is not None
        if not self._motion.sends:
            self._motion.engage(self._joints.last.positions)
            self._joints.following.reset()
        handed_over = self._motion.lead_along(chunk, before, settings.blend_s, is_new=self._newest.is_new)
        self._newest.used(moment.now_ns, handed_over=handed_over)
        if self._run_began_ns is None:
            self._run_began_ns = moment.steady_ns
        self._ladder.follow(at.now_ns, settings)

    def _take(self, event: Event, why: str = "", now_ns: int | None = None) -> bool:
        return self._ladder.take(event, self._settings, why, now_ns)

    # -- The motion

    def _move(self, at: Moment, before: Moment) -> Vector | None:
        """The next set point along the plan, or along the motion to rest."""
        motion = self._motion
        if not motion.sends:
            return None
        if self.state.rung not in MOVING:
            if motion.on_plan:
                motion.stop(before)
            elif self.state.rung is Rung.FAULT:
                now_ns = self._time.of_the_arm(before).steady_ns
                pose = self._joints.steady_pose(now_ns, self._settings.joint_states_timeout_s)
                self._retreat.step(motion, pose, before, releasing=self._ladder.releasing)
        set_point = motion.step(at, before)
        if motion.target is not None and self.state.rung not in MOVING:
            self._clamping.reset()
        elif motion.target is not None:
            timeout_s = self._settings.clamp_timeout_s
            name = self._clamping.beyond_for(timeout_s, motion.target, set_point, at.steady_ns)
            if name is not None:
                self.fail(name, Event.CLAMPED)
        disabled = self.state.rung is Rung.DISABLED and self._settings.release_on_disable
        if (disabled or self._ladder.releasing) and self.at_rest:
            self._fall_silent()
            self._take(Event.RELEASED, self.state.reason)
        return set_point

    def _fall_silent(self) -> None:
        """Send no more set points; the next one starts from the measured pose."""
        self._motion.fall_silent()
        self._retreat.cancel()
        self._ladder.releasing = False
