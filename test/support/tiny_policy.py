"""A tiny untrained policy, its robot, and a bench for each test that wants one of its own: fixtures to be imported."""

import json

import pytest

from maskact_ros.core.paths import shared
from maskact_ros.core.robot import RobotSpec
from support.node_bench import Bench

TINY = {
    "chunk_size": 20,
    "n_action_steps": 10,
    "vision_backbone": "dinov3_vits16",
    "dino_model_dir": "backbone",
    "use_lora": False,
    "freeze_backbone": False,
    "num_mask": 3,
    "image_size": 32,
    "dim_model": 32,
    "n_heads": 2,
    "dim_feedforward": 32,
    "n_encoder_layers": 1,
    "n_vae_encoder_layers": 1,
    "latent_dim": 4,
}
BACKBONE = {
    "model_type": "dinov3_vit",
    "patch_size": 16,
    "num_channels": 3,
    "image_size": 32,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_register_tokens": 4,
}


@pytest.fixture(scope="session")
def robot():
    return RobotSpec.from_yaml(shared("config/robot.yaml"))


@pytest.fixture(scope="session")
def make_policy(robot, tmp_path_factory):
    """A function: the folder of an untrained policy of the simulated robot, random by its seed, made once each."""
    from maskact_ros.policy.commands import init_checkpoint  # loads torch

    source = tmp_path_factory.mktemp("tiny")
    (source / "backbone").mkdir()
    (source / "backbone" / "config.json").write_text(json.dumps(BACKBONE))

    def make(seed: int, *, of=robot, **changes):
        folder = source / "_".join(["checkpoint", str(seed), of.name, *(f"{k}_{v}" for k, v in changes.items())])
        if not folder.exists():
            (source / "policy.json").write_text(json.dumps(TINY | changes))
            init_checkpoint(source / "policy.json", folder, of, seed=seed)
        return folder

    return make


@pytest.fixture(scope="session")
def policy(make_policy):
    return make_policy(seed=0)


@pytest.fixture
def bench(tmp_path, policy):
    with Bench(tmp_path, policy) as opened:
        yield opened


@pytest.fixture(scope="module")
def module_bench(tmp_path_factory, policy):
    """A bench that all tests of a module share, so that its nodes start once."""
    with Bench(tmp_path_factory.mktemp("bench"), policy) as opened:
        yield opened
