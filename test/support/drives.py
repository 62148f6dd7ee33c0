"""What stock joint_trajectory_controllers would have sent to the drives, had they got what came on `command`.

In: trajectories as they were heard. Out: an assertion. Two controllers at 500 Hz, one for each setting of
`interpolate_from_desired_state`, each with an arm that lags 50 ms behind.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from maskact_ros.control.horizon import Horizon
from maskact_ros.core.robot import RobotSpec
from support.node_bench import Heard
from support.stock_controller import StockController, Trajectory

RATE_HZ, LAG_S = 500.0, 0.05
_NEAR_NS, _STEP_NS = (
    60_000_000,
    200_000,
)  # where the moment is looked for at which one trajectory goes over into the next
_ROUNDING = 1 + 1e-6


def assert_drives_keep_limits(heard: Sequence[Heard], robot: RobotSpec) -> None:
    """Each trajectory begins on the one before it; what goes to the drives is within limits and does not jitter."""
    lost = [i for i in range(1, len(heard)) if heard[i].number != heard[i - 1].number + 1]
    for begin, end in itertools.pairwise([0, *lost, len(heard)]):
        motion = heard[begin:end]
        shift_s = max((_shift_s(before, after, robot) for before, after in itertools.pairwise(motion)), default=0.0)
        for from_desired in (False, True):
            _assert_sent_within_limits(motion, robot, shift_s, from_desired)


def _shift_s(before: Heard, after: Heard, robot: RobotSpec) -> float:
    """By how much later, or earlier, a trajectory was sent than the one before it gets to where it begins."""
    horizon = _horizon(before.message)
    elapsed_ns = after.sent_ns - before.sent_ns
    position, velocity = (np.array(values) for values in _first(after.message))

    def off(at_ns: int) -> np.ndarray:
        return (position - horizon.at(at_ns).position) / robot.velocity

    near_ns = range(max(0, elapsed_ns - _NEAR_NS), elapsed_ns + _NEAR_NS, _STEP_NS)
    at_ns = min(near_ns, key=lambda at_ns: (np.abs(off(at_ns)).max(), abs(at_ns - elapsed_ns)))
    along = horizon.at(at_ns).velocity / robot.velocity
    if along @ along > 1e-8:
        at_ns += round(1e9 * (along @ off(at_ns)) / (along @ along))
    met = horizon.at(at_ns)
    names = f"the trajectory {after.number}, {elapsed_ns / 1e9:.4f} s after the one before it,"
    gap = np.abs(position - met.position)
    assert (gap <= 1e-5 * robot.velocity).all(), f"{names} begins {gap} away from that"
    change = np.abs(velocity - met.velocity)
    assert (change <= 0.02 * robot.velocity).all(), f"{names} begins at another velocity: {change}"
    return abs(at_ns - elapsed_ns) / 1e9 if along @ along > 1e-8 else 0.0


def _first(message) -> tuple[Sequence[float], Sequence[float]]:
    return message.points[0].positions, message.points[0].velocities


def _horizon(message) -> Horizon:
    step_ns = message.points[1].time_from_start.nanosec
    positions = np.array([point.positions for point in message.points])
    return Horizon(0, step_ns, positions, np.array([point.velocities for point in message.points]))


def _assert_sent_within_limits(motion: Sequence[Heard], robot: RobotSpec, shift_s: float, from_desired: bool) -> None:
    controller = StockController(robot.joint_names, rate_hz=RATE_HZ, interpolate_from_desired_state=from_desired)
    waiting = list(reversed(motion))
    now_ns = motion[0].sent_ns
    measured = np.array(_first(motion[0].message)[0])
    sent = [measured]
    share = 1 - math.exp(-1 / (RATE_HZ * LAG_S))
    for _ in range(round((motion[-1].sent_ns - now_ns) / 1e9 * RATE_HZ + 3 * RATE_HZ)):
        while waiting and waiting[-1].sent_ns <= now_ns:
            heard = waiting.pop()
            refusal = controller.receive(Trajectory.from_message(heard.message), now_ns)
            assert refusal is None, f"the trajectory {heard.number} is refused: {refusal}"
        sent.append(controller.update(now_ns, measured))
        measured = measured + share * (sent[-1] - measured)
        now_ns += controller.period_ns
    setting = f"with interpolate_from_desired_state {str(from_desired).lower()}"
    velocities = np.diff(np.array(sent), axis=0) * RATE_HZ
    # A message that comes so much later, and is looked for once an update, shifts the motion by as much.
    most = 1.0 + (shift_s + 1.0 / RATE_HZ) * RATE_HZ
    fastest = np.abs(velocities).max(axis=0) / robot.velocity
    assert (fastest <= most * _ROUNDING).all(), f"{setting}: {fastest} of the velocity limit, allowed {most:.2f}"
    print(f"{setting}: up to {shift_s * 1e3:.2f} ms off, {fastest.max():.3f} of a velocity limit")
    directions = np.where(np.abs(velocities) > 0.01 * robot.velocity, np.sign(velocities), 0.0)
    turns = max(int((np.diff(joint[joint != 0]) != 0).sum()) for joint in directions.T)
    seconds = len(sent) / RATE_HZ
    assert turns < 6.0 * seconds, f"{setting}: a joint turned {turns} times in {seconds:.1f} s"
    assert np.array_equal(sent[-1], sent[-2]), f"{setting}: its end is not at rest"
