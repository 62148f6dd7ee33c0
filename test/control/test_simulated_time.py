"""The follower in simulated time: whatever /clock is like, the plan is followed without a stop, within the limits."""

import numpy as np
import pytest
from support.arms import ARM
from support.motion import MotionWatch
from support.simulated_time import MS, S, Simulation, loop_of

from maskact_ros.control.curves import Moment
from maskact_ros.control.follower import PlanFollower
from maskact_ros.control.joint_watch import Measured
from maskact_ros.control.ladder import FollowerSettings, Rung
from maskact_ros.control.plan_clock import PlanClock
from maskact_ros.core.chunk import Chunk

POINT_NS = 50 * MS
SETTLED_NS = 2 * S  # by then the pace is known, also of a clock that ticks every half a second
LAG_NS = 80 * MS  # of the simulated arm, in its own time


def swing(times_ns):
    """Where the plan leads (T, 2): both joints swing, with a period of five seconds."""
    phase = 2 * np.pi * np.asarray(times_ns) / (5 * S)
    return np.stack([0.4 + 0.25 * np.sin(phase), 0.5 * np.sin(phase)], axis=-1)


class Robot:
    """Follows a simulated arm for as long as the simulation lasts; everything is stamped in simulated time."""

    def __init__(self, simulation, random, *, rate_hz=100, chunk_age_ns=30 * MS, coarse_stamps=False):
        self.simulation, self.random = simulation, random
        self.rate_hz, self.chunk_age_ns, self.coarse = rate_hz, chunk_age_ns, coarse_stamps
        settings = FollowerSettings(engage_tolerance_s=100.0, fresh_s=1.5, lead_s=0.01)
        self.follower = PlanFollower(ARM, rate_hz=rate_hz, settings=settings)
        self.clock = PlanClock()
        self.reasons: list[str] = []  # why it did not follow, once it had begun
        self.sent: list[tuple[float, np.ndarray]] = []  # the simulation's time, and the set point then

    def stamp_ns(self, at_ns):
        return self.simulation.reading(at_ns) if self.coarse else int(self.simulation.true(at_ns))

    def run(self):
        watch, follower = None, self.follower
        measured_true_ns = planned_true_ns = -S
        for due_ns, woken_ns in loop_of(self.simulation, self.random, self.rate_hz):
            steady_ns = 100 * S + woken_ns
            now_ns = self.clock.read(self.simulation.reading(woken_ns), steady_ns, 100 * S + due_ns)
            moment = Moment(now_ns, 100 * S + due_ns, self.clock.off_ns)
            true_ns = self.simulation.true(woken_ns)
            if true_ns >= measured_true_ns + 10 * MS:  # a hundred times a second, as a simulation counts them
                measured_true_ns = true_ns
                pose = self.lagging(true_ns)
                follower.observe(Measured(pose, self.stamp_ns(woken_ns), steady_ns))
            if due_ns >= SETTLED_NS and not follower.state.enabled and not self.reasons:
                follower.enable(now_ns)
            if true_ns >= planned_true_ns + 200 * MS and due_ns >= SETTLED_NS:
                planned_true_ns = true_ns
                stamp_ns = self.stamp_ns(woken_ns) - self.chunk_age_ns
                actions = swing(stamp_ns + POINT_NS * np.arange(1, 61))
                follower.offer(Chunk(stamp_ns, POINT_NS, actions), self.clock.at(steady_ns), self.clock.off_ns)
            set_point = follower.tick(moment, "the clock stands still" if self.clock.stands(steady_ns) else None)
            if set_point is not None:
                watch = watch or MotionWatch(ARM, 1.0 / self.rate_hz, follower._joints.last.positions)
                watch.take(set_point)
                self.sent.append((self.simulation.true(due_ns), set_point))
                if follower.state.rung is not Rung.FOLLOWING:
                    self.reasons.append(f"{due_ns / S:.2f} s: {follower.state.rung}: {follower.state.reason}")
        assert self.sent, f"it never began: {follower.state.reason}"
        return self

    def lagging(self, true_ns):
        """Where the arm is: where it was told to be a little while ago, in its own time."""
        if not self.sent:
            return swing(50 * S)
        return next((pose for at_ns, pose in reversed(self.sent) if at_ns <= true_ns - LAG_NS), self.sent[0][1])

    def error(self):
        """How far (T,) the set points were from the plan, once they had caught up with it."""
        began_ns = self.sent[0][0] + 2 * S
        at_ns = np.array([at_ns for at_ns, _ in self.sent if at_ns > began_ns])
        set_points = np.array([pose for at_ns, pose in self.sent if at_ns > began_ns])
        return np.abs(set_points - swing(at_ns + 10 * MS)).max(axis=1)


@pytest.mark.parametrize("own_time", [False, True], ids=["by the steady clock", "by its own time"])
@pytest.mark.parametrize("pace", [0.2, 0.3, 1.0, 1.7])
@pytest.mark.parametrize("rate_hz", [10, 13, 250])
def test_the_plan_is_followed_without_a_stop_at_any_tick_rate_and_pace(rate_hz, pace, own_time):
    random = np.random.default_rng(round(rate_hz * pace))
    simulation = Simulation(random, rate_hz=rate_hz, paces=[pace], seconds=7.0 + 3.0 / pace, own_time=own_time)
    robot = Robot(simulation, random, chunk_age_ns=int(random.integers(0, 60)) * MS).run()
    assert robot.reasons == []
    assert robot.follower.chunks_refused <= 1  # the first one, if its image is from before enabling
    # Both joints move at less than 0.65 rad a simulated second.
    assert robot.error().max() < 0.65 * (simulation.tick_ns * 0.25 + pace * 25 * MS) / S + 2e-3


@pytest.mark.parametrize("pace", [0.3, 1.0, 2.5])
def test_stamps_of_a_coarse_clock_are_not_old_and_those_of_the_simulation_are_not_of_the_future(pace):
    for coarse in (True, False):
        random = np.random.default_rng(5)
        simulation = Simulation(random, rate_hz=10, paces=[pace], seconds=12.0)
        robot = Robot(simulation, random, chunk_age_ns=0, coarse_stamps=coarse).run()
        assert robot.reasons == []


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("paces", [(1.0, 0.2, 1.5), (0.4, 1.8), (1.0, 0.0)], ids=["slows", "speeds up", "pauses"])
@pytest.mark.parametrize("rate_hz", [10, 1000])
def test_when_the_pace_changes_and_ticks_come_in_bursts_the_plan_is_followed_on(rate_hz, paces, seed):
    random = np.random.default_rng(seed)
    simulation = Simulation(
        random, rate_hz=rate_hz, paces=paces, change_s=random.uniform(0.2, 0.35), seconds=10.0, bursts=0.03
    )
    robot = Robot(simulation, random, rate_hz=int(random.choice([50, 100, 250]))).run()
    assert robot.reasons == []
