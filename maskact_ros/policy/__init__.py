"""The MaskACT policy: encoder, mask head, transformer, losses, checkpoints, runtime. No ROS."""
