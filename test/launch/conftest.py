"""A checkpoint of the simulated robot, as bringup wants one."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def policy():
    return Path(__file__).parents[1] / "support" / "tiny" / "checkpoint"
