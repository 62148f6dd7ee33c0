"""How often the expert solves the task: `python -m maskact_ros.sim.evaluate_expert --seeds 100 --shift camera`.

The expert drives the world as a policy would: from a chunk of set points, re-planned at a rate of its own from
measurements that are old by then, sampled at 100 Hz.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskact_ros.chunk import Chunk
from maskact_ros.errors import MaskACTError
from maskact_ros.paths import shared
from maskact_ros.robot import RobotSpec
from maskact_ros.sim.expert import Expert
from maskact_ros.sim.scene import TIMESTEP_S
from maskact_ros.sim.world import World

CONTROL_STEPS = 5  # of physics in a control period: 100 Hz
TIME_LIMIT_S = 20.0


@dataclass(frozen=True, eq=False)
class Run:
    """One episode: its outcome, and at each control period the set points and the true positions (T, D)."""

    success: bool
    seconds: float
    commands: NDArray[np.float64]
    positions: NDArray[np.float64]


def run_episode(world: World, expert: Expert, robot: RobotSpec, *, points: int, replan: int, latency_s: float) -> Run:
    """Drive `world` until success or the time limit, with a new chunk of `points` each `replan` policy periods.

    A chunk comes into force `latency_s` after the measurements it was planned from.
    """
    control_ns = round(CONTROL_STEPS * TIMESTEP_S * 1e9)
    latency_ns, replan_ns = round(latency_s * 1e9), replan * robot.policy_period_ns
    chunk = Chunk(stamp_ns=0, period_ns=robot.policy_period_ns, actions=world.joint_positions[None])
    coming: list[Chunk] = []
    next_plan_ns = 0
    commands, positions = [], []
    for now_ns in range(0, round(TIME_LIMIT_S * 1e9), control_ns):
        if now_ns >= next_plan_ns:
            joints = world.measure()
            actions = expert.rollout(joints.positions, joints.velocities, world.object_pose, world.bin_pose, points)
            coming.append(Chunk(stamp_ns=now_ns, period_ns=robot.policy_period_ns, actions=actions))
            next_plan_ns += replan_ns
        while coming and now_ns >= coming[0].stamp_ns + latency_ns:
            chunk = coming.pop(0)
        command = chunk.sample(np.array([now_ns + control_ns]))[0]
        world.step(command, CONTROL_STEPS)
        commands.append(command)
        positions.append(world.joint_positions)
        if world.episode.success:
            break
    episode = world.episode
    return Run(
        success=episode.success, seconds=episode.seconds, commands=np.array(commands), positions=np.array(positions)
    )


def main() -> None:
    """Print one line for each failure, and the rate of success last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--robot", type=Path, default=shared("config/robot.yaml"))
    parser.add_argument("--seeds", type=int, default=100, help="how many episodes, from seed 0 (100)")
    parser.add_argument("--shift", default="none", help="as World takes it, such as background+light (none)")
    parser.add_argument("--points", type=int, default=20, help="length of a chunk (20)")
    parser.add_argument("--replan", type=int, default=8, help="policy periods between two plans (8)")
    parser.add_argument("--latency", type=float, default=0.1, help="seconds from measurements to chunk (0.1)")
    arguments = parser.parse_args()
    try:
        robot = RobotSpec.from_yaml(arguments.robot)
        world, expert = World(robot, shift=arguments.shift), Expert(robot)
    except MaskACTError as error:
        parser.error(str(error))
    runs = []
    for seed in range(arguments.seeds):
        world.reset(seed)
        run = run_episode(
            world, expert, robot, points=arguments.points, replan=arguments.replan, latency_s=arguments.latency
        )
        runs.append(run)
        if not run.success:
            print(f"seed {seed}: not solved in {TIME_LIMIT_S:g} s")
    seconds = [run.seconds for run in runs if run.success] or [float("nan")]
    print(
        f"shift {arguments.shift}: {sum(run.success for run in runs)} of {len(runs)} solved, "
        f"in {min(seconds):.1f} to {max(seconds):.1f} s, median {np.median(seconds):.1f} s"
    )


if __name__ == "__main__":
    main()
