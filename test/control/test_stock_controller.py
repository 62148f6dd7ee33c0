"""Horizons as a stock joint_trajectory_controller runs them: what it sends to the drives keeps the robot's limits."""

import heapq
import itertools
import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from support.arms import robot
from support.stock_controller import NOTHING, Point, StockController, Trajectory

from maskact_ros.control.curves import Moment
from maskact_ros.control.follower import Measured
from maskact_ros.control.horizon import Horizon
from maskact_ros.control.ladder import FollowerSettings, Rung
from maskact_ros.control.trajectory_follower import TrajectoryFollower
from maskact_ros.core.chunk import Chunk
from maskact_ros.core.robot import Joint

MS = 1_000_000
ROBOT = robot(
    Joint(name="lift", lower=-1.2, upper=1.4, velocity=2.0, acceleration=12.0),
    Joint(name="turn", type="continuous", velocity=3.5, acceleration=25.0),
    Joint(name="grip", type="prismatic", lower=0.0, upper=0.04, velocity=0.2, acceleration=2.0, gripper=True),
)
HOME = np.array([0.3, -0.4, 0.02])
LAGS_S = (0.0, 0.02, 0.05, 0.1)
BEGAN = Moment(1_800_000_000 * 10**9, 100 * 10**9)


def message(horizon: Horizon) -> Trajectory:
    """As the node sends it."""
    points = [
        Point(i * horizon.period_ns, positions, velocities, NOTHING)
        for i, (positions, velocities) in enumerate(zip(horizon.positions, horizon.velocities, strict=True))
    ]
    return Trajectory(ROBOT.joint_names, tuple(points))


@dataclass
class Arm:
    """Drives that follow a stock controller's commands late: each by a first-order lag, or all by a dead time."""

    controller: StockController
    lag_s: float
    dead_time: bool = False
    velocity_state: bool = False  # whether the hardware measures velocities, too
    sent: list[np.ndarray] = field(default_factory=list)
    position: np.ndarray = field(default_factory=HOME.copy)
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(len(HOME)))

    def update(self, now_ns: int) -> None:
        period_s = self.controller.period_ns / 1e9
        self.sent.append(
            self.controller.update(now_ns, self.position, self.velocity if self.velocity_state else NOTHING)
        )
        if self.dead_time:
            after = self.sent[max(0, len(self.sent) - 1 - round(self.lag_s / period_s))]
        else:
            after = self.position + (self.sent[-1] - self.position) * (1 - math.exp(-period_s / max(self.lag_s, 1e-6)))
        self.position, self.velocity = after, (after - self.position) / period_s


class Cell:
    """A follower at one rate, and arms with stock controllers at another, in simulated time."""

    def __init__(self, arms: list[Arm], *, rate_hz: float, jitter_s: float = 0.0, seed: int = 0, **settings):
        self.arms, self.random, self.jitter_s = arms, np.random.default_rng(seed), jitter_s
        wished = {"engage_tolerance_s": 2.0, "clamp_timeout_s": 60.0} | settings
        self.follower = TrajectoryFollower(ROBOT, rate_hz=rate_hz, settings=FollowerSettings(**wished))
        self.steady_ns = BEGAN.steady_ns
        self.plans = True  # whether chunks come
        self.rungs: set[Rung] = set()
        self.decided: list[np.ndarray] = []  # set points
        self.alter = lambda trajectory: trajectory  # what is done to what is sent
        self.horizons: list[tuple[int, Horizon]] = []  # when sent
        self.targets = HOME.copy()
        self._on_their_way: list[tuple[int, int, Trajectory]] = []
        self._next_chunk_ns = self._update_ns = self.steady_ns
        self._numbers = itertools.count()

    @property
    def now_ns(self) -> int:
        return BEGAN.now_ns + self.steady_ns - BEGAN.steady_ns

    def run(self, seconds: float) -> None:
        """Periods at the follower's rate."""
        until_ns = self.steady_ns + round(seconds * 1e9)
        while self.steady_ns < until_ns:
            self.stand_still(self.follower.period_ns)
            self.tick()

    def stand_still(self, for_ns: int) -> None:
        """Time passes for the controllers, without a period of the follower."""
        # In whole updates, so that each horizon starts as long after it was sent as any other.
        self.steady_ns += round(for_ns / self.arms[0].controller.period_ns) * self.arms[0].controller.period_ns
        while self._update_ns <= self.steady_ns:
            self._update()

    def tick(self) -> None:
        """One period, begun now."""
        moment = Moment(self.now_ns, self.steady_ns)
        if self.plans and self.steady_ns >= self._next_chunk_ns:
            self._next_chunk_ns = self.steady_ns + 130 * MS
            self.follower.offer(self._chunk(), self.now_ns)
        self.follower.observe(Measured(self.arms[-1].position, self.now_ns, self.steady_ns))
        set_point = self.follower.tick(moment)
        self.rungs.add(self.follower.state.rung)
        if set_point is None:
            return
        self.decided.append(set_point)
        horizon = self.follower.horizon(moment)
        if horizon is not None:
            self.horizons.append((self.steady_ns, horizon))
            late_ns = round(self.random.uniform(0.0, self.jitter_s) * 1e9)
            heapq.heappush(
                self._on_their_way, (self.steady_ns + 1 + late_ns, next(self._numbers), self.alter(message(horizon)))
            )

    def _update(self) -> None:
        while self._on_their_way and self._on_their_way[0][0] <= self._update_ns:
            trajectory = heapq.heappop(self._on_their_way)[2]
            for arm in self.arms:
                assert arm.controller.receive(trajectory, self._update_ns) is None
        for arm in self.arms:
            arm.update(self._update_ns)
        self._update_ns += self.arms[0].controller.period_ns

    def _chunk(self) -> Chunk:
        """From about where the motion is to somewhere else, as a policy that has changed its mind would plan."""
        if self.random.random() < 0.25:
            low, high = np.array([-1.4, -4.0, 0.0]), np.array([1.6, 4.0, 0.04])
            self.targets = self.random.uniform(low, high)
        begin = self.arms[0].sent[-1] + self.random.normal(0.0, 0.01, len(HOME))
        way = (1 - np.exp(-np.arange(1, 41)[:, None] / 14)) * (self.targets - begin)
        jitter = self.random.normal(0.0, 0.002, (40, len(HOME)))
        return Chunk(self.now_ns - 60 * MS, 50 * MS, begin + way + jitter)


def turns(positions: list[np.ndarray], period_s: float) -> int:
    """How often a joint changes its direction; what is slower than a hundredth of its limit has none."""
    velocities = np.diff(np.array(positions), axis=0) / period_s
    directions = np.where(np.abs(velocities) > 0.01 * ROBOT.velocity, np.sign(velocities), 0.0)
    return sum(int((np.diff(joint[joint != 0]) != 0).sum()) for joint in directions.T)


@dataclass
class Found:
    """Of what went to the drives: velocity and acceleration as shares of the limits, and changes of direction."""

    velocity: float
    acceleration: float
    turns: int

    def __init__(self, arm: Arm):
        period_s = arm.controller.period_ns / 1e9
        velocities = np.diff(np.array(arm.sent), axis=0) / period_s
        self.velocity = float((np.abs(velocities) / ROBOT.velocity).max())
        self.acceleration = float((np.abs(np.diff(velocities, axis=0)) / period_s / ROBOT.acceleration).max())
        self.turns = turns(arm.sent, period_s)


def arms(controller_hz: float, lags_s=LAGS_S) -> list[Arm]:
    """One for each lag and each setting of the parameter; some measure velocities, some have a dead time."""
    return [
        Arm(
            StockController(ROBOT.joint_names, rate_hz=controller_hz, interpolate_from_desired_state=desired),
            lag_s,
            dead_time=number % 3 == 2,
            velocity_state=number % 2 == 1,
        )
        for desired in (False, True)
        for number, lag_s in enumerate(lags_s)
    ]


def the_whole_story(cell: Cell) -> None:
    """A minute: following, a hold, disabled and reset in motion, other limits and rates, late periods and stalls."""
    cell.run(0.5)
    cell.follower.enable(cell.now_ns)
    cell.run(14.0)
    cell.plans = False
    cell.run(4.0)
    assert cell.follower.state.rung is Rung.HOLDING
    cell.plans = True
    cell.run(7.0)
    for _ in range(4):
        cell.follower.disable("a pause")
        cell.run(1.0)
        cell.follower.enable(cell.now_ns)
        cell.run(2.0)
        cell.follower.reset(cell.now_ns)
        cell.run(1.5)
    usual_hz = cell.follower.rate_hz
    for rate_hz, share in ((0.5 * usual_hz, 1.0), (0.5 * usual_hz, 0.4), (usual_hz, 1.0)):
        limits = replace(ROBOT.limits, velocity=share * ROBOT.velocity, acceleration=share * ROBOT.acceleration)
        cell.follower.change(rate_hz=rate_hz, limits=limits)
        cell.run(2.0)
    for _ in range(6):
        cell.stand_still(round(cell.random.uniform(0.2, 3.5) * cell.follower.period_ns))
        cell.run(1.0)
    for stall_s in (0.13, 0.24, 1.7):
        cell.stand_still(round(stall_s * 1e9))
        cell.run(1.2)
    cell.follower.leave("the end")
    cell.run(1.5)


@pytest.mark.parametrize(
    ("rate_hz", "controller_hz", "lags_s"),
    [
        (50.0, 250.0, (0.07,)),
        pytest.param(100.0, 500.0, LAGS_S, marks=pytest.mark.extended),
        pytest.param(80.0, 400.0, (0.1,), marks=pytest.mark.extended),
    ],
)
def test_for_a_minute_the_drives_get_what_the_limits_allow_whatever_lag_and_setting(rate_hz, controller_hz, lags_s):
    cell = Cell(arms(controller_hz, lags_s), rate_hz=rate_hz)
    the_whole_story(cell)
    assert {Rung.FOLLOWING, Rung.HOLDING, Rung.DECELERATING, Rung.DISABLED, Rung.ENGAGING} <= cell.rungs
    assert Rung.FAULT not in cell.rungs, cell.follower.state.reason
    seconds = len(cell.arms[0].sent) / controller_hz
    assert seconds > 60.0
    own = turns(cell.decided, 1.0 / rate_hz)
    print(
        f"\n{rate_hz:g} Hz, controllers at {controller_hz:g} Hz: {len(cell.horizons) / seconds:.1f} horizons/s, {own}"
    )
    for arm in cell.arms:
        found = Found(arm)
        print(f"lag {arm.lag_s * 1e3:3.0f} ms", found)
        # The spline between two points has the filter's own acceleration, and starts where the last one had got to.
        assert found.velocity <= 1.0 + 1e-6
        assert found.acceleration <= 1.0 + 1e-6
        assert found.turns <= own
        assert np.array_equal(arm.sent[-1], cell.decided[-1])
    for (_, last), (now_ns, following) in itertools.pairwise(cell.horizons):
        where = last.at(now_ns)
        np.testing.assert_allclose(following.positions[0], where.position, rtol=0, atol=1e-12)
        np.testing.assert_allclose(following.velocities[0], where.velocity, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("controller_hz", "jitter_s"), [(500.0, 0.001), (250.0, 0.002), (1000.0, 0.004)])
def test_a_message_that_comes_late_shifts_the_motion_by_as_much_and_by_no_more(controller_hz, jitter_s):
    cell = Cell(arms(controller_hz, (0.05,)), rate_hz=100.0, jitter_s=jitter_s)
    cell.follower.enable(cell.now_ns)
    cell.run(8.0)
    shift_s = jitter_s + 1.0 / controller_hz  # a controller looks for messages once an update
    for arm in cell.arms:
        print(f"\n{controller_hz:g} Hz, up to {jitter_s * 1e3:g} ms late:", Found(arm))
        steps = np.abs(np.diff(np.array(arm.sent), axis=0))
        assert (steps <= ROBOT.velocity * (1.0 / controller_hz + shift_s) + 1e-9).all()


def without_the_first_point(trajectory: Trajectory) -> Trajectory:
    return replace(trajectory, points=trajectory.points[1:])


@pytest.mark.parametrize("lag_s", [0.02, 0.05, 0.1])
def test_without_the_first_point_the_stand_in_does_what_stock_controllers_did(lag_s):
    cell = Cell(arms(500.0, (lag_s,)), rate_hz=100.0)
    cell.alter = without_the_first_point
    cell.follower.enable(cell.now_ns)
    cell.run(10.0)
    from_measured, from_desired = map(Found, cell.arms)
    print(f"\nlag {lag_s * 1e3:g} ms, without the first point:", from_measured, from_desired)
    assert from_measured.velocity > 3.0
    assert from_measured.acceleration > 100.0
    assert from_measured.turns > 20 * 10 * len(ROBOT.joints)
    assert from_desired.velocity < from_measured.velocity


# -- The stand-in itself


def trajectory(**changes) -> Trajectory:
    points = [Point(i * 20 * MS, HOME + 0.01 * i, np.zeros(3), NOTHING) for i in range(3)]
    for what, value in changes.items():
        points[2] = replace(points[2], **{what: value})
    return Trajectory(ROBOT.joint_names, tuple(points))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (replace(trajectory(), joint_names=("lift", "turn")), "it has 2 joints, the controller 3"),
        (replace(trajectory(), joint_names=("lift", "turn", "knee")), "['knee'] are none of the controller's"),
        (replace(trajectory(), points=()), "it has no points"),
        (trajectory(velocities=np.full(3, 1e-5)), "its last velocity is"),
        (trajectory(due_ns=20 * MS), "point 2 is not due after the one before it"),
        (trajectory(positions=np.zeros(2)), "point 2 has 2 positions"),
        (trajectory(velocities=np.zeros(2)), "point 2 has 2 velocities"),
        (trajectory(accelerations=np.zeros(4)), "point 2 has 4 accelerations"),
        (replace(trajectory(), stamp_ns=5), "it ends in the past"),
    ],
)
def test_the_stand_in_refuses_what_the_controller_refuses(wrong, reason):
    controller = StockController(ROBOT.joint_names, rate_hz=200.0)
    assert reason in controller.receive(wrong, 10**9)
    assert controller.receive(trajectory(), 10**9) is None


def test_the_stand_in_may_be_told_to_allow_a_velocity_at_the_end():
    moving = trajectory(velocities=np.full(3, 0.3))
    relaxed = StockController(ROBOT.joint_names, rate_hz=200.0, allow_nonzero_velocity_at_trajectory_end=True)
    assert relaxed.receive(moving, 10**9) is None


@pytest.mark.parametrize("degree", [1, 3, 5])
def test_the_stand_in_goes_along_the_polynomial_that_the_fields_give_and_holds_the_last_point(degree):
    motion = np.polynomial.Polynomial([0.3, -0.2, 0.9, 0.5, -2.0, 1.5][: degree + 1])
    values = [lambda t, k=k: np.array([motion.deriv(k)(t) if k else motion(t)]) for k in range(3)]
    given = values[: (degree + 1) // 2]
    points = tuple(
        Point(due_ms * MS, *(v(due_ms / 1e3) for v in given), *[NOTHING] * (3 - len(given))) for due_ms in (0, 30, 90)
    )
    controller = StockController(["one"], rate_hz=1000.0, allow_nonzero_velocity_at_trajectory_end=True)
    controller.update(0, np.array([7.0]))
    controller.receive(Trajectory(("one",), points), 0)
    for now_ms in range(1, 90):
        (sent,) = controller.update(now_ms * MS, np.array([7.0]))
        assert sent == pytest.approx(motion(now_ms / 1e3), abs=1e-12)
    assert controller.update(200 * MS, np.array([7.0])) == motion(0.09)


@pytest.mark.parametrize(("from_desired", "begins_at"), [(False, 7.0), (True, 0.5)])
def test_the_stand_in_goes_to_a_later_first_point_from_where_the_parameter_says(from_desired, begins_at):
    controller = StockController(["one"], rate_hz=1000.0, interpolate_from_desired_state=from_desired)
    controller.update(0, np.array([0.5]))
    controller.receive(Trajectory(("one",), (Point(10 * MS, np.array([1.5]), NOTHING, NOTHING),)), 0)
    sent = [controller.update((1 + i) * MS, np.array([7.0]))[0] for i in range(11)]
    # The last command was due an update after it was sent; a way from there began with the update that sent it.
    share = 2 / 11 if from_desired else 1 / 10
    assert sent[0] == pytest.approx(begins_at + share * (1.5 - begins_at))
    assert sent[-1] == 1.5
