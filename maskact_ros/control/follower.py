"""`PlanFollower`: what to command now. The action publisher's decisions, without ROS and without threads.

In: chunks, joint states, and the wish to be enabled or not. Out: each control period a set point, or silence, and the
rung of the stop ladder that it stands on (`ladder.Rung`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from maskact_ros.control.curves import ChunkCurve, Moment, MotionState, Rest, ToRest
from maskact_ros.control.joint_watch import JointWatch, Measured
from maskact_ros.control.ladder import MOVING, FollowerSettings, FollowerState, Rung
from maskact_ros.control.plan import Plan
from maskact_ros.control.retreat import retreating
from maskact_ros.control.safety import SafetyFilter
from maskact_ros.control.tracking import ClampingCheck, FollowingCheck, nearest_turn
from maskact_ros.core.chunk import Chunk
from maskact_ros.core.limits import Limits
from maskact_ros.core.robot import RobotSpec

Vector = NDArray[np.float64]

# How far outside of its limits a joint may be measured when the arm engages: what it covers in so long at full speed.
_BEYOND_LIMITS_S = 0.02

# Without a command for so long, or three periods, an arm has stopped at the last one, and starts again from rest.
_STALL_NS = 100_000_000

# A clock that goes ahead or back by so much more than the steady one has been set, not corrected.
_JUMP_NS = 200_000_000

# Moments this close are the same one.
_SAME_NS = 2_000


class PlanFollower:
    """One command loop's memory; every method is called from that loop's thread, times come with each call."""

    _DUE_PERIODS = 0.0  # how long after its period's begin a set point is due

    def __init__(self, robot: RobotSpec, *, rate_hz: float, settings: FollowerSettings | None = None):
        self._robot, self._grippers, self._continuous = robot, robot.grippers, robot.continuous
        self._limits = robot.limits
        self._settings = settings or FollowerSettings()
        self._rate_hz = rate_hz  # as wished; the filter's is in force
        self._filter = SafetyFilter(self._limits, 1.0 / rate_hz)
        self._lead_ns = round(self._settings.lead_s * 1e9)  # in force; a change of it is slewed
        self._plan: Plan | None = None  # None while nothing is sent, and while the filter alone brakes
        self._stopping: ToRest | None = None  # the plan's base, while it leads to rest
        self._chunk: Chunk | None = None  # the newest, until the plan is dropped
        self._chunk_is_new = False  # the plan has not been handed over to it yet
        self._on_plan = False  # whether the plan leads along a chunk, and not to rest
        self._sampled: tuple[Plan | None, Moment, Vector] = (None, Moment(0, 0), np.zeros(0))  # the last target
        self._joints = JointWatch(robot)
        self._may_retreat = False  # in this fault: it was enabled when it began
        self._left_behind = False  # the arm was found not to follow, and the set point has not gone back to it
        self._retreats = False  # it is on its way there
        self._releasing = False  # disabled in a fault: goes silent at rest
        self._position_before = self._filter.position  # of the set point
        self._check = FollowingCheck(robot, self._settings.following_tolerance_s)
        self._clamping = ClampingCheck(robot)
        self._epoch_began_ns = 0
        self._awaited = ""  # what the epoch waits for until its first chunk
        self._condemned: str | None = None  # why no more chunks are taken
        self._last: Moment | None = None
        self._step_ns = self._filter.period_ns  # by how much the node's clock moves on while one period passes
        self._paused_ns = 0  # how much less time than on the steady clock has passed in a simulation, slow or paused
        self._since_ns: int | None = None  # the first tick on this rung, on the steady clock
        self._run_began_ns: int | None = None
        self._started = False  # whether set points are being sent; the first one starts from the measured pose
        self.state = FollowerState()
        self.unheard = ""  # why nothing takes the commands, as far as the node knows
        self.rivals = ""  # who else sends commands, as far as the node knows
        self.image_to_command_ms: deque[float] = deque(maxlen=100)  # age of each chunk at its first set point
        self.chunk_age_ms: deque[float] = deque(maxlen=4096)  # of the chunk in force, at each set point
        self.chunks_refused = 0
        self.stalls = 0  # how often the loop stood still for so long that the arm has, too
        self.unasked_stops = 0  # how often it left a plan for want of something

    # -- What is wished

    def enable(self, now_ns: int) -> None:
        """Follow chunks captured from now on; does nothing while enabled, or in a fault that was not reset."""
        if not self.state.enabled and self.state.rung is not Rung.FAULT:
            self._condemned = self._run_began_ns = None
            self._new_epoch(now_ns, Rung.ENGAGING, "waiting for a chunk captured after enabling")

    def disable(self, reason: str) -> str:
        """Come to rest, then keep the last set point or go silent, as chosen; return what comes of it.

        A fault stays one, but it goes silent, too, where that was chosen.
        """
        released = self._settings.release_on_disable
        if self.state.rung is Rung.FAULT:
            fault = f"it is in a fault ({self.state.reason})"
            if not self._started:
                return f"{fault}; nothing is sent"
            if not released:
                again = "set release_on_disable to true and disable again to silence it"
                return f"{fault}, and goes on sending the last set point; {again}"
            self._releasing = True
            return f"{fault}: going silent once the arm rests; call ~/reset before enabling"
        if self.state.enabled:
            self._enter(self._resting_rung, reason)
        if not self._started:
            return "disabled; nothing is sent"
        return f"coming to rest, then {'going silent' if released else 'holding the last set point'}"

    def leave(self, reason: str) -> None:
        """As `disable`, but brake as hard as the robot may, whatever its limits are now, within the end stops in force.

        Who waits for the end counts on the robot's own limits.
        """
        within = self._filter.limits  # in force; what is still pending would keep the strong brakes waiting
        self.change(limits=replace(self._robot.limits, lower=within.lower, upper=within.upper))
        self._on_plan = True  # so that a way to rest that began under tighter limits is planned anew, too
        self.disable(reason)

    def reset(self, now_ns: int) -> str:
        """Throw away the plan and everything in flight, and clear a fault; return what came of it.

        Stays enabled if it was, and goes on from the set point; after a fault it is not enabled any more. Where the arm
        is not at its set point then, or nobody knows where it is, it goes silent: enabling begins where it is measured.
        Whose chunks are not taken any more stays condemned until it is enabled again.
        """
        done = "a new epoch begins; what is in flight is thrown away"
        if self.state.rung is Rung.FAULT:
            astray = self._astray()
            if astray is not None:
                self._fall_silent()
                done += f"; released, as {astray}: enabling begins where the arm is measured"
            self._new_epoch(now_ns, self._resting_rung, "reset after a fault; enable it to go on")
        elif self.state.enabled:
            self._new_epoch(now_ns, Rung.ENGAGING, "reset; waiting for a chunk captured after it")
        else:
            self._new_epoch(now_ns, self.state.rung, self.state.reason)
        return done

    def fail(self, reason: str) -> None:
        """Come to rest and stay there, until reset and enabled again."""
        if self._started and self.state.rung is not Rung.FAULT:
            self._enter(Rung.FAULT, reason)

    def condemn(self, reason: str) -> None:
        """Take no more chunks, as who made them is gone: follow what remains of the plan, then it is a fault."""
        if self.state.enabled and self._condemned is None:
            self._condemned = reason

    # -- What is set

    @property
    def settings(self) -> FollowerSettings:
        """The settings in force."""
        return self._settings

    @property
    def rate_hz(self) -> float:
        """The rate at which `tick` is to be called from now on."""
        return 1.0 / self._filter.period_s

    @property
    def period_ns(self) -> int:
        """The time from one call of `tick` to the next."""
        return self._filter.period_ns

    @property
    def stall_ns(self) -> int:
        """Without a command for so long, an arm has stopped at the last one."""
        return max(_STALL_NS, 3 * self._filter.period_ns)

    def change(
        self, *, settings: FollowerSettings | None = None, limits: Limits | None = None, rate_hz: float | None = None
    ) -> None:
        """Take other settings, limits or another rate, without a jump; tighter limits as soon as the motion allows."""
        self._settings = settings or self._settings
        self._limits = limits or self._limits
        self._rate_hz = rate_hz or self._rate_hz
        self._filter.change(self._limits, 1.0 / self._rate_hz)
        if not self._started:
            self._filter.adopt()
        self._check.set_tolerance(self._settings.following_tolerance_s)

    # -- What is heard

    def observe(self, measured: Measured) -> str | None:
        """Take a joint state; return why it is not believed, and so is not used, or None.

        Raises:
            ValueError: it is not a finite number for each joint.
        """
        measured = replace(measured, received_ns=measured.received_ns - self._paused_ns)
        checked = self._started and self._settings.following_tolerance_s > 0
        set_point = self._filter.position if self._started else None
        refusal = self._joints.take(measured, set_point, sending=checked, as_commanded=self._is_as_commanded)
        if refusal is not None:
            return refusal
        assert self._joints.last is not None
        positions, received_ns = self._joints.last.positions, measured.received_ns
        wrong = self._check.measured(positions, received_ns) if checked else None
        if wrong is not None:
            self.fail(f"{wrong}; {self.unheard or 'blocked, or its drive is off'}")
            self._left_behind = True
            self._check.reset()
        return None

    def _is_as_commanded(self, positions: Vector, received_ns: int) -> bool:
        return self._started and self._check.as_commanded(positions, received_ns)

    def offer(self, chunk: Chunk, now_ns: int, off_ns: int = 0) -> None:
        """Take a chunk, unless it is older than the plan in force or than the epoch, used up, or from the future.

        A right stamp may be `off_ns` ahead of `now_ns`, see `Moment`.

        Raises:
            ValueError: the chunk is not of this robot's joints.
        """
        if chunk.actions.shape[1] != len(self._robot.joints):
            raise ValueError(f"the chunk has {chunk.actions.shape[1]} joints, the robot {len(self._robot.joints)}")
        newest_ns = self._epoch_began_ns if self._chunk is None else max(self._epoch_began_ns, self._chunk.stamp_ns)
        in_time = newest_ns < chunk.stamp_ns <= now_ns + off_ns and now_ns < chunk.end_ns
        if not self.state.enabled or self._condemned is not None or not in_time:
            self.chunks_refused += 1
            return
        self._chunk = chunk
        self._chunk_is_new = True

    # -- What comes of it

    @property
    def sends(self) -> bool:
        """Whether set points are being sent."""
        return self._started

    def lasting_doubt(self, moment: Moment) -> str | None:
        """Why joint states have not been believed for a second, or None."""
        return self._joints.lasting_doubt(self._of_the_arm(moment))

    @property
    def poses_refused(self) -> int:
        """Joint states that were not believed."""
        return self._joints.refused

    @property
    def clamped(self) -> int:
        """Set points whose target lay beyond a joint's limits."""
        return self._filter.clamped

    @property
    def at_rest(self) -> bool:
        """Whether no motion is being commanded."""
        return self._filter.at_rest

    @property
    def fault_persists(self) -> str | None:
        """Why a fault cannot be reset yet, or None."""
        if self.state.rung is not Rung.FAULT:
            return None
        return None if self._filter.at_rest else "the arm is still coming to rest"

    def cannot_engage(self, moment: Moment, standing: str | None = None) -> str | None:
        """Why enabling would be in vain as things are, or None; `standing` is as for `tick`."""
        problem = (
            self._joints.cannot_engage(self._of_the_arm(moment), self._settings.joint_states_timeout_s) or standing
        )
        return problem or self._misplaced_arm()

    def brake(self) -> Vector | None:
        """The set point (D,) of the quickest stop, or None if none was ever sent; needs nothing but the last one."""
        self._plan, self._stopping, self._on_plan = None, None, False
        return self._filter.brake() if self._started else None

    def tick(self, moment: Moment, standing: str | None = None) -> Vector | None:
        """The set point (D,) of this period, or None to stay silent; `standing` says what is wrong with the clock."""
        self._position_before = self._filter.position
        period_ns = self._filter.period_ns
        wished_ns = round(self._settings.lead_s * 1e9)
        most_ns = period_ns // 10 if self._started else wished_ns + self._lead_ns
        self._lead_ns += min(max(wished_ns - self._lead_ns, -most_ns), most_ns)
        due = self._due(moment)
        at = due.later(self._lead_ns)
        self._watch_time(moment)
        before = Moment(at.now_ns - self._step_ns, at.steady_ns - period_ns)
        self._watch_run(moment)
        self._watch_belief(moment)
        if self.state.enabled:
            problem = self._problem(moment, at, standing)
            if problem is None:
                self._follow(moment, at, before)
            else:
                self._descend(problem, moment)
        set_point = self._move(at, before)
        if set_point is not None:
            self._check.sent(set_point, self._of_the_arm(due).steady_ns)
        return set_point

    def retract(self) -> None:
        """Take back the last set point, which came too late to be sent: the arm has stopped at the one before."""
        self._filter.position = self._position_before
        self._filter.halt()

    def preview(self, moment: Moment, horizon_s: float) -> Vector:
        """Set points (N, D) to come, a period apart: along the plan for so long, then to rest. For trajectories."""
        ahead = self._filter.copy()
        period_ns = ahead.period_ns
        ahead.change(self._limits, ahead.period_s)  # at one rate to the end, whatever is pending
        points = []
        at = self._due(moment).later(self._lead_ns)
        if self._plan is not None:
            for _ in range(max(1, round(horizon_s / ahead.period_s))):
                before, at = at, at.later(period_ns)
                target = self._plan.sample(at)
                points.append(ahead.follow(target, self._plan.sample(before), tighten=self._on_plan))
        else:
            points.append(ahead.brake())
        while not ahead.at_rest:
            points.append(ahead.brake())
        return np.array(points)

    def _due(self, moment: Moment) -> Moment:
        """When the set point of the period that began at a moment is due."""
        return moment.later(round(self._DUE_PERIODS * self._filter.period_ns))

    # -- The ladder

    def _watch_time(self, moment: Moment) -> None:
        """Begin a new epoch after a stall of the loop, and after a jump of the clock; after a long stall, be silent.

        Nobody knows then where the arm is: whatever goes on begins where it is measured.
        """
        last, self._last = self._last, moment
        if last is None:
            return
        elapsed_ns = moment.steady_ns - last.steady_ns
        pace = self._step_ns / self._filter.period_ns
        most_ns = elapsed_ns * max(1.0, pace) + _JUMP_NS + moment.off_ns
        if elapsed_ns > self.stall_ns:
            self.stalls += 1
            self._stand_still()
            if self.state.rung in MOVING:
                self._descend("the command loop stood still; waiting for a new chunk", moment)
            if elapsed_ns > self._settings.hold_timeout_s * 1e9:
                self._fall_silent()
                if self.state.rung not in (Rung.IDLE, Rung.FAULT):
                    stood_s = elapsed_ns / 1e9
                    self._enter(Rung.IDLE, f"the command loop stood still for {stood_s:.1f} s; enable it again")
        moved_ns = moment.now_ns - last.now_ns
        jumped = not 0 <= moved_ns <= most_ns
        self._step_ns = self._filter.period_ns
        if not jumped and elapsed_ns > 0:
            self._step_ns = round(moved_ns * self._filter.period_ns / elapsed_ns)
        if moment.off_ns:
            self._paused_ns += max(0, elapsed_ns - max(0, moved_ns))
        if jumped and self.state.enabled:
            direction = "back" if moved_ns < 0 else "ahead"
            self._new_epoch(moment.now_ns, Rung.ENGAGING, f"the clock jumped {direction}; waiting for a new chunk")

    def _of_the_arm(self, moment: Moment) -> Moment:
        """With the steady time that has passed for the arm: a simulated one moves and measures in its own time."""
        return moment._replace(steady_ns=moment.steady_ns - self._paused_ns)

    def _stand_still(self) -> None:
        """Take note that the arm has stopped at the last set point, as nothing was sent for so long."""
        self._filter.halt()
        if self._started:
            self._plan, self._stopping = Plan(Rest(self._filter.position), self._grippers), None
            self._on_plan = False

    def _problem(self, moment: Moment, at: Moment, standing: str | None) -> str | None:
        """Why there is nothing to follow, or None."""
        problem = self._joints.problem(self._of_the_arm(moment), self._settings.joint_states_timeout_s) or standing
        if problem is not None:
            return problem
        if self._chunk is None:
            return self._condemned or self._awaited
        if at.now_ns > self._chunk.end_ns:
            return self._condemned or "the chunk is used up and no new one has come"
        if at.now_ns > self._stale_ns + self._settings.remaining_timeout_s * 1e9:
            return self._condemned or "no new chunk has come for too long"
        return None if self.state.rung in MOVING else self._misplaced(at)

    @property
    def _stale_ns(self) -> float:
        """When the chunk should have been replaced, by the node's clock."""
        assert self._chunk is not None
        return self._chunk.stamp_ns + self._settings.fresh_s * 1e9

    def _watch_run(self, moment: Moment) -> None:
        """Disable when the maximum run time is over."""
        most_s = self._settings.max_run_s
        if most_s and self._run_began_ns is not None and moment.steady_ns - self._run_began_ns >= most_s * 1e9:
            self.disable(f"the maximum run time of {most_s:g} s is over")

    def _watch_belief(self, moment: Moment) -> None:
        """Measurements that stay unbelievable while the arm is enabled are a fault."""
        doubt = self._joints.lasting_doubt(self._of_the_arm(moment))
        if doubt is not None and self.state.enabled:
            self.fail(doubt)

    def _misplaced_arm(self) -> str | None:
        """Why the arm cannot engage where it is measured, or None."""
        if self._joints.last is None or self._joints.doubt is not None:
            return self._joints.doubt
        pose = self._joints.last.positions
        if not self._started:
            lower, upper = self._limits.lower, self._limits.upper
            beyond = np.maximum(lower - pose, pose - upper) - self._robot.velocity * _BEYOND_LIMITS_S
            if beyond.max() > 0:
                i = int(np.argmax(beyond))
                # Without the position: its noise would make a new reason of every period.
                limits = f"{lower[i]:g} to {upper[i]:g}"
                return f"{self._robot.joints[i].name} is beyond its limits, {limits}; move it back by hand"
            return None
        return self._displaced(pose)

    def _misplaced(self, at: Moment) -> str | None:
        """Why the arm cannot engage, or None: where it is, or where the plan begins, would be a jump."""
        assert self._joints.last is not None
        if (misplaced := self._misplaced_arm()) is not None:
            return misplaced
        begin = self._filter.position if self._started else self._joints.last.positions
        target = self._curve(begin, at).sample(at)
        far = np.abs(target - begin) / self._robot.velocity
        far[self._grippers] = 0.0
        if far.max() > self._settings.engage_tolerance_s:
            name = self._robot.joints[int(np.argmax(far))].name
            return f"the plan begins too far from where {name} is; a larger engage_tolerance_s would allow it"
        return None

    def _displaced(self, pose: Vector) -> str | None:
        """Which joint is not where its set point rests, or None."""
        tolerance_s = self._settings.following_tolerance_s
        far = np.abs(pose - self._filter.position) - self._robot.velocity * tolerance_s
        far[self._grippers] = -np.inf
        if tolerance_s == 0 or not self._started or far.max() <= 0:
            return None
        return f"{self._robot.joints[int(np.argmax(far))].name} is not where its set point is"

    def _astray(self) -> str | None:
        """Why the set point is not to be held any longer: the arm is elsewhere, or nobody knows where; or None."""
        if self._started and self._joints.doubt is not None:
            return self._joints.doubt
        return None if self._joints.last is None else self._displaced(self._joints.last.positions)

    def _follow(self, moment: Moment, at: Moment, before: Moment) -> None:
        """Lead the plan along the newest chunk."""
        assert self._chunk is not None
        assert self._joints.last is not None
        if not self._started:
            self._filter.start(self._joints.last.positions)
            self._position_before = self._filter.position
            self._check.reset()
            self._started = True
        if self._plan is None:
            self._plan = Plan(Rest(self._filter.position), self._grippers)
        if (self._chunk_is_new and self._plan.has_room) or not self._on_plan:
            self._chunk_is_new, self._on_plan, self._stopping = False, True, None
            curve = self._curve(self._filter.position, before)
            self._plan.hand_over(curve, before, self._settings.blend_s, self._limits)
            self.image_to_command_ms.append((moment.now_ns - self._chunk.stamp_ns) / 1e6)
        self.chunk_age_ms.append((moment.now_ns - self._chunk.stamp_ns) / 1e6)
        if self._run_began_ns is None:
            self._run_began_ns = moment.steady_ns
        if at.now_ns > self._stale_ns:
            self._enter(Rung.REMAINING, self._condemned or "no new chunk; following what remains of the last one")
        else:
            self._enter(Rung.FOLLOWING, "following the plan")

    def _descend(self, problem: str, moment: Moment) -> None:
        """Go down the ladder from where it stands."""
        if self.state.rung in MOVING:
            self.unasked_stops += 1
            self._new_epoch(moment.now_ns, Rung.DECELERATING, problem)
            return
        if self._since_ns is None:
            self._since_ns = moment.steady_ns
        waited_s = (moment.steady_ns - self._since_ns) / 1e9
        timeout_s = self._settings.hold_timeout_s
        if self._condemned is not None and self._filter.at_rest:
            self._enter(Rung.FAULT if self._started else Rung.IDLE, self._condemned)
        elif self.state.rung is Rung.DECELERATING and self._filter.at_rest:
            self._enter(Rung.HOLDING, problem)
        elif self.state.rung is Rung.HOLDING and waited_s > timeout_s:
            self._enter(Rung.FAULT, f"held for {timeout_s:g} s: {problem}")
        elif self.state.rung is Rung.ENGAGING and waited_s > timeout_s:
            self._enter(self._resting_rung, f"did not engage within {timeout_s:g} s: {problem}")
        elif problem != self.state.reason:
            self.state = replace(self.state, reason=problem)

    @property
    def _resting_rung(self) -> Rung:
        """Where it stands when it is not enabled."""
        return Rung.DISABLED if self._started else Rung.IDLE

    def _enter(self, rung: Rung, reason: str) -> None:
        if self.state.rung is not rung:
            self._since_ns = None
        if rung in (Rung.IDLE, Rung.DISABLED, Rung.FAULT):
            self._chunk = None
        if rung is Rung.FAULT and self.state.rung is not rung:
            self._may_retreat = self.state.enabled  # disabled, no measurement moves the arm
            self._left_behind = self._retreats = False
            reason += f"; {self.rivals}" if self.rivals else ""
        if (self.state.rung, self.state.reason) != (rung, reason):
            self.state = replace(self.state, rung=rung, reason=reason)

    def _new_epoch(self, now_ns: int, rung: Rung, reason: str) -> None:
        self._chunk = None
        self._epoch_began_ns = now_ns
        self._awaited = reason
        self._since_ns = None
        self._releasing = False
        self.state = FollowerState(rung=rung, epoch=self.state.epoch + 1, reason=reason)

    # -- The motion

    def _move(self, at: Moment, before: Moment) -> Vector | None:
        """The next set point of the plan, or of the way to rest."""
        if not self._started:
            return None
        if self.state.rung not in MOVING:
            if self._on_plan:
                self._stop(before)
            elif self.state.rung is Rung.FAULT:
                self._retreat(before)
        if self._plan is None or (self._stopping is not None and self._stopping.ended(before)):
            set_point = self._filter.brake()
        else:
            self._plan.settle(before)
            target = self._plan.sample(at)
            set_point = self._filter.follow(target, self._sampled_before(before), tighten=self._on_plan)
            self._sampled = self._plan, at, target
            self._watch_clamping(target, set_point, at)
        disabled = self.state.rung is Rung.DISABLED and self._settings.release_on_disable
        if (disabled or self._releasing) and self._filter.at_rest:
            self._fall_silent()
            self._enter(Rung.IDLE if disabled else Rung.FAULT, f"{self.state.reason}; released")
        return set_point

    def _fall_silent(self) -> None:
        """Send no more set points; the next one starts from the measured pose."""
        self._started = self._on_plan = self._releasing = self._left_behind = self._retreats = False
        self._plan = self._stopping = None

    def _sampled_before(self, before: Moment) -> Vector:
        """The plan a period ago: what it gave then, unless a period has been missed, or the clock corrected."""
        assert self._plan is not None
        plan, at, target = self._sampled
        if plan is self._plan and max(abs(before.now_ns - at.now_ns), abs(before.steady_ns - at.steady_ns)) < _SAME_NS:
            return target
        return self._plan.sample(before)

    def _retreat(self, before: Moment) -> None:
        """In a fault, lead the set point slowly to where the arm stands; stop when it does not stand there any more."""
        pose = self._joints.steady_pose(self._of_the_arm(before).steady_ns, self._settings.joint_states_timeout_s)
        if self._retreats and (pose is None or self._releasing):
            self._retreats = False
            self._stop(before)
        elif self._may_retreat and self._left_behind and pose is not None and self._filter.at_rest:
            self._left_behind, self._retreats = False, True
            target = np.where(self._grippers, self._filter.position, pose)  # a gripper keeps its grip
            self._stop(before, np.clip(target, self._filter.limits.lower, self._filter.limits.upper))

    def _stop(self, began: Moment, target: Vector | None = None) -> None:
        """Make the way to rest the plan: where the motion leads, or, slowly, to a pose."""
        self._on_plan = False
        state = MotionState(self._filter.position.copy(), self._filter.velocity, self._filter.acceleration)
        try:
            limits = self._limits if target is None else retreating(self._limits)
            self._stopping = ToRest(state, began, limits, target)
            self._plan = Plan(self._stopping, self._grippers)
        except ValueError:  # no such motion within the limits: the filter brakes as hard as they allow
            self._plan = self._stopping = None

    def _watch_clamping(self, target: Vector, set_point: Vector, at: Moment) -> None:
        """A plan that asks for more than the limits give, and that the arm does not catch up with, is a fault."""
        if self.state.rung not in MOVING:
            self._clamping.reset()
            return
        timeout_s = self._settings.clamp_timeout_s
        name = self._clamping.beyond_for(timeout_s, target, set_point, at.steady_ns)
        if name is not None:
            self.fail(f"for {timeout_s:g} s the plan has asked more of {name} than its limits allow")

    def _curve(self, reference: Vector, at: Moment) -> ChunkCurve:
        """The newest chunk, with continuous joints on the turn of a reference (D,) at that moment."""
        assert self._chunk is not None
        chunk = self._chunk
        if self._continuous.any():
            actions = chunk.actions.copy()
            actions[:, self._continuous] = np.unwrap(actions[:, self._continuous], axis=0)
            begin = Chunk(chunk.stamp_ns, chunk.period_ns, actions).sample(np.array([at.now_ns]))[0]
            chunk = replace(chunk, actions=actions + (nearest_turn(begin, reference, self._continuous) - begin))
        return ChunkCurve(chunk, self._grippers)
