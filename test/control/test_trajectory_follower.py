"""Horizons: when one is sent, where it begins, that it is where the plan is, and that it ends at rest."""

import itertools

import numpy as np
import pytest
from support.arms import ARM
from support.stock_controller import NOTHING, Point, spline

from maskact_ros.control.curves import Moment
from maskact_ros.control.follower import Measured
from maskact_ros.control.horizon import Horizon
from maskact_ros.control.ladder import FollowerSettings, Rung
from maskact_ros.control.trajectory_follower import TrajectoryFollower
from maskact_ros.core.chunk import Chunk

MS = 1_000_000
HOME = np.array([0.5, 0.0])


class Rig:
    """A follower in a time of its own; the arm is where the controller is told to be."""

    def __init__(self, *, rate_hz: float = 100.0, **settings):
        settings = {"engage_tolerance_s": 100.0} | settings
        self.follower = TrajectoryFollower(ARM, rate_hz=rate_hz, settings=FollowerSettings(**settings))
        self.moment = Moment(1_800_000_000 * 10**9, 100 * 10**9)
        self.pose = HOME
        self.last: Horizon | None = None

    def tick(self, periods: int = 1) -> list[Horizon | None]:
        """What is sent in each of so many periods."""
        sent = []
        for _ in range(periods):
            self.moment = self.moment.later(self.follower.period_ns)
            if self.last is not None:
                self.pose = self.last.at(self.moment.steady_ns).position
            self.follower.observe(Measured(self.pose, *self.moment[:2]))
            set_point = self.follower.tick(self.moment)
            sent.append(None if set_point is None else self.follower.horizon(self.moment))
            self.last = sent[-1] or self.last
        return sent

    def ramp(self, speed: float, seconds: float = 3.0) -> Chunk:
        """Offer a chunk that goes on from the pose at one speed."""
        times_s = np.arange(1, 1 + round(seconds / 0.05))[:, None] * 0.05
        chunk = Chunk(self.moment.now_ns - 1, 50 * MS, self.pose + times_s * speed * np.array([1.0, -1.0]))
        self.follower.offer(chunk, self.moment.now_ns)
        return chunk

    def moving(self) -> Chunk:
        """Enabled, and following a ramp at a speed that is reached."""
        self.follower.enable(self.moment.now_ns - 2)
        self.tick()
        chunk = self.ramp(0.3)
        self.tick(round(0.6 * self.follower.rate_hz))
        assert self.follower.state.rung is Rung.FOLLOWING
        return chunk


def test_the_first_horizon_begins_at_rest_where_the_arm_is_measured():
    rig = Rig()
    rig.follower.enable(rig.moment.now_ns - 2)
    assert rig.tick(3) == [None] * 3
    rig.ramp(0.3)
    (first,) = rig.tick()
    np.testing.assert_array_equal(first.positions[0], HOME)
    np.testing.assert_array_equal(first.velocities[0], 0.0)


@pytest.mark.parametrize(("rate_hz", "periods"), [(100.0, 5), (60.0, 3), (20.0, 1), (10.0, 1)])
def test_while_the_plan_stays_the_same_one_is_sent_each_twentieth_of_a_second(rate_hz, periods):
    rig = Rig(rate_hz=rate_hz)
    rig.moving()
    sent = [horizon is not None for horizon in rig.tick(6 * periods)]
    assert sum(sent) == 6
    assert sent[:periods].index(True) == sent[periods : 2 * periods].index(True)


@pytest.mark.parametrize("rate_hz", [100.0, 40.0])
def test_it_is_where_the_plan_is_at_each_moment_and_then_ends_at_rest(rate_hz):
    rig = Rig(rate_hz=rate_hz)
    chunk = rig.moving()
    horizon = rig.last
    for late_ns in (0, 3 * MS, 130 * MS, 240 * MS):
        state = horizon.at(horizon.began_ns + late_ns)
        now_ns = horizon.began_ns + late_ns + rig.moment.now_ns - rig.moment.steady_ns
        np.testing.assert_allclose(state.position, chunk.sample(np.array([now_ns]))[0], rtol=0, atol=1e-6)
        np.testing.assert_allclose(state.velocity, [0.3, -0.3], rtol=1e-6)
    assert not horizon.velocities[-1].any()
    end = horizon.at(horizon.began_ns + 10**10)
    np.testing.assert_array_equal(end.position, horizon.positions[-1])
    assert not end.velocity.any()
    assert not end.acceleration.any()


@pytest.mark.parametrize("after", range(5))
@pytest.mark.parametrize("what", ["disable", "leave", "reset"])
def test_a_stop_is_sent_in_the_period_in_which_it_is_decided(what, after):
    rig = Rig()
    rig.moving()
    rig.tick(after)
    getattr(rig.follower, what)(rig.moment.now_ns if what == "reset" else "enough")
    # Its jerk is limited, so that it takes a period or two until it differs.
    early = [horizon for horizon in rig.tick(2) if horizon is not None]
    assert early
    assert len(early[-1].positions) < 45
    assert (np.abs(early[-1].positions[-1] - early[-1].positions[0]) < 0.06).all()
    before = rig.last
    rig.tick(60)
    assert rig.follower.at_rest
    np.testing.assert_allclose(rig.last.positions[-1], before.positions[-1], rtol=0, atol=1e-3)


def test_at_rest_the_same_point_is_held_to_the_last_bit():
    rig = Rig()
    rig.moving()
    rig.follower.disable("enough")
    rig.tick(100)
    held = rig.last.positions[-1].copy()
    for horizon in filter(None, rig.tick(50)):
        assert (horizon.positions == held).all()
        assert not horizon.velocities.any()


def test_released_it_sends_nothing_and_begins_anew_where_the_arm_is_measured():
    rig = Rig(release_on_disable=True)
    rig.moving()
    rig.follower.disable("to teleoperation")
    rig.tick(100)
    assert rig.follower.state.rung is Rung.IDLE
    rig.last, left, moved = None, rig.pose, np.array([-0.4, 2.0])
    for share in np.linspace(0.0, 1.0, 300):  # by hand
        rig.pose = left + share * (moved - left)
        assert rig.tick() == [None]
    rig.tick(30)
    rig.follower.enable(rig.moment.now_ns)
    rig.tick(2)
    rig.ramp(0.2)
    (first,) = rig.tick()
    np.testing.assert_array_equal(first.positions[0], [-0.4, 2.0])
    assert not first.velocities[0].any()


@pytest.mark.parametrize("stall_ms", [35, 90, 150, 333, 2000])
def test_after_a_stall_it_goes_on_from_where_the_horizon_has_brought_the_controller(stall_ms):
    rig = Rig()
    rig.moving()
    rig.moment = rig.moment.later(stall_ms * MS)
    where = rig.last.at(rig.moment.steady_ns + rig.follower.period_ns)
    before = rig.last
    rig.tick()
    if rig.last is before:  # it says still what is to happen
        rig.tick(5)
        where = before.at(rig.last.began_ns)
    np.testing.assert_allclose(rig.last.positions[0], where.position, rtol=0, atol=1e-12)
    np.testing.assert_allclose(rig.last.velocities[0], where.velocity, rtol=0, atol=1e-9)
    assert rig.follower.stalls == (stall_ms > 90)


def test_a_period_that_came_too_late_to_send_anything_changes_nothing():
    rig = Rig()
    rig.moving()
    before = rig.last
    rig.moment = rig.moment.later(rig.follower.period_ns)
    rig.follower.disable("enough")
    rig.follower.tick(rig.moment)
    rig.follower.retract()
    rig.moment = rig.moment.later(180 * MS)
    (after,) = rig.tick()
    np.testing.assert_allclose(after.positions[0], before.at(after.began_ns).position, rtol=0, atol=1e-12)


def test_after_a_bug_it_brakes_from_where_the_controller_is_as_hard_as_the_limits_allow():
    rig = Rig()
    rig.moving()
    sent = [rig.last]
    for _ in range(40):
        rig.moment = rig.moment.later(rig.follower.period_ns)
        assert rig.follower.brake() is not None
        horizon = rig.follower.horizon(rig.moment)
        if horizon is not None:
            met = sent[-1].at(horizon.began_ns)
            np.testing.assert_allclose(horizon.positions[0], met.position, rtol=0, atol=1e-12)
            np.testing.assert_allclose(horizon.velocities[0], met.velocity, rtol=0, atol=1e-9)
            sent.append(horizon)
    assert len(sent[1].positions) == 8  # at once, and from 0.3 rad/s to rest in six periods
    assert len(sent) == 1 + 8
    assert rig.follower.at_rest


def test_between_its_points_the_controllers_cubic_has_one_acceleration_within_limits_and_is_what_it_says():
    random = np.random.default_rng(3)
    rig = Rig()
    rig.moving()
    rig.follower.disable("enough")
    rig.tick(3)
    horizon = rig.last
    points = [Point(0, p, v, NOTHING) for p, v in zip(horizon.positions, horizon.velocities, strict=True)]
    period_s = horizon.period_ns / 1e9
    for i, (begin, end) in enumerate(itertools.pairwise(points)):
        coefficients = spline(begin, end, period_s)
        assert (np.abs(coefficients[3]) * period_s**3 < 1e-12).all()
        assert (np.abs(2 * coefficients[2]) <= ARM.acceleration * (1 + 1e-9)).all()
        share = random.random()
        state = horizon.at(horizon.began_ns + round((i + share) * horizon.period_ns))
        t = share * period_s
        np.testing.assert_allclose(state.position, coefficients.T @ [1, t, t**2, t**3], rtol=0, atol=1e-7)
