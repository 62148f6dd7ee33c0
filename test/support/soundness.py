"""Checks that hold for every message of the action publisher, whatever faults were injected.

In: the messages as they were heard. Out: an assertion that names the message, the joint and both values.
"""

import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Sequence

import numpy as np
import pytest

from maskact_ros.core.robot import RobotSpec
from support.node_bench import Heard, Probe, set_points, state_of

STALL_S = 0.099  # a publisher that stood still for 0.1 s starts again from rest
_ROUNDING = 1 + 1e-6


def assert_sound(
    commands: Sequence[Heard], robot: RobotSpec, *, rate_hz: float = 100.0, breaks: Sequence[int] = ()
) -> None:
    """Every command is finite, of the right size, and within limits, as are velocity and acceleration between them.

    From one command to the next the set point may move by one period's worth, however much later it comes: missed
    periods are not caught up. The commands at the indices `breaks` begin a motion of their own, as after the publisher
    was released, and so does the first of a process. What was lost on its way to the probe is known by its number.
    """
    for i, heard in enumerate(commands):
        assert len(heard.message.data) == len(robot.joints), f"command {i} has {len(heard.message.data)} numbers"
    restarts = [i for i in range(1, len(commands)) if commands[i].number <= commands[i - 1].number]
    for begin, end in itertools.pairwise(sorted({0, *breaks, *restarts, len(commands)})):
        _assert_motion(commands[begin:end], robot, rate_hz, begin)


def _assert_motion(commands: Sequence[Heard], robot: RobotSpec, rate_hz: float, offset: int) -> None:
    positions = set_points(commands)  # (T, D)
    periods = np.diff([heard.number for heard in commands])  # 1, or more where some were lost
    gaps_ns = np.diff([heard.sent_ns for heard in commands])
    assert_positions_sound(positions, robot, rate_hz=rate_hz, periods=periods, gaps_ns=gaps_ns, offset=offset)


def assert_positions_sound(
    positions: np.ndarray,
    robot: RobotSpec,
    *,
    rate_hz: float = 100.0,
    periods: np.ndarray | None = None,
    gaps_ns: np.ndarray | None = None,
    offset: int = 0,
) -> None:
    """The same of set points (T, D), each one period after the one before it unless `periods` (T - 1,) says otherwise.

    `gaps_ns` (T - 1,) are the times between them, as they were sent; `offset` is the number of the first one.
    """
    assert positions.ndim == 2
    assert positions.shape[1] == len(robot.joints)
    if periods is None:
        periods = np.ones(len(positions) - 1, dtype=int)
    if gaps_ns is None:
        gaps_ns = periods * 1e9 / rate_hz
    assert np.isfinite(positions).all(), f"not finite: command {offset + np.argwhere(~np.isfinite(positions))[0][0]}"
    centre, half = (robot.lower + robot.upper) / 2, (robot.upper - robot.lower) / 2
    _assert_within(positions - centre, half, robot, "position from the middle of its range", offset)
    velocities = np.diff(positions, axis=0) * rate_hz / periods[:, None]  # v[i] leads from i to i + 1
    _assert_within(velocities, robot.velocity, robot, "velocity", offset + 1)
    accelerations = np.diff(velocities, axis=0) * rate_hz  # a[i] happens at i + 1
    accelerations[(periods[:-1] > 1) | (periods[1:] > 1)] = 0.0  # unknown
    # After a stall of the publisher the arm has stopped: what counts there is the velocity reached from rest.
    for i in np.flatnonzero((gaps_ns[1:] > STALL_S * 1e9) & (periods[1:] == 1)):
        accelerations[i] = velocities[i + 1] * rate_hz
    try:
        _assert_within(accelerations, robot.acceleration, robot, "acceleration", offset + 1)
    except AssertionError as wrong:
        at = int(np.argmax((np.abs(accelerations) / robot.acceleration).max(axis=1)))
        gaps_ms = gaps_ns[max(0, at - 3) : at + 5] / 1e6
        about = velocities[max(0, at - 3) : at + 5].round(3).tolist()
        raise AssertionError(f"{wrong}; sent {gaps_ms.round(1).tolist()} ms apart, at velocities {about}") from None


def assert_sent_at(commands: Sequence[Heard], rate_hz: float) -> None:
    """Most commands were sent one period after the one before, by the publisher's own stamps, and none to catch up.

    A tenth is allowed to the whole, as the first of them may have been sent late.
    """
    sent_s = np.array([heard.sent_ns for heard in commands]) / 1e9
    intervals_s = np.diff(sent_s) / np.diff([heard.number for heard in commands])
    assert np.median(intervals_s) * rate_hz == pytest.approx(1.0, abs=0.05), "most intervals are no period"
    fastest_hz = (len(commands) - 1) / (sent_s[-1] - sent_s[0])
    assert fastest_hz < 1.1 * rate_hz, f"{len(commands)} commands at {fastest_hz:.1f} Hz: missed periods came after all"


def velocities_of(commands: Sequence[Heard], rate_hz: float = 100.0) -> np.ndarray:
    """From each set point to the next, (T - 1, D): over more than one period where some were lost."""
    periods = np.diff([heard.number for heard in commands])
    return np.diff(set_points(commands), axis=0) * rate_hz / periods[:, None]


def assert_ends_at_rest(commands: Sequence[Heard]) -> None:
    """The last command equals the one before it."""
    before, last = commands[-2:]
    assert last.message.data == before.message.data, "the last command is at rest"


def _assert_within(values: np.ndarray, limit: np.ndarray, robot: RobotSpec, what: str, offset: int) -> None:
    excess = np.abs(values) / (limit * _ROUNDING)
    if excess.size and excess.max() > 1.0:
        at, joint = np.unravel_index(np.argmax(excess), excess.shape)
        name = robot.joint_names[joint]
        raise AssertionError(
            f"{what} of {name} at command {offset + at}: {values[at, joint]:.4f}, limit {limit[joint]:g} "
            f"({int((excess > 1.0).sum())} values beyond)"
        )


def assert_stamps_increase(stamps_ns: Sequence[int], what: str) -> None:
    falls = [i for i, (before, after) in enumerate(itertools.pairwise(stamps_ns)) if after <= before]
    assert not falls, f"{what} {falls[0] + 1} has the stamp {stamps_ns[falls[0] + 1]} after {stamps_ns[falls[0]]}"


def periods_to_stop(robot: RobotSpec, rate_hz: float = 100.0) -> int:
    """Control periods that the slowest joint needs from full speed and acceleration to rest, its jerk limited."""
    limits = robot.limits
    seconds = (limits.velocity / limits.acceleration + 2 * limits.acceleration / limits.jerk).max()
    return math.ceil(seconds * rate_hz) + 3


def story(states: Sequence[Heard]) -> str:
    """What the publisher said of itself, for whoever reads a failure."""
    return "; ".join("{rung}: {reason}".format(**state_of(heard)) for heard in states)


def begin_index(commands: Sequence[Heard], state: Heard) -> int:
    """The index of the first command that was sent after the publisher said this of itself."""
    return next((i for i, heard in enumerate(commands) if heard.sent_ns >= state.sent_ns), len(commands))


def rest_index(commands: Sequence[Heard], begin: int) -> int | None:
    """The index of the first command, from `begin` on, that says the same as the one before it."""
    for i in range(max(begin, 1), len(commands)):
        if commands[i].message.data == commands[i - 1].message.data:
            return i
    return None


class Pulse:
    """How late the probe itself is: what a time measured with it may be off by on a loaded machine.

    A timer of the probe's executor, and a thread beside it, note by how much they come later than they should.
    """

    _PERIOD_S = 0.01

    def __init__(self, probe: Probe):
        self._late: deque[tuple[float, float]] = deque(maxlen=20_000)
        self._last_s = time.monotonic()
        self._closing = threading.Event()
        probe.every(self._PERIOD_S, self._beat)
        self._thread = threading.Thread(target=self._sleep, daemon=True)
        self._thread.start()

    def worst_s(self, since_s: float) -> float:
        """The greatest delay since a moment of the steady clock."""
        return max((late_s for at_s, late_s in list(self._late) if at_s >= since_s), default=0.0)

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    def _beat(self) -> None:
        now_s = time.monotonic()
        self._late.append((now_s, max(0.0, now_s - self._last_s - self._PERIOD_S)))
        self._last_s = now_s

    def _sleep(self) -> None:
        while not self._closing.is_set():
            due_s = time.monotonic() + self._PERIOD_S
            time.sleep(self._PERIOD_S)
            now_s = time.monotonic()
            self._late.append((now_s, max(0.0, now_s - due_s)))
