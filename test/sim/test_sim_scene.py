"""The model, robot.yaml, the closed-form kinematics and the URDF are four views of one arm."""

import math
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from maskact_ros.sim import SimError
from maskact_ros.sim.kinematics import joints_for, tool_position
from maskact_ros.sim.scene import build
from maskact_ros.sim.urdf import urdf

import mujoco  # isort: skip  # after maskact_ros.sim, which chooses its renderer

COMMITTED = Path(__file__).parents[2] / "config" / "sim_arm.urdf"


@pytest.fixture(scope="module")
def model(robot):
    return build(robot)


def random_poses(robot, count):
    return np.random.default_rng(0).uniform(robot.lower, robot.upper, (count, len(robot.joints)))


def parsed(robot):
    return ET.fromstring(urdf(robot))  # noqa: S314  # our own text


def posed(model, robot, positions):
    data = mujoco.MjData(model)
    for name, position in zip(robot.joint_names, positions, strict=True):
        data.joint(name).qpos[0] = position
    data.joint(f"{robot.joint_names[-1]}_mirror").qpos[0] = positions[-1]
    mujoco.mj_kinematics(model, data)
    mujoco.mj_camlight(model, data)
    return data


def test_model_has_the_joints_and_limits_of_robot_yaml_in_its_order(model, robot):
    assert [model.actuator(i).name for i in range(model.nu)] == list(robot.joint_names)
    kinds = {"revolute": mujoco.mjtJoint.mjJNT_HINGE, "prismatic": mujoco.mjtJoint.mjJNT_SLIDE}
    for index, spec in enumerate(robot.joints):
        assert model.actuator_trnid[index, 0] == model.joint(spec.name).id
        assert model.joint(spec.name).type == kinds[spec.type]
        np.testing.assert_allclose(model.joint(spec.name).range, (spec.lower, spec.upper))
        np.testing.assert_allclose(model.actuator(spec.name).ctrlrange, (spec.lower, spec.upper))


def test_another_robot_is_refused_in_a_sentence_with_both_joint_lists(robot):
    with pytest.raises(SimError, match=r"robot sim_arm: its joints are revolute, .*; the simulated arm needs .*prism"):
        build(replace(robot, joints=robot.joints[:3]))


def test_closed_form_puts_the_tool_where_the_model_has_it(model, robot):
    for positions in random_poses(robot, 50):
        np.testing.assert_allclose(
            tool_position(positions[:6]), posed(model, robot, positions).site("tool").xpos, atol=1e-9
        )


def test_inverse_kinematics_gives_the_position_within_limits_and_a_hand_that_points_down(model, robot):
    rng = np.random.default_rng(1)
    for _ in range(50):
        radius, angle, height, roll = rng.uniform((0.2, -1.0, 0.02, -0.5), (0.45, 1.2, 0.15, 0.5))
        position = np.array([radius * math.cos(angle), radius * math.sin(angle), height])
        joints = joints_for(position, roll)
        assert (joints >= robot.lower[:6]).all()
        assert (joints <= robot.upper[:6]).all()
        tool = posed(model, robot, np.append(joints, 0.02)).site("tool")
        np.testing.assert_allclose(tool.xpos, position, atol=1e-9)
        np.testing.assert_allclose(tool.xmat.reshape(3, 3)[:, 2], (0, 0, -1), atol=1e-9)


def test_position_out_of_reach_gives_joints_near_it():
    joints = joints_for(np.array([2.0, 0.0, 0.1]), 0.0)
    assert np.isfinite(joints).all()
    assert 0.45 < tool_position(joints)[0] < 0.51


def test_committed_urdf_is_the_generated_one(robot):
    assert COMMITTED.read_text(encoding="utf-8") == urdf(robot), "run python -m maskact_ros.sim.urdf again"


def test_urdf_has_names_types_and_limits_of_robot_yaml(robot):
    joints = {joint.get("name"): joint for joint in parsed(robot).iter("joint")}
    for spec in robot.joints:
        element, limit = joints[spec.name], joints[spec.name].find("limit")
        assert element.get("type") == spec.type
        assert [float(limit.get(key)) for key in ("lower", "upper", "velocity")] == [
            spec.lower,
            spec.upper,
            spec.velocity,
        ]
    mirror = joints[f"{robot.joint_names[-1]}_mirror"]
    assert mirror.find("mimic").get("joint") == robot.joint_names[-1]


def test_urdf_puts_every_link_where_the_model_has_it(model, robot):
    tree = parsed(robot)
    for positions in random_poses(robot, 10):
        data = posed(model, robot, positions)
        values = dict(zip(robot.joint_names, positions, strict=True))
        for link, pose in link_poses(tree, values).items():
            if link == robot.only_camera.name:
                camera = data.camera(link)
                np.testing.assert_allclose(pose[:3, 3], camera.xpos, atol=1e-5)
                np.testing.assert_allclose(pose[:3, 2], -camera.xmat.reshape(3, 3)[:, 2], atol=1e-5)
            else:
                np.testing.assert_allclose(pose[:3, 3], data.body(link).xpos, atol=1e-5)
                np.testing.assert_allclose(pose[:3, :3], data.body(link).xmat.reshape(3, 3), atol=1e-5)


def link_poses(tree, values):
    """Forward kinematics as URDF defines it, {link: (4, 4)}."""
    poses = {"base_link": np.eye(4)}
    for joint in tree.iter("joint"):  # parents come first
        origin = joint.find("origin")
        pose = np.eye(4)
        roll, pitch, yaw = (float(v) for v in origin.get("rpy").split())
        pose[:3, :3] = turned((0, 0, 1), yaw) @ turned((0, 1, 0), pitch) @ turned((1, 0, 0), roll)
        pose[:3, 3] = [float(v) for v in origin.get("xyz").split()]
        motion = np.eye(4)
        if joint.get("type") != "fixed":
            mimic = joint.find("mimic")
            value = values[joint.get("name") if mimic is None else mimic.get("joint")]
            axis = np.array([float(v) for v in joint.find("axis").get("xyz").split()])
            if joint.get("type") == "prismatic":
                motion[:3, 3] = value * axis
            else:
                motion[:3, :3] = turned(axis, value)
        poses[joint.find("child").get("link")] = poses[joint.find("parent").get("link")] @ pose @ motion
    return poses


def turned(axis, angle):
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


@pytest.mark.parametrize(("given", "expected"), [({}, {"osmesa", "egl", "disable"}), ({"MUJOCO_GL": "egl"}, {"egl"})])
def test_import_chooses_an_off_screen_renderer_unless_the_user_has(given, expected):
    environment = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY")}
    code = "import os, maskact_ros.sim; print(os.environ['MUJOCO_GL'])"
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environment | given, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() in expected
