"""The camera encoder's parameters; `Settings` holds those that may change between two images."""

from __future__ import annotations

from dataclasses import dataclass

from maskact_ros.nodes.observation.engine_parameters import ENGINE_PARAMETERS
from maskact_ros.nodes.ros.common_parameters import CHANGEABLE_POLICY_PATH, ROBOT_FILE
from maskact_ros.nodes.ros.params import NodeParameter
from maskact_ros.nodes.ros.receipt import STAMP_SOURCES

PARAMETERS = (
    CHANGEABLE_POLICY_PATH,
    ROBOT_FILE,
    *ENGINE_PARAMETERS,
    NodeParameter(
        "compressed",
        False,
        "Whether image_raw carries sensor_msgs/CompressedImage (JPEG or PNG) instead of sensor_msgs/Image.",
    ),
    NodeParameter(
        "features_reliable",
        False,
        "Whether features are sent with reliable QoS instead of best effort. Set the same value on inference.",
    ),
    NodeParameter(
        "stamp_source",
        "header",
        "Where an image's time comes from: the message's header, or its receipt. Use receipt if the camera's clock is "
        "not the robot's.",
        choices=STAMP_SOURCES,
    ),
    NodeParameter("max_image_age_s", 1.0, "Images older than this are dropped.", 0.01, 60.0, unit="s", changeable=True),
    NodeParameter(
        "overlay_alpha",
        0.45,
        "Opacity of the class colours in mask_overlay: 0 shows the image only, 1 the colours only.",
        0.0,
        1.0,
        changeable=True,
    ),
    NodeParameter(
        "mask_min_confidence",
        0.0,
        "Least confidence of a mask, as the mean over its patches. Features of a mask below it are not sent. 0 sends "
        "all.",
        0.0,
        1.0,
        changeable=True,
    ),
    NodeParameter(
        "mask_max_change",
        1.0,
        "Largest sudden change of a mask, as the share of its patches that change class, against the average of the "
        "last seconds. Features of a mask beyond it are not sent, until the mask is as before or the node is "
        "activated again. 1 sends all.",
        0.0,
        1.0,
        changeable=True,
    ),
)


@dataclass(frozen=True)
class Settings:
    """The parameters that may change between two images, each by its name."""

    max_image_age_s: float
    overlay_alpha: float
    mask_min_confidence: float
    mask_max_change: float
