"""Loads a checkpoint's weights into the modules for the robot: one picture at a time, without the training's parts.

They compute the same as `Perception` and `Planner`, faster. Rules, class weights and the choice of patches are inputs,
and `forward` has no branch on a value, so that each module can be exported. LoRA is merged, gradients are off. A call
changes no state, so two threads may call at once.
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
    """Encoder and mask head of a checkpoint, on the CPU. The mask head is None without masks. Raises MaskACTError."""
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
