"""Pictures and their true masks: reproducible, aligned, and changed by a shift in what it names and nothing else."""

import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from maskact_ros.sim import SimError
from maskact_ros.sim.look import SHIFTS, parse_shifts
from maskact_ros.sim.renderer import Renderer, intrinsics
from maskact_ros.sim.scene import CLASS_NAMES, build
from maskact_ros.sim.world import HOME, World

CONFIG = Path(__file__).parents[2] / "config"
BACKGROUND, ROBOT, CUBE, BIN = range(len(CLASS_NAMES))


def start(robot, seed=0, shift="none"):
    return World(robot, seed=seed, shift=shift).snapshot()


def changed(first, second):
    """The share of pixels that differ by more than noise."""
    return np.mean(np.abs(first.astype(int) - second.astype(int)).max(axis=2) > 40)


def test_same_seed_gives_the_same_pictures_bit_for_bit(robot, renderer):
    def pictures(drawn_by):
        world = World(robot, seed=7, shift="+".join(SHIFTS))
        taken = []
        for _ in range(3):
            world.step(HOME - 0.2, 16)
            taken += [drawn_by.rgb(world.snapshot()), drawn_by.labels(world.snapshot())]
        return taken

    first = pictures(renderer)
    with Renderer(robot) as fresh:
        for mine, other in zip(first, pictures(fresh), strict=True):
            np.testing.assert_array_equal(mine, other)
    assert not np.array_equal(first[0], first[2])


def test_picture_and_mask_have_the_size_and_type_of_the_camera(robot, renderer):
    camera = robot.only_camera
    picture, labels = renderer.rgb(start(robot)), renderer.labels(start(robot))
    assert (picture.shape, picture.dtype) == ((camera.height, camera.width, 3), np.uint8)
    assert (labels.shape, labels.dtype) == ((camera.height, camera.width), np.uint8)


def test_every_class_is_in_clear_view_at_the_start(robot, renderer):
    for seed in range(10):
        counts = np.bincount(renderer.labels(start(robot, seed)).ravel(), minlength=len(CLASS_NAMES))
        assert (counts[[ROBOT, CUBE, BIN]] > (8000, 600, 4000)).all(), counts


def test_mask_of_the_cube_covers_the_cubes_colour(robot, renderer):
    picture, labels = renderer.rgb(start(robot)).astype(int), renderer.labels(start(robot))
    orange = (picture[:, :, 0] > 110) & (picture[:, :, 2] < 90) & (picture[:, :, 0] > 2 * picture[:, :, 1])
    both = (orange & (labels == CUBE)).sum()
    assert both / (orange | (labels == CUBE)).sum() > 0.9


def test_intrinsics_project_the_cube_to_the_middle_of_its_mask(robot, renderer):
    world = World(robot)
    rows, columns = np.nonzero(renderer.labels(world.snapshot()) == CUBE)
    model = build(robot)
    right, up, back = model.cam_mat0[0].reshape(3, 3).T
    ray = world.object_pose[:3] - model.cam_pos[0]
    optical = np.array([right @ ray, -up @ ray, -back @ ray])
    pixel = intrinsics(robot) @ (optical / optical[2])
    np.testing.assert_allclose(pixel[:2], (columns.mean(), rows.mean()), atol=3)


def test_noise_is_there_changes_with_time_and_can_be_left_out(robot, renderer):
    world = World(robot)
    first = renderer.rgb(world.snapshot())
    world.step(HOME, 1)
    second = renderer.rgb(world.snapshot())
    corner = np.s_[:60, :150]  # plain floor
    assert 1.0 < first[corner].astype(float).std(axis=(0, 1)).mean() < 5.0
    assert not np.array_equal(first[corner], second[corner])
    with Renderer(robot, noise=False) as clean:
        np.testing.assert_array_equal(clean.rgb(world.snapshot())[corner], clean.rgb(start(robot))[corner])


@pytest.mark.parametrize("shift", ["background", "light", "object", "distractors"])
def test_shift_changes_the_picture_and_leaves_the_mask(robot, renderer, shift):
    plain, shifted = start(robot), start(robot, shift=shift)
    assert changed(renderer.rgb(plain), renderer.rgb(shifted)) > 0.001
    np.testing.assert_array_equal(renderer.labels(plain), renderer.labels(shifted))
    assert changed(renderer.rgb(plain), renderer.rgb(start(robot))) == 0, "the plain look comes back"


def test_object_shift_recolours_the_cube_alone(robot, renderer):
    cube = cv2.dilate((renderer.labels(start(robot)) == CUBE).astype(np.uint8), np.ones((5, 5), np.uint8)) == 1
    plain, shifted = renderer.rgb(start(robot)), renderer.rgb(start(robot, shift="object"))
    differ = np.abs(plain.astype(int) - shifted.astype(int)).max(axis=2) > 40
    assert differ[cube].mean() > 0.5
    assert not differ[~cube].any()


def test_camera_shift_moves_picture_and_mask_together(robot, renderer):
    for seed in range(5):
        plain = np.argwhere(renderer.labels(start(robot, seed)) == CUBE).mean(axis=0)
        moved = np.argwhere(renderer.labels(start(robot, seed, "camera")) == CUBE).mean(axis=0)
        assert 2 < np.linalg.norm(plain - moved) < 120


def test_each_seed_draws_a_shift_of_its_own_and_combining_changes_none(robot):
    looks = {start(robot, seed, "light").look.light_direction for seed in range(5)}
    assert len(looks) == 5
    alone, together = start(robot, 1, "light").look, start(robot, 1, "background+light").look
    assert alone.light_rgb == together.light_rgb
    assert together.table_rgb != alone.table_rgb


def test_distractors_keep_clear_of_cube_and_bin(robot):
    for seed in range(20):
        world = World(robot, seed=seed, shift="distractors")
        for distractor in world.snapshot().look.distractors:
            for pose in (world.object_pose, world.bin_pose):
                assert np.linalg.norm(np.array(distractor.at) - pose[:2]) > 0.12


@pytest.mark.parametrize("text", ["fog", "light+fog", "light+", "", "none+light"])
def test_unknown_shift_is_refused_with_the_allowed_names(robot, text):
    with pytest.raises(SimError, match="allowed: none, background, light, object, distractors, camera"):
        World(robot, shift=text)


def test_shift_names_combine():
    assert parse_shifts("none") == ()
    assert parse_shifts("background+light") == ("background", "light")


def test_renderer_works_in_a_thread_while_the_world_steps(robot):
    world = World(robot)
    snapshots = [world.snapshot()]
    pictures = []

    def draw():
        with Renderer(robot) as own:
            pictures.extend(own.rgb(snapshot) for snapshot in snapshots)

    thread = threading.Thread(target=draw)
    thread.start()
    while thread.is_alive():
        world.step(HOME - 0.1, 5)
    thread.join()
    with Renderer(robot) as here:
        np.testing.assert_array_equal(pictures[0], here.rgb(snapshots[0]))


def test_closing_a_renderer_leaves_another_one_of_its_thread_alone(robot):
    snapshot = start(robot)
    first = Renderer(robot)
    with Renderer(robot) as second:
        expected = second.rgb(snapshot), second.labels(snapshot)
        second.rgb(snapshot)
        first.close()
        np.testing.assert_array_equal(second.labels(snapshot), expected[1])
        np.testing.assert_array_equal(second.rgb(snapshot), expected[0])


def test_machine_without_off_screen_rendering_is_told_what_to_install(robot, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "disable")  # what importing maskact_ros.sim sets where it finds no library
    with pytest.raises(SimError, match=r"cannot draw with MUJOCO_GL=disable; allowed: osmesa \(apt install libosmesa6"):
        Renderer(robot)


def test_graphics_that_fail_to_start_are_one_sentence(robot, monkeypatch):
    def refuse(width, height):
        raise RuntimeError("no\ndisplay")

    monkeypatch.setattr("mujoco.GLContext", refuse)
    with pytest.raises(SimError, match=r"cannot draw .* \(no display\)$"):
        Renderer(robot)


def test_renderer_that_nobody_closed_leaves_quietly_at_exit():
    code = f"""
from maskact_ros.core.robot import RobotSpec
from maskact_ros.sim.renderer import Renderer
from maskact_ros.sim.world import World
robot = RobotSpec.from_yaml({str(CONFIG / "robot.yaml")!r})
renderer = Renderer(robot)
renderer.rgb(World(robot).snapshot())
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Traceback" not in answer.stderr, answer.stderr
