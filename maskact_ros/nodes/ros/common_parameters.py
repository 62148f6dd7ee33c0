"""The parameters that several nodes have: where the policy and the robot's description are, and who starts the node."""

from __future__ import annotations

from dataclasses import replace

from maskact_ros.nodes.ros.params import NodeParameter

AUTOSTART = NodeParameter("autostart", True, "Whether the node configures and activates itself.")
ROBOT_FILE = NodeParameter(
    "robot_file", "", "The robot's description, robot.yaml; left out, the one that the checkpoint carries."
)
SIM_ROBOT_FILE = NodeParameter(
    "robot_file", "", "The simulated robot's description; left out, the package's config/robot.yaml."
)
POLICY_PATH = NodeParameter(
    "policy_path",
    "",
    "Folder of the checkpoint that the three nodes run.",
    fixed_because="only camera_encoder and inference change their policy; set it on either of them",
)
CHANGEABLE_POLICY_PATH = replace(
    POLICY_PATH,
    description="Folder of the checkpoint that the three nodes run; set on camera_encoder or inference while they run, "
    "it changes for both, or, where the new one does not do, for neither.",
    changeable=True,
)
