"""Do a dataset's states and actions fit its own robot.yaml? The check that `convert` makes, for any dataset."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.robot import UNKNOWN_ROBOT, RobotSpec
from maskact_ros.data.datasets.dataset import ROBOT
from maskact_ros.data.datasets.lerobot_layout import ACTION, STATE
from maskact_ros.data.datasets.lerobot_reader import LeRobotFolder
from maskact_ros.data.datasets.motion_check import MotionCheck
from maskact_ros.data.inspection.findings import Finding, Remark


def check_motion(source: LeRobotFolder, robot: RobotSpec) -> Iterator[Finding | Remark]:
    """A finding where it cannot be right, a remark where it is odd; nothing of a robot whose limits nobody has said."""
    if robot.name == UNKNOWN_ROBOT:
        return
    try:
        states, actions = (source.column(name) for name in (STATE, ACTION))
    except (MaskACTError, ValueError):  # which check_rows tells
        return
    rows = min(len(states), len(actions))
    shape = (rows, len(robot.joints))
    if states[:rows].shape != shape or actions[:rows].shape != shape:
        return
    motion = MotionCheck(robot)
    for episode in source.episodes:
        span = slice(max(0, episode.start), max(0, episode.start) + max(0, min(episode.length, rows)))
        if len(states[span]) and np.isfinite(states[span]).all() and np.isfinite(actions[span]).all():
            motion.add_episode(states[span], actions[span])
    for doubt in motion.doubts():
        yield Finding(ROBOT, doubt.text) if doubt.certain else Remark(doubt.text)
