"""A checkpoint of the simulated robot, as bringup wants one."""

import pytest

from maskact_ros.core.paths import shared
from maskact_ros.core.robot import RobotSpec
from maskact_ros.policy.commands import init_checkpoint


@pytest.fixture(scope="session")
def policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints") / "policy"
    init_checkpoint(shared("config/demo_policy.json"), folder, RobotSpec.from_yaml(shared("config/robot.yaml")))
    return folder
