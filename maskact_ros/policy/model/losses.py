"""The losses of both training stages, each component by its name."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch.nn.functional as F
from torch import Tensor

from maskact_ros.core.config import MaskACTConfig
from maskact_ros.policy.errors import PolicyError
from maskact_ros.policy.model.act import Latent

AUXILIARY_WEIGHT = 0.4  # of the auxiliary head's loss beside the mask head's, as PSPNet has it


@dataclass(frozen=True, eq=False)
class Losses:
    """The total, and its components before their weights; None for what the policy or the stage does not have."""

    total: Tensor
    mask: Tensor | None = None
    auxiliary_mask: Tensor | None = None
    action: Tensor | None = None
    kl: Tensor | None = None

    def named(self) -> dict[str, float]:
        """Numbers for a log."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value.item() for name, value in values.items() if value is not None}


def stage1_losses(mask: Tensor, auxiliary_mask: Tensor | None) -> Losses:
    """The mask's losses alone."""
    return Losses(total=_all_masks(mask, auxiliary_mask), mask=mask, auxiliary_mask=auxiliary_mask)


def stage2_losses(
    config: MaskACTConfig, *, mask: Tensor | None, auxiliary_mask: Tensor | None, action: Tensor, kl: Tensor | None
) -> Losses:
    """action_loss_weight * (action + kl_weight * KL) + mask_loss_weight * mask."""
    total = config.action_loss_weight * (action if kl is None else action + config.kl_weight * kl)
    if mask is not None:
        total = total + config.mask_loss_weight * _all_masks(mask, auxiliary_mask)
    return Losses(total=total, mask=mask, auxiliary_mask=auxiliary_mask, action=action, kl=kl)


def mask_loss(pixel_logits: Tensor, masks: Tensor) -> Tensor:
    """Cross entropy of logits (B, C, S, S) against class ids (B, S, S), the mean over pixels.

    Raises:
        PolicyError: a mask on the CPU holds a class that the policy does not have. One on a card would have to be
            waited for, in the middle of a step; a trainer knows its masks before.
    """
    classes = pixel_logits.shape[1]
    bounds = masks.aminmax() if masks.device.type == "cpu" else ()
    for label in (int(bound) for bound in bounds):
        if not 0 <= label < classes:
            raise PolicyError(f"a mask holds the class {label}; allowed: 0 to {classes - 1}, as num_mask is {classes}")
    return F.cross_entropy(pixel_logits, masks.long())


def action_loss(predicted: Tensor, actions: Tensor, is_pad: Tensor) -> Tensor:
    """Mean L1 distance of (B, K, D), over the actions that are not padding (B, K)."""
    kept = ~is_pad[:, :, None].expand_as(actions)
    return ((predicted - actions).abs() * kept).sum() / kept.sum().clamp(min=1)


def kl_divergence(latent: Latent) -> Tensor:
    """From the standard normal distribution, summed over the latent's dimensions, the mean over the batch."""
    divergence = 0.5 * (latent.mean**2 + latent.log_variance.exp() - 1 - latent.log_variance)
    return divergence.sum(dim=-1).mean()


def _all_masks(mask: Tensor, auxiliary_mask: Tensor | None) -> Tensor:
    return mask if auxiliary_mask is None else mask + AUXILIARY_WEIGHT * auxiliary_mask
