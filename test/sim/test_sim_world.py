"""The world keeps its promises: reproducible, a well-behaved arm, an honest verdict."""

import numpy as np
import pytest

from maskact_ros.sim.expert import OPEN, SQUEEZE
from maskact_ros.sim.kinematics import joints_for
from maskact_ros.sim.look import SHIFTS
from maskact_ros.sim.scene import BIN_FLOOR, BIN_HALF, CUBE_HALF, TRACKING_LAG_S
from maskact_ros.sim.world import HOME, World

CONTROL_S = 0.01
CONTROL_STEPS = 5


@pytest.fixture
def world(robot):
    return World(robot)


def in_the_bin(world, height=0.05):
    return np.array([*world.bin_pose[:2], height, 1.0, 0.0, 0.0, 0.0])


def test_same_seed_gives_the_same_motion_and_measurements(robot):
    def record(seed):
        world = World(robot, seed=seed)
        rows = []
        for i in range(30):
            world.step(HOME + 0.01 * i, CONTROL_STEPS)
            joints = world.measure()
            rows.append(np.concatenate([joints.positions, joints.velocities, world.object_pose, world.bin_pose]))
        return np.array(rows)

    first = record(3)
    np.testing.assert_array_equal(first, record(3))
    assert not np.array_equal(first, record(4))


def test_reset_returns_to_the_seed_whatever_happened_before(world):
    world.reset(5)
    before = world.object_pose
    world.step(HOME - 0.5, 300)
    world.reset(5)
    np.testing.assert_array_equal(world.object_pose, before)
    np.testing.assert_array_equal(world.joint_positions, HOME)
    assert (world.episode.number, world.episode.seed, world.episode.seconds) == (3, 5, 0.0)


@pytest.mark.parametrize("shift", SHIFTS)
def test_shifts_leave_the_task_as_it_is(robot, world, shift):
    shifted = World(robot, shift=shift)
    for each in (world, shifted):
        each.step(HOME, 100)
    np.testing.assert_array_equal(shifted.object_pose, world.object_pose)
    np.testing.assert_array_equal(shifted.bin_pose, world.bin_pose)


def test_cube_and_bin_start_apart_at_rest_and_unsolved(world):
    for seed in range(30):
        world.reset(seed)
        start = world.object_pose
        world.step(HOME, 50)
        assert np.linalg.norm(world.object_pose[:3] - start[:3]) < 1e-3
        assert np.abs(start[:2] - world.bin_pose[:2]).max() > BIN_HALF + 2 * CUBE_HALF
        assert not world.episode.success


def test_sensor_noise_is_small_there_and_can_be_left_out(robot, world):
    spread = np.std([world.measure().positions for _ in range(200)], axis=0)
    assert (spread > 1e-5).all()
    assert (spread < 1e-3).all()
    quiet = World(robot, noise=False)
    np.testing.assert_array_equal(quiet.measure().positions, quiet.joint_positions)
    np.testing.assert_array_equal(quiet.measure().velocities, quiet.joint_velocities)


def test_arm_holds_still_at_home(world):
    world.step(HOME, 1000)
    np.testing.assert_allclose(world.joint_positions, HOME, atol=1e-4)


@pytest.mark.parametrize("index", range(7))
def test_joint_trails_a_moving_set_point_by_the_lag_and_settles_without_overshoot(world, robot, index):
    speed = 0.3 * robot.velocity[index]
    direction = -1.0 if index == 6 else 1.0
    target = HOME.copy()
    errors, positions = [], []
    duration_s = 0.3 if index == 6 else 0.6
    for _ in range(round(duration_s / CONTROL_S)):
        target[index] = np.clip(target[index] + direction * speed * CONTROL_S, robot.lower[index], robot.upper[index])
        world.step(target, CONTROL_STEPS)
        errors.append(direction * (target[index] - world.joint_positions[index]))
    for _ in range(50):
        world.step(target, CONTROL_STEPS)
        positions.append(direction * world.joint_positions[index])
    assert errors[-1] == pytest.approx(speed * TRACKING_LAG_S, abs=0.4 * speed * TRACKING_LAG_S)
    assert max(positions) < direction * target[index] + 0.01 * speed
    assert abs(positions[-1] - direction * target[index]) < 1e-3


def test_jump_of_the_command_is_followed_at_the_speed_limit(world, robot):
    far = np.clip(HOME + np.array([1.2, 0.4, -1.2, -1.2, -1.2, 1.2, 0.01]), robot.lower, robot.upper)
    for _ in range(150):
        world.step(far, CONTROL_STEPS)
        assert (np.abs(world.joint_velocities) < 1.1 * robot.velocity).all()
    np.testing.assert_allclose(world.joint_positions, far, atol=2e-3)


def test_blocked_arm_stays_calm_and_does_not_lurch_when_freed(world, robot):
    into_the_table = np.array([-1.2, 1.6, 0.6, 1.0, 0.0, 0.0, 0.0])
    world.step(into_the_table, 1500)
    stuck = world.joint_positions
    assert np.abs(into_the_table - stuck)[:6].max() > 0.1, "the table has to be in the way"
    world.step(into_the_table, 500)
    assert np.abs(world.joint_velocities).max() < 0.05
    for _ in range(200):
        world.step(HOME, CONTROL_STEPS)
        assert (np.abs(world.joint_velocities) < 1.2 * robot.velocity)[:6].all()
    np.testing.assert_allclose(world.joint_positions, HOME, atol=2e-3)


def test_success_needs_the_cube_at_rest_in_the_bin(world):
    world.place_object(in_the_bin(world, height=0.3))
    world.step(HOME, 5)
    assert not world.episode.success, "it is still falling"
    world.step(HOME, 400)
    assert world.success()
    seconds = world.episode.seconds
    assert 0.01 < seconds <= world.time_s
    outside = in_the_bin(world)
    outside[0] += 0.15
    world.place_object(outside)
    world.step(HOME, 200)
    assert not world.success()
    assert world.episode.success, "a success, once seen, stays"
    assert world.episode.seconds == seconds


def test_success_needs_the_cube_to_be_let_go_of(world):
    cube = in_the_bin(world, height=BIN_FLOOR + CUBE_HALF)
    cube[3:] = (np.cos(np.arctan2(cube[1], cube[0]) / 2), 0, 0, np.sin(np.arctan2(cube[1], cube[0]) / 2))
    around_it = joints_for(cube[:3], roll=0.0)
    world.step(np.append(around_it, OPEN), 1500)
    world.place_object(cube)
    world.step(np.append(around_it, SQUEEZE), 300)
    assert world.joint_positions[-1] == pytest.approx(CUBE_HALF, abs=2e-3), "the cube is between the fingers"
    assert np.abs(world.object_pose[:3] - cube[:3]).max() < 0.01
    assert not world.episode.success
    world.step(np.append(around_it, OPEN), 300)
    assert world.episode.success
