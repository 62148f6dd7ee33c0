"""The inference node's parameters, and those of them that may change between two plans."""

from __future__ import annotations

from dataclasses import dataclass

from maskact_ros.nodes.observation.engine_parameters import ENGINE_PARAMETERS
from maskact_ros.nodes.ros.common_parameters import CHANGEABLE_POLICY_PATH, ROBOT_FILE
from maskact_ros.nodes.ros.params import NodeParameter
from maskact_ros.nodes.ros.receipt import JOINT_STATES_STAMP_SOURCE

PARAMETERS = (
    CHANGEABLE_POLICY_PATH,
    ROBOT_FILE,
    *ENGINE_PARAMETERS,
    NodeParameter(
        "drop_isolated_patches",
        False,
        "Whether patches of labels that the attention rules isolate are left out of the transformer, which saves time; "
        "exact only for labels that the policy was trained without.",
        changeable=True,
    ),
    JOINT_STATES_STAMP_SOURCE,
    NodeParameter("features_reliable", False, "Whether features come reliably; as the camera encoder sends them."),
    NodeParameter(
        "state_tolerance_s", 0.1, "How old the joint state at an image's stamp may be.", 0.001, 10.0, changeable=True
    ),
    NodeParameter(
        "max_image_age_s", 1.0, "Features of images older than this are not planned from.", 0.01, 60.0, changeable=True
    ),
    NodeParameter(
        "frozen_timeout_s",
        0.3,
        "A picture that stays the same for longer while joints move is of a frozen camera, and is not planned from; "
        "0 plans from any.",
        0.0,
        60.0,
        changeable=True,
    ),
)


@dataclass(frozen=True)
class Settings:
    """The parameters that may change between two plans, each by its name."""

    drop_isolated_patches: bool
    state_tolerance_s: float
    max_image_age_s: float
    frozen_timeout_s: float
