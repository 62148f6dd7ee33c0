"""The inference node's parameters; `Settings` holds those that may change between two plans."""

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
        "Whether the transformer leaves out patches that label_attention_rules isolate. This is faster, but "
        "exact only for labels that training dropped, too (dropped_labels).",
        changeable=True,
    ),
    JOINT_STATES_STAMP_SOURCE,
    NodeParameter(
        "features_reliable",
        False,
        "Whether features are received with reliable QoS. Set the same value on camera_encoder.",
    ),
    NodeParameter(
        "state_tolerance_s",
        0.1,
        "Largest age of the joint state in force at an image's stamp. Beyond it, no chunk is planned.",
        0.001,
        10.0,
        unit="s",
        changeable=True,
    ),
    NodeParameter(
        "max_image_age_s",
        1.0,
        "Largest age of an image. Features of older images are dropped.",
        0.01,
        60.0,
        unit="s",
        changeable=True,
    ),
    NodeParameter(
        "frozen_timeout_s",
        0.3,
        "The camera counts as frozen when it sends the same picture for longer than this while joints move. No chunk "
        "is planned from a frozen camera. 0 switches the check off.",
        0.0,
        60.0,
        unit="s",
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
