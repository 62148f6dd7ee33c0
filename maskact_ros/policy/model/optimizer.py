"""The optimizer of a training stage, with a learning rate for each part of the policy."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from maskact_ros.policy.model.maskact import MaskACT

_MASK_HEAD_RATIO = 0.1  # the mask head's learning rate in stage 2, of optimizer_lr: stage 1 has trained it


def parameter_groups(model: MaskACT) -> list[dict[str, Any]]:
    """Groups for a torch optimizer, each with a `name` and an `lr`, without frozen parameters."""
    config = model.spec.config
    perception = model.perception
    if config.training_stage == "stage1":
        encoder_lr, mask_lr = config.optimizer_lr_backbone, config.optimizer_lr
    else:
        encoder_lr, mask_lr = config.optimizer_lr * config.stage2_dino_lr_ratio, config.optimizer_lr * _MASK_HEAD_RATIO
    parts: list[tuple[str, nn.Module | None, float]] = [
        ("encoder", perception.encoder, encoder_lr),
        ("mask_head", perception.mask_head, mask_lr),
        ("auxiliary_head", perception.auxiliary_head, mask_lr),
        ("planner", model.planner, config.optimizer_lr),
    ]
    groups = []
    for name, module, lr in parts:
        trained = [] if module is None else [p for p in module.parameters() if p.requires_grad]
        if trained:
            groups.append({"name": name, "params": trained, "lr": lr})
    return groups


def build_optimizer(model: MaskACT) -> torch.optim.AdamW:
    """AdamW with the configuration's betas and weight decay."""
    config = model.spec.config
    return torch.optim.AdamW(
        parameter_groups(model),
        betas=config.optimizer_betas,
        weight_decay=config.optimizer_weight_decay,
        fused=True,  # one pass over the memory instead of a dozen
    )
