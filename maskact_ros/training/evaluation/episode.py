"""One episode in simulated time: the simulated arm follows a planner's chunks as the action publisher would.

In: a world and a planner. Out: whether and when the task was solved. It runs as fast as possible: a chunk comes into
force a fixed latency after its capture, and set points are computed at the publisher's rate.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from maskact_ros.control.curves import Moment
from maskact_ros.control.follower import PlanFollower
from maskact_ros.control.joint_watch import Measured
from maskact_ros.control.ladder import FollowerSettings
from maskact_ros.core.chunk import Chunk
from maskact_ros.core.robot import RobotSpec
from maskact_ros.sim.expert import Expert
from maskact_ros.sim.scene import TIMESTEP_S
from maskact_ros.sim.world import HOME, Episode, Measurement, World

CONTROL_RATE_HZ = 100.0  # of set points and joint states; the nodes' default
CONTROL_STEPS = round(1.0 / CONTROL_RATE_HZ / TIMESTEP_S)  # physics steps between two set points
CONTROL_NS = round(1e9 / CONTROL_RATE_HZ)


class Planner(Protocol):
    """The planner of an episode."""

    def begin(self) -> None:
        """Forget the last episode; the world is at the start of the next one."""

    def plan(self, now_ns: int, measured: Measurement) -> Chunk | None:
        """A chunk planned from the present picture and joints, or None; called in every control period."""


def run_episode(
    world: World, planner: Planner, robot: RobotSpec, *, latency_s: float = 0.1, time_limit_s: float = 20.0
) -> Episode:
    """Drive `world` until success or the time limit; a chunk comes into force `latency_s` after its capture."""
    # Commands act at once here, so there is no lead.
    follower = PlanFollower(robot, rate_hz=CONTROL_RATE_HZ, settings=FollowerSettings(lead_s=0.0))
    follower.enable(-1)
    planner.begin()
    latency_ns = round(latency_s * 1e9)
    coming: deque[Chunk] = deque()
    command = HOME
    for now_ns in range(0, round(time_limit_s * 1e9), CONTROL_NS):
        measured = world.measure()
        chunk = planner.plan(now_ns, measured)
        if chunk is not None:
            coming.append(chunk)
        while coming and now_ns >= coming[0].stamp_ns + latency_ns:
            follower.offer(coming.popleft(), now_ns)
        follower.observe(Measured(measured.positions, now_ns, now_ns))
        set_point = follower.tick(Moment(now_ns, now_ns))
        command = command if set_point is None else set_point
        world.step(command, CONTROL_STEPS)
        if world.episode.success:
            break
    return world.episode


class ExpertPlanner:
    """The scripted expert, planning as a policy would: chunks of `points`, a new one every `every` policy periods."""

    def __init__(self, world: World, robot: RobotSpec, *, points: int = 20, every: int = 8) -> None:
        self._world, self._expert = world, Expert(robot)
        self._points, self._period_ns = points, robot.policy_period_ns
        self._every_ns = every * robot.policy_period_ns
        self._due_ns = 0

    def begin(self) -> None:
        """Plan from the first measurement."""
        self._due_ns = 0

    def plan(self, now_ns: int, measured: Measurement) -> Chunk | None:
        """A chunk from joints and poses, if one is due."""
        if now_ns < self._due_ns:
            return None
        self._due_ns += self._every_ns
        world = self._world
        actions = self._expert.rollout(
            measured.positions, measured.velocities, world.object_pose, world.bin_pose, self._points
        )
        return Chunk(stamp_ns=now_ns, period_ns=self._period_ns, actions=actions)
