"""From chunks to set points: ensembling, planning in time, limits, the command loop. No ROS, no torch."""
