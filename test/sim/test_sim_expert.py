"""The expert solves the task from chunks, smoothly, from old measurements, and after being disturbed."""

import numpy as np
import pytest

from maskact_ros.sim.expert import SQUEEZE, Expert
from maskact_ros.sim.world import HOME, World
from maskact_ros.training.evaluation.episode import ExpertPlanner, run_episode


@pytest.fixture(scope="module")
def expert(robot):
    return Expert(robot)


def advance(world, expert, seconds):
    """Closed loop: at each policy period, the expert's next set points."""
    for _ in range(round(seconds * 30)):
        joints = world.measure()
        world.step(expert.act(joints.positions, joints.velocities, world.object_pose, world.bin_pose), 17)


@pytest.mark.parametrize(
    ("points", "replan", "latency_s"), [(2, 1, 0.0), (20, 8, 0.1), (12, 6, 0.15), (24, 20, 0.1)], ids=str
)
def test_solves_the_task_however_it_is_planned(robot, points, replan, latency_s):
    for seed in (0, 1, 2):
        world = World(robot, seed=seed)
        planner = ExpertPlanner(world, robot, points=points, every=replan)
        episode = run_episode(world, planner, robot, latency_s=latency_s)
        assert episode.success
        assert 3.0 < episode.seconds < 12.0


@pytest.mark.parametrize("shift", ["none", "background+light+object+distractors+camera"])
def test_solves_other_seeds_under_shifts_too(robot, shift):
    for seed in range(100, 103):
        world = World(robot, seed=seed, shift=shift)
        assert run_episode(world, ExpertPlanner(world, robot), robot).success


def test_every_chunk_keeps_the_limits_and_starts_where_the_arm_is(robot, expert):
    world = World(robot, seed=4)
    for _ in range(60):
        joints = world.measure()
        path = expert.rollout(joints.positions, joints.velocities, world.object_pose, world.bin_pose, 30)
        assert (path >= robot.lower).all()
        assert (path <= robot.upper).all()
        speed = np.diff(path, axis=0) * robot.policy_rate_hz
        assert (np.abs(speed) <= robot.velocity).all()
        assert (np.abs(np.diff(speed, axis=0)) * robot.policy_rate_hz <= robot.acceleration).all()
        assert np.abs(path[0] - joints.positions)[:6].max() < 0.05
        for point in path[:3]:
            world.step(point, 17)
    assert world.episode.success


def test_new_chunk_continues_the_motion_of_the_old_one(robot, expert):
    world = World(robot, seed=2, noise=False)
    advance(world, expert, 0.8)  # in full motion towards the cube
    joints = world.measure()
    old = expert.rollout(joints.positions, joints.velocities, world.object_pose, world.bin_pose, 20)
    for point in old[:6]:
        world.step(point, 17)
    joints = world.measure()
    new = expert.rollout(joints.positions, joints.velocities, world.object_pose, world.bin_pose, 14)
    assert np.abs(joints.velocities).max() > 0.2
    np.testing.assert_allclose(new, old[6:], atol=0.02)


def test_long_rollout_foresees_the_whole_task(robot, expert):
    world = World(robot, seed=0)
    path = expert.rollout(world.joint_positions, world.joint_velocities, world.object_pose, world.bin_pose, 360)
    assert path[:, -1].min() == pytest.approx(SQUEEZE, abs=0.002)
    np.testing.assert_allclose(path[-1], HOME, atol=0.01)
    for point in path:
        world.step(point, 17)
    assert world.episode.success, "open loop, from the first measurement alone"


def test_rests_at_home_when_the_cube_is_in_the_bin(robot, expert):
    world = World(robot)
    world.place_object(np.array([*world.bin_pose[:2], 0.05, 1.0, 0.0, 0.0, 0.0]))
    world.step(HOME, 200)
    joints = world.joint_positions
    path = expert.rollout(joints, np.zeros(7), world.object_pose, world.bin_pose, 60)
    np.testing.assert_allclose(path, np.tile(HOME, (60, 1)), atol=1e-3)


@pytest.mark.parametrize("after_s", [1.0, 2.2, 4.0], ids=["approaching", "grasping", "carrying"])
def test_cube_moved_by_somebody_is_fetched_from_its_new_place(robot, expert, after_s):
    world = World(robot, seed=6)
    advance(world, expert, after_s)
    world.place_object(World(robot, seed=9).object_pose)
    assert run_episode(world, ExpertPlanner(world, robot), robot).success
