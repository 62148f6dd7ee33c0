"""The URDF of the simulated arm, for RViz, written from the MuJoCo model: `python -m maskact_ros.sim.urdf > FILE`.

In: the `RobotSpec`. Out: links with their shapes, joints with their limits, and the camera's optical frame.
"""

from __future__ import annotations

import argparse
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.paths import shared
from maskact_ros.core.robot import RobotSpec
from maskact_ros.sim.scene import build


def urdf(robot: RobotSpec) -> str:
    """The arm of `scene.build(robot)` as URDF; raises SimError when `robot` is not the simulated arm."""
    model = build(robot)
    joints = {joint.name: joint for joint in robot.joints}
    gripper = robot.joints[-1]
    root = ET.Element("robot", name=robot.name)
    root_id = model.body("base_link").id
    for body in range(model.nbody):
        if model.body_rootid[body] != root_id:
            continue
        _add_link(root, model, body)
        if body == root_id:
            continue
        joint = model.joint(model.body_jntadr[body])
        # The second finger has its own joint in the physics, but no drive: it mirrors the first finger.
        limits = joints.get(joint.name, gripper)
        element = ET.SubElement(root, "joint", name=joint.name, type=limits.type)
        ET.SubElement(element, "parent", link=model.body(model.body_parentid[body]).name)
        ET.SubElement(element, "child", link=model.body(body).name)
        _add_origin(element, model.body_pos[body], model.body_quat[body])
        ET.SubElement(element, "axis", xyz=_row(joint.axis))
        force = model.actuator(limits.name).forcerange[1]
        ET.SubElement(
            element,
            "limit",
            lower=_number(limits.lower),
            upper=_number(limits.upper),
            velocity=_number(limits.velocity),
            effort=_number(force),
        )
        if joint.name not in joints:
            ET.SubElement(element, "mimic", joint=gripper.name)
    _add_camera(root, model, robot.only_camera.name)
    ET.indent(root)
    notice = "<!-- Written by python -m maskact_ros.sim.urdf from the MuJoCo model; edit that one. -->"
    return f'<?xml version="1.0"?>\n{notice}\n{ET.tostring(root, encoding="unicode")}\n'


def _add_link(root: ET.Element, model: mujoco.MjModel, body: int) -> None:
    link = ET.SubElement(root, "link", name=model.body(body).name)
    first = model.body_geomadr[body]
    for index in range(first, first + model.body_geomnum[body]):
        geom = model.geom(index)
        for shape, sizes, offset in _shapes(int(model.geom_type[index]), geom.size):
            visual = ET.SubElement(link, "visual")
            at = np.zeros(3)
            mujoco.mju_rotVecQuat(at, np.array([0.0, 0.0, offset]), geom.quat)
            _add_origin(visual, geom.pos + at, geom.quat)
            ET.SubElement(ET.SubElement(visual, "geometry"), shape, sizes)
            material = model.mat(model.geom_matid[index])
            painted = ET.SubElement(visual, "material", name=material.name)
            ET.SubElement(painted, "color", rgba=_row(material.rgba))


def _shapes(kind: int, size: NDArray[np.float64]) -> list[tuple[str, dict[str, str], float]]:
    """The URDF shapes of one geom: shape, its attributes, and its offset along the geom's z axis."""
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        return [("box", {"size": _row(2 * size)}, 0.0)]
    radius, half = size[0], size[1]
    cylinder = ("cylinder", {"radius": _number(radius), "length": _number(2 * half)}, 0.0)
    if kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        return [cylinder]
    assert kind == mujoco.mjtGeom.mjGEOM_CAPSULE, "the arm is made of boxes, cylinders and capsules"
    return [cylinder, *(("sphere", {"radius": _number(radius)}, end) for end in (-half, half))]


def _add_camera(root: ET.Element, model: mujoco.MjModel, name: str) -> None:
    """The optical frame, named as the camera: x right, y down, z forward; MuJoCo's has y up and z backward."""
    camera = model.camera(name)
    ET.SubElement(root, "link", name=name)
    joint = ET.SubElement(root, "joint", name=f"{name}_camera", type="fixed")
    ET.SubElement(joint, "parent", link="base_link")
    ET.SubElement(joint, "child", link=name)
    optical = np.zeros(4)
    mujoco.mju_mulQuat(optical, camera.quat, np.array([0.0, 1.0, 0.0, 0.0]))
    _add_origin(joint, camera.pos, optical)


def _add_origin(element: ET.Element, position: NDArray[np.float64], quaternion: NDArray[np.float64]) -> None:
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, quaternion)
    r = matrix.reshape(3, 3)
    roll, pitch, yaw = np.arctan2(r[2, 1], r[2, 2]), -np.arcsin(np.clip(r[2, 0], -1, 1)), np.arctan2(r[1, 0], r[0, 0])
    ET.SubElement(element, "origin", xyz=_row(position), rpy=_row((roll, pitch, yaw)))


def _row(values: Iterable[float]) -> str:
    return " ".join(_number(value) for value in values)


def _number(value: float) -> str:
    return f"{round(float(value), 6) + 0.0:.6g}"  # the sum turns -0 into 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--robot", type=Path, default=shared("config/robot.yaml"))
    try:
        sys.stdout.write(urdf(RobotSpec.from_yaml(parser.parse_args().robot)))
    except MaskACTError as error:
        parser.error(str(error))
