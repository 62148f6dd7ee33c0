"""Fixtures of the fault injection; rows, seed and number of phases are chosen by `make faults`."""

import os

import pytest
from support.phases import PHASES, SEED, Phase
from support.tiny_policy import bench, make_policy, module_bench, policy, robot  # noqa: F401 - fixtures

from maskact_ros.tools.bringup import environment

# Read when this process first uses Fast DDS, so before any test.
os.environ.update(environment() | {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"})


@pytest.fixture(params=range(PHASES), ids=lambda number: f"phase{number}")
def phase(request):
    """The random numbers of one injection; a test that takes it runs once for each phase."""
    return Phase(request.node.originalname + request.node.callspec.id.rpartition("phase")[0], request.param)


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(
        f"faults: {PHASES} phases each; the same again: make faults SEED={SEED} PHASES={PHASES}"
    )
