"""MaskACT policies on a robot in real time: three ROS 2 nodes, and the tools to train what they run."""

__version__ = "0.1.0"
