"""The simulated robot: scene, task, shifts and a scripted expert, in MuJoCo. No ROS, no torch."""
