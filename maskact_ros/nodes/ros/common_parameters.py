"""Parameters of several nodes: the checkpoint's folder, the robot's description, and autostart."""

from __future__ import annotations

from dataclasses import replace

from maskact_ros.nodes.ros.params import NodeParameter

AUTOSTART = NodeParameter(
    "autostart", True, "Whether the node configures and activates itself. If false, lifecycle services do it."
)
ROBOT_FILE = NodeParameter(
    "robot_file",
    "",
    "File that describes the robot, such as robot.yaml. If empty, the description in the checkpoint is used.",
)
SIM_ROBOT_FILE = NodeParameter(
    "robot_file", "", "File that describes the simulated robot. If empty, the package's config/robot.yaml is used."
)
POLICY_PATH = NodeParameter(
    "policy_path",
    "",
    "Folder of the checkpoint. It is the same for the three nodes.",
    fixed_because="only camera_encoder and inference change their policy; set it on either of them",
)
CHANGEABLE_POLICY_PATH = replace(
    POLICY_PATH,
    description="Folder of the checkpoint. It is the same for the three nodes. Set it on camera_encoder or inference "
    "while they run: both change to the new policy. If it does not fit, both keep the old one.",
    changeable=True,
)
# These differ from robot to robot, so bringup sets them: its launch arguments override a parameter file.
SET_BY_BRINGUP = (AUTOSTART.name, POLICY_PATH.name, ROBOT_FILE.name)
