"""Rosbags and datasets: what is recorded, aligned, converted, checked and looked at."""
