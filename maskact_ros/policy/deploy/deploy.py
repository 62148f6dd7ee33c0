"""A checkpoint's weights as the modules that run on a robot: one picture each, tensors in and out, nothing of training.

They compute what `Perception` and `Planner` compute, faster. Rules, class weights and the choice of patches are
inputs, and `forward` has no branch on a value, so that each can be exported as it is. LoRA is merged, gradients are
off, and nothing is written to in a call, so that two threads may use them at once.
"""

from __future__ import annotations

from dataclasses import replace

from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.policy.deploy.deploy_encoder import DeployedEncoder
from maskact_ros.policy.deploy.deploy_mask_head import DeployedMaskHead
from maskact_ros.policy.deploy.deploy_planner import DeployedPlanner
from maskact_ros.policy.model.maskact import Perception, Planner
from maskact_ros.policy.model.weights import load_part


def deployed_perception(info: CheckpointInfo) -> tuple[DeployedEncoder, DeployedMaskHead | None]:
    """Encoder and mask head of a checkpoint, on the CPU; None where it has no masks; raises MaskACTError."""
    perception = Perception(_without_training_parts(info))
    load_part(info, perception, "perception.", without=("auxiliary_head.",))
    perception.encoder.merge_lora()
    perception.eval().requires_grad_(False)
    mask_head = None if perception.mask_head is None else DeployedMaskHead(perception).eval()
    return DeployedEncoder(perception).eval(), mask_head


def deployed_planner(info: CheckpointInfo) -> DeployedPlanner:
    """ACT of a checkpoint, on the CPU; raises MaskACTError."""
    planner = Planner(_without_training_parts(info))
    load_part(info, planner, "planner.", without=("act.vae.",))
    return DeployedPlanner(planner.eval().requires_grad_(False)).eval()


def _without_training_parts(info: CheckpointInfo) -> CheckpointInfo:
    return replace(info, config=replace(info.config, use_aux_head=False, use_vae=False))
