from pathlib import Path

import pytest

from maskact_ros.core.robot import RobotSpec
from maskact_ros.sim.renderer import Renderer

CONFIG = Path(__file__).parents[2] / "config"


@pytest.fixture(scope="session")
def robot() -> RobotSpec:
    return RobotSpec.from_yaml(CONFIG / "robot.yaml")


@pytest.fixture(scope="session")
def renderer(robot):
    with Renderer(robot) as shared:
        yield shared
