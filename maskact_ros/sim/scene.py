"""The scene: a six-joint arm with a parallel gripper, a table, a cube and a bin, as a MuJoCo model.

In: the `RobotSpec` with joints and camera. Out: MJCF text, or the compiled model.
The arm stands at the origin of the table top, z up, and reaches along x; at zero all its links point up.
"""

from __future__ import annotations

import mujoco

from maskact_ros.core.robot import RobotSpec
from maskact_ros.sim import SimError

# Metres, from axis to axis: pan to lift, lift to elbow, elbow to wrist, wrist to the point between the fingertips.
SHOULDER_HEIGHT = 0.16
UPPER_ARM = 0.25
FOREARM = 0.25
HAND = 0.17

CUBE_HALF = 0.025
BIN_HALF = 0.07  # inner, x and y
BIN_HEIGHT = 0.06
BIN_FLOOR = 0.006
BIN_WALL = 0.005

TIMESTEP_S = 0.002
TRACKING_LAG_S = 0.025  # delay of each drive behind a moving set point

CAMERA_POSITION = (0.95, 0.0, 0.80)
CAMERA_TARGET = (0.13, 0.0, 0.13)
CAMERA_FOVY_DEG = 42.0

# The name of each class id of a mask, and the root body of its tree; all other bodies are background.
CLASS_NAMES = ("background", "robot", "cube", "bin")
CLASS_ROOTS = {"robot": "base_link", "cube": "cube", "bin": "bin"}

TABLE_MATERIALS = ("plain", "tiles", "speckles")
DISTRACTORS = 5

# For each joint: type, drive stiffness (N m/rad or N/m) and largest force (N m or N).
_DRIVES = (
    ("revolute", 1600.0, 80.0),
    ("revolute", 2400.0, 120.0),
    ("revolute", 1200.0, 60.0),
    ("revolute", 300.0, 15.0),
    ("revolute", 300.0, 15.0),
    ("revolute", 200.0, 10.0),
    ("prismatic", 2000.0, 30.0),
)
_AXES = ("0 0 1", "0 1 0", "0 1 0", "0 1 0", "1 0 0", "0 0 1", "0 1 0")
_ARMATURES = (0.15, 0.20, 0.12, 0.04, 0.04, 0.03, 0.2)


def build(robot: RobotSpec) -> mujoco.MjModel:
    """Compile the scene for `robot`; raises SimError when it is not the simulated arm."""
    return mujoco.MjModel.from_xml_string(mjcf(robot))


def mjcf(robot: RobotSpec) -> str:
    """The scene as MJCF, with names, limits and picture size from `robot`; raises SimError as `build`."""
    types = tuple(joint.type for joint in robot.joints)
    expected = tuple(drive[0] for drive in _DRIVES)
    if types != expected:
        raise SimError(
            f"robot {robot.name}: its joints are {', '.join(types)}; the simulated arm needs {', '.join(expected)}"
        )
    joints = [
        f'<joint name="{joint.name}" type="{"slide" if joint.type == "prismatic" else "hinge"}" axis="{axis}" '
        f'range="{joint.lower} {joint.upper}" armature="{armature}"/>'
        for joint, axis, armature in zip(robot.joints, _AXES, _ARMATURES, strict=True)
    ]
    drives = "\n".join(
        f'    <position name="{joint.name}" joint="{joint.name}" kp="{stiffness}" kv="{stiffness * TRACKING_LAG_S}" '
        f'ctrlrange="{joint.lower} {joint.upper}" forcerange="{-force} {force}"/>'
        for joint, (_, stiffness, force) in zip(robot.joints, _DRIVES, strict=True)
    )
    camera, gripper = robot.only_camera, robot.joints[-1]
    return f"""<mujoco model="{robot.name}">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{TIMESTEP_S}" integrator="implicitfast" cone="elliptic" impratio="20"/>
  <visual>
    <global offwidth="{camera.width}" offheight="{camera.height}"/>
    <quality shadowsize="0" offsamples="0"/>
    <map znear="0.05" zfar="20"/>
    <headlight ambient="0.38 0.38 0.38" diffuse="0.22 0.22 0.22" specular="0 0 0"/>
  </visual>
  <asset>
    <material name="plain" specular="0.1" shininess="0.2"/>
    <texture name="tiles" type="2d" builtin="checker" rgb1="1 1 1" rgb2="0.72 0.72 0.72" width="64" height="64"/>
    <material name="tiles" texture="tiles" texrepeat="10 10" texuniform="true" specular="0.1"/>
    <texture name="speckles" type="2d" builtin="flat" mark="random" random="0.06" rgb1="1 1 1" markrgb="0.55 0.5 0.45"
      width="128" height="128"/>
    <material name="speckles" texture="speckles" texrepeat="6 6" texuniform="true" specular="0.1"/>
    <material name="shell" rgba="0.93 0.93 0.91 1" specular="0.4" shininess="0.5"/>
    <material name="joint" rgba="0.16 0.19 0.23 1" specular="0.5" shininess="0.6"/>
    <material name="accent" rgba="0.10 0.55 0.55 1" specular="0.4" shininess="0.5"/>
    <material name="bin" rgba="0.20 0.36 0.66 1" specular="0.2" shininess="0.3"/>
  </asset>
  <default>
    <geom contype="1" conaffinity="3" friction="0.8 0.01 0.0001"/>
    <!-- The arm touches the things around it, never itself. -->
    <default class="robot"><geom contype="2" conaffinity="1" material="shell" density="700"/></default>
    <default class="pad"><geom contype="2" conaffinity="1" material="joint" condim="4" friction="1.5 0.02 0.0001"/>
    </default>
    <default class="bin"><geom material="bin"/></default>
    <!-- Painted where a shift wants them; nothing ever touches them. -->
    <default class="distractor"><geom contype="0" conaffinity="0" group="4"/></default>
  </default>
  <worldbody>
    <light name="lamp" type="directional" pos="0.5 0.6 1.5" dir="-0.35 -0.45 -0.82" diffuse="0.55 0.55 0.53"
      specular="0.25 0.25 0.25" castshadow="false"/>
    <camera name="{camera.name}" pos="{_row(CAMERA_POSITION)}" fovy="{CAMERA_FOVY_DEG}" mode="fixed"
      xyaxes="{_row(_looking_at(CAMERA_POSITION, CAMERA_TARGET))}"/>
    <geom name="floor" type="plane" size="6 6 0.1" pos="0 0 -0.75"/>
    <geom name="table" type="box" size="0.42 0.52 0.02" pos="0.20 0 -0.02" material="plain"/>
    <geom name="distractor_0" class="distractor" type="box" size="0.018 0.030 0.012" pos="0 0 0.012"/>
    <geom name="distractor_1" class="distractor" type="cylinder" size="0.020 0.020" pos="0 0 0.020"/>
    <geom name="distractor_2" class="distractor" type="sphere" size="0.021" pos="0 0 0.021"/>
    <geom name="distractor_3" class="distractor" type="ellipsoid" size="0.032 0.018 0.015" pos="0 0 0.015"/>
    <geom name="distractor_4" class="distractor" type="box" size="0.012 0.045 0.006" pos="0 0 0.006"/>
    <body name="bin" mocap="true" pos="0.25 0.26 0">
{_bin()}
    </body>
    <body name="cube" pos="0.3 -0.1 {CUBE_HALF}">
      <freejoint name="cube"/>
      <geom name="cube" type="box" size="{CUBE_HALF} {CUBE_HALF} {CUBE_HALF}" mass="0.06" condim="4"/>
    </body>
    <body name="base_link" childclass="robot" gravcomp="1">
      <geom type="cylinder" size="0.085 0.012" pos="0 0 0.012" material="joint"/>
      <geom type="cylinder" size="0.065 0.035" pos="0 0 0.055"/>
      <body name="shoulder_link" pos="0 0 0.09" gravcomp="1">
        {joints[0]}
        <geom type="cylinder" size="0.060 0.008" pos="0 0 0.006" material="accent"/>
        <geom type="cylinder" size="0.055 0.030" pos="0 0 0.042"/>
        <geom type="cylinder" size="0.045 0.062" pos="0 0 {SHOULDER_HEIGHT - 0.09}" euler="1.5707963 0 0"
          material="joint"/>
        <body name="upper_arm_link" pos="0 0 {SHOULDER_HEIGHT - 0.09}" gravcomp="1">
          {joints[1]}
          <geom type="capsule" size="0.036" fromto="0 0 0.02 0 0 {UPPER_ARM - 0.01}"/>
          <geom type="cylinder" size="0.038 0.050" pos="0 0 {UPPER_ARM}" euler="1.5707963 0 0" material="joint"/>
          <geom type="cylinder" size="0.0375 0.006" pos="0 0 {UPPER_ARM / 2}" material="accent"/>
          <body name="forearm_link" pos="0 0 {UPPER_ARM}" gravcomp="1">
            {joints[2]}
            <geom type="capsule" size="0.030" fromto="0 0 0.01 0 0 {FOREARM - 0.01}"/>
            <geom type="cylinder" size="0.0315 0.006" pos="0 0 {FOREARM / 2}" material="accent"/>
            <body name="wrist_flex_link" pos="0 0 {FOREARM}" gravcomp="1">
              {joints[3]}
              <geom type="cylinder" size="0.031 0.038" euler="1.5707963 0 0" material="joint"/>
              <body name="wrist_yaw_link" gravcomp="1">
                {joints[4]}
                <geom type="cylinder" size="0.026 0.034" pos="0 0 0.034"/>
                <body name="hand_link" gravcomp="1">
                  {joints[5]}
                  <geom type="cylinder" size="0.030 0.007" pos="0 0 0.074" material="accent"/>
                  <geom type="box" size="0.024 0.058 0.014" pos="0 0 0.094"/>
                  <site name="tool" pos="0 0 {HAND}" size="0.005" group="4"/>
                  <body name="finger_left_link" pos="0 0 0.108" gravcomp="1">
                    {joints[6]}
                    <geom class="pad" type="box" size="0.012 0.005 0.038" pos="0 0.005 0.038"/>
                  </body>
                  <body name="finger_right_link" pos="0 0 0.108" gravcomp="1">
                    <joint name="{gripper.name}_mirror" type="slide" axis="0 -1 0"
                      range="{gripper.lower} {gripper.upper}"/>
                    <geom class="pad" type="box" size="0.012 0.005 0.038" pos="0 -0.005 0.038"/>
                  </body>
                </body>
              </body>
            </body>
          </body>
        </body>
      </body>
    </body>
  </worldbody>
  <equality>
    <joint joint1="{gripper.name}_mirror" joint2="{gripper.name}" polycoef="0 1 0 0 0" solref="0.004 1"/>
  </equality>
  <actuator>
{drives}
  </actuator>
</mujoco>
"""


def _bin() -> str:
    """The bin's floor and four walls, around the origin of its body."""
    reach, middle = BIN_HALF + BIN_WALL, BIN_HEIGHT / 2
    boxes = (
        ((reach, reach, BIN_FLOOR / 2), (0.0, 0.0, BIN_FLOOR / 2)),
        ((BIN_WALL / 2, reach, middle), (BIN_HALF + BIN_WALL / 2, 0.0, middle)),
        ((BIN_WALL / 2, reach, middle), (-BIN_HALF - BIN_WALL / 2, 0.0, middle)),
        ((reach, BIN_WALL / 2, middle), (0.0, BIN_HALF + BIN_WALL / 2, middle)),
        ((reach, BIN_WALL / 2, middle), (0.0, -BIN_HALF - BIN_WALL / 2, middle)),
    )
    return "\n".join(f'      <geom class="bin" type="box" size="{_row(size)}" pos="{_row(at)}"/>' for size, at in boxes)


def _looking_at(eye: tuple[float, ...], target: tuple[float, ...]) -> tuple[float, ...]:
    """The camera's x and y axes, with its x axis level; the eye and the target share y = 0."""
    back, up = eye[0] - target[0], eye[2] - target[2]
    length = (back**2 + up**2) ** 0.5
    return (0.0, 1.0, 0.0, -up / length, 0.0, back / length)


def _row(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.6g}" for value in values)
