"""What every layer builds on: configuration, robot, images, time alignment, checkpoints, errors. No torch, no ROS."""
