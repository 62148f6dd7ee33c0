"""Makes the committed tiny checkpoint again: `.venv/bin/python test/support/make_tiny.py`.

In: tiny/policy.json and tiny/backbone/. Out: tiny/checkpoint/, untrained, of seed 0, for the simulated robot.
"""

from pathlib import Path

from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.core.paths import shared
from maskact_ros.core.robot import RobotSpec
from maskact_ros.policy.commands import init_checkpoint

TINY = Path(__file__).parent / "tiny"


def make(folder: Path) -> CheckpointInfo:
    """Write it to `folder`, over one that is there."""
    robot = RobotSpec.from_yaml(shared("config/robot.yaml"))
    return init_checkpoint(TINY / "policy.json", folder, robot, seed=0, overwrite=True)


if __name__ == "__main__":
    make(TINY / "checkpoint")
