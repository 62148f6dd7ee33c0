"""A tiny untrained policy, its robot, and a bench for each test that wants one of its own: fixtures to be imported."""

import json
import shutil
from pathlib import Path

import pytest

from maskact_ros.core.paths import shared
from maskact_ros.core.robot import RobotSpec
from support.node_bench import Bench

TINY = Path(__file__).parent / "tiny"  # policy.json, backbone/ and the checkpoint that they give; make_tiny.py makes it


@pytest.fixture(scope="session")
def robot():
    return RobotSpec.from_yaml(shared("config/robot.yaml"))


@pytest.fixture(scope="session")
def make_policy(robot, tmp_path_factory):
    """A function: the folder of an untrained policy of the simulated robot, random by its seed, made once each."""
    source = tmp_path_factory.mktemp("tiny")
    shutil.copytree(TINY / "backbone", source / "backbone")
    values = json.loads((TINY / "policy.json").read_text())

    def make(seed: int, *, of=robot, **changes):
        from maskact_ros.policy.commands import init_checkpoint  # loads torch

        folder = source / "_".join(["checkpoint", str(seed), of.name, *(f"{k}_{v}" for k, v in changes.items())])
        if not folder.exists():
            (source / "policy.json").write_text(json.dumps(values | changes))
            init_checkpoint(source / "policy.json", folder, of, seed=seed)
        return folder

    return make


@pytest.fixture(scope="session")
def policy():
    """The committed one, of seed 0; to be read only."""
    return TINY / "checkpoint"


@pytest.fixture
def bench(tmp_path, policy):
    with Bench(tmp_path, policy) as opened:
        yield opened


@pytest.fixture(scope="module")
def module_bench(tmp_path_factory, policy):
    """A bench that all tests of a module share, so that its nodes start once."""
    with Bench(tmp_path_factory.mktemp("bench"), policy) as opened:
        yield opened
