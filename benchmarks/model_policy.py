"""The policies for the model's benchmark: random weights, usual sizes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from maskact_ros.core.checkpoint import CheckpointInfo, PolicySpec, default_mask_classes
from maskact_ros.core.config import LATENT_LABEL, MaskACTConfig
from maskact_ros.core.paths import shared
from maskact_ros.core.robot import RobotSpec
from maskact_ros.core.statistics import Statistics
from maskact_ros.policy.commands import BackboneSource, untrained_policy
from maskact_ros.policy.model.backbone import preset
from maskact_ros.policy.model.mask_head import as_grid
from maskact_ros.policy.model.maskact import MaskACT
from maskact_ros.policy.model.weights import save_checkpoint

TINY = "tiny"  # only to test the benchmark itself
BACKBONES = ("vits16", "vitb16", "vitl16", TINY)
BACKGROUND = 0
_NUM_MASK = 4
_TINY_SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
_CAMERA = (480, 640)  # height and width


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One policy."""

    backbone: str
    image_size: int
    chunk: int
    dim_model: int

    def config(self) -> MaskACTConfig:
        """The specification's defaults, and rules that isolate the background; raises ConfigError."""
        seen = tuple(range(1, _NUM_MASK))
        rules = dict.fromkeys((LATENT_LABEL, *seen), (LATENT_LABEL, *seen)) | {BACKGROUND: (BACKGROUND,)}
        tiny: dict[str, Any] = {"dim_feedforward": 64, "mask_head_channels": 16} if self.backbone == TINY else {}
        return MaskACTConfig(
            vision_backbone="dinov3_vits16" if self.backbone == TINY else f"dinov3_{self.backbone}",
            image_size=self.image_size,
            chunk_size=self.chunk,
            n_action_steps=self.chunk,
            dim_model=self.dim_model,
            num_mask=_NUM_MASK,
            label_attention_rules=rules,
            **tiny,
        )


def write_policy(folder: Path, setting: Setting) -> CheckpointInfo:
    """Write the checkpoint of a policy with random weights, whose mask head finds every class somewhere."""
    config, robot = setting.config(), RobotSpec.from_yaml(shared("config/robot.yaml"))
    settings = preset(config.vision_backbone) | (_TINY_SIZES if setting.backbone == TINY else {})
    spec = PolicySpec(
        config=config,
        robot=robot,
        statistics=Statistics.from_limits(robot),
        backbone=settings,
        mask_classes=default_mask_classes(config.num_mask),
    )
    source = BackboneSource(settings=settings, weights=None, folder=folder, origin="random weights")
    model = untrained_policy(spec, source, seed=0)
    _balance(model, spec)
    return save_checkpoint(folder, model)


@torch.inference_mode()
def _balance(model: MaskACT, spec: PolicySpec) -> None:
    """Shift the classes' logits to be close to each other, so that a loss of precision shows in the labels."""
    perception = model.eval().perception
    assert perception.mask_head is not None
    picture = spec.geometry.to_model(camera_picture(), spec.config.image_size)
    logits = perception.mask_head(as_grid(perception.features(torch.from_numpy(picture)[None])))
    classifier = perception.mask_head.classifier[-1]
    assert isinstance(classifier, torch.nn.Conv2d)
    assert classifier.bias is not None
    classifier.bias.data -= logits.mean(dim=(0, 2, 3))


def camera_picture(seed: int = 0) -> NDArray[np.uint8]:
    """A picture (480, 640, 3) with patches of colour and some noise."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 256, (12, 16, 3)).repeat(40, axis=0).repeat(40, axis=1)
    noisy: NDArray[np.uint8] = np.clip(colours + rng.normal(0, 8, (*_CAMERA, 3)), 0, 255).astype(np.uint8)
    return noisy


def patch_labels(config: MaskACTConfig, background: float) -> NDArray[np.int8]:
    """(N,) labels with a share of background, and the other classes in the middle, in equal numbers."""
    side = config.patches_per_side
    row, column = np.divmod(np.arange(side**2), side)
    middle = (side - 1) / 2
    outward = np.argsort(np.hypot(row - middle, column - middle), kind="stable")
    kept = side**2 - round(background * side**2)
    labels = np.full(side**2, BACKGROUND, np.int8)
    labels[outward[:kept]] = 1 + np.arange(kept) * (config.num_mask - 1) // max(kept, 1)
    return labels
