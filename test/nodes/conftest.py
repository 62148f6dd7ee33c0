"""The fixtures of all ROS tests, and the environment that their processes share."""

import os

from support.tiny_policy import bench, make_policy, module_bench, policy, robot  # noqa: F401 - fixtures

from maskact_ros.tools.bringup import environment

# Read when this process first uses Fast DDS, so before any test.
os.environ.update(environment() | {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"})
