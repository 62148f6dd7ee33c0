"""The camera encoder's parameters, and those of them that may change between two images."""

from __future__ import annotations

from dataclasses import dataclass

from maskact_ros.nodes.observation.engine_parameters import ENGINE_PARAMETERS
from maskact_ros.nodes.ros.common_parameters import CHANGEABLE_POLICY_PATH, ROBOT_FILE
from maskact_ros.nodes.ros.params import NodeParameter

PARAMETERS = (
    CHANGEABLE_POLICY_PATH,
    ROBOT_FILE,
    *ENGINE_PARAMETERS,
    NodeParameter("compressed", False, "Whether image_raw carries sensor_msgs/CompressedImage (jpeg or png)."),
    NodeParameter(
        "features_reliable", False, "Whether features are sent reliably instead of best effort, as sensor data is."
    ),
    NodeParameter(
        "stamp_source",
        "header",
        "What dates an image: header, its own stamp, or receipt, for a camera whose clock is not the robot's.",
    ),
    NodeParameter("max_image_age_s", 1.0, "Images older than this are not used.", 0.01, 60.0, changeable=True),
    NodeParameter(
        "overlay_alpha",
        0.45,
        "How strongly the overlay's class colours cover the image.",
        0.0,
        1.0,
        changeable=True,
    ),
    NodeParameter(
        "mask_min_confidence",
        0.0,
        "Features of a mask that is less sure, in the mean over its patches, are not sent; 0 sends all.",
        0.0,
        1.0,
        changeable=True,
    ),
    NodeParameter(
        "mask_max_change",
        1.0,
        "Features of a mask whose classes suddenly cover so much more or less than in the good ones before are not "
        "sent, until they cover what they did or the node is activated anew; 1 sends all.",
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
