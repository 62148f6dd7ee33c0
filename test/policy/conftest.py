"""Small policies, batches for them, and the reference's checkpoint."""

import pytest
import torch
from support.reference_checkpoint import BACKBONE, reference_tensors, write_reference

from maskact_ros.core.checkpoint import PolicySpec, default_mask_classes
from maskact_ros.core.config import MaskACTConfig
from maskact_ros.core.robot import Camera, Joint, RobotSpec
from maskact_ros.core.statistics import Statistics
from maskact_ros.policy.model.maskact import TrainingBatch


@pytest.fixture(scope="session")
def reference_folder(tmp_path_factory):
    return write_reference(tmp_path_factory.mktemp("reference") / "checkpoint", reference_tensors())


@pytest.fixture(scope="session")
def robot():
    joints = tuple(
        Joint(name=f"joint_{i}", lower=-1.0 - i, upper=2.0 + i, velocity=1.0, acceleration=5.0) for i in range(3)
    )
    return RobotSpec(
        name="test_arm",
        policy_rate_hz=30.0,
        joint_states_topic="joint_states",
        command_topic="command",
        joints=joints,
        cameras=(Camera(name="top", image_topic="image_raw", width=64, height=48),),
    )


@pytest.fixture(scope="session")
def make_spec(robot):
    """A function: the specification of a tiny policy, with parameters of the configuration changed."""
    tiny = {
        "chunk_size": 6,
        "n_action_steps": 3,
        "dim_model": 16,
        "n_heads": 2,
        "dim_feedforward": 24,
        "n_encoder_layers": 1,
        "n_vae_encoder_layers": 1,
        "latent_dim": 4,
        "num_mask": 3,
        "image_size": 48,
        "use_lora": False,
        "freeze_backbone": False,
        "dropout": 0.0,
        "mask_head_channels": 16,
    }

    def make(**changes) -> PolicySpec:
        config = MaskACTConfig.from_dict(tiny | changes)
        return PolicySpec(
            config=config,
            robot=robot,
            statistics=Statistics.from_limits(robot),
            backbone=BACKBONE | {"num_hidden_layers": 1, "pos_embed_rescale": None},
            mask_classes=default_mask_classes(config.num_mask),
        )

    return make


@pytest.fixture
def batch():
    """Two observations of the tiny policy; the second one's chunk is padded after two actions."""
    generator = torch.Generator().manual_seed(5)
    is_pad = torch.zeros(2, 6, dtype=torch.bool)
    is_pad[1, 2:] = True
    return TrainingBatch(
        images=torch.randint(0, 256, (2, 48, 48, 3), dtype=torch.uint8, generator=generator),
        masks=torch.randint(0, 3, (2, 48, 48), generator=generator),
        state=torch.rand(2, 3, generator=generator),
        actions=torch.rand(2, 6, 3, generator=generator),
        action_is_pad=is_pad,
    )
