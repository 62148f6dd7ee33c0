"""The losses of both training stages, with their components by name."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch.nn.functional as F
from torch import Tensor

from maskact_ros.core.config import MaskACTConfig
from maskact_ros.policy.errors import PolicyError
from maskact_ros.policy.model.act import Latent

AUXILIARY_WEIGHT = 0.4  # weight of the auxiliary head's loss, the mask head's being 1, as in PSPNet


@dataclass(frozen=True, eq=False)
class Losses:
    """The total, and its components before weighting; None for a component that the policy or stage does not have."""

    total: Tensor
    mask: Tensor | None = None
    auxiliary_mask: Tensor | None = None
    action: Tensor | None = None
    kl: Tensor | None = None

    def named(self) -> dict[str, float]:
        """The values for a log."""
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
        PolicyError: a mask on the CPU has a class that the policy does not have. Masks on a GPU are not checked: that
            would have to wait for the GPU within a step, and a trainer checks its masks earlier.
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
    """KL divergence from the standard normal distribution: sum over the latent's dimensions, mean over the batch."""
    divergence = 0.5 * (latent.mean**2 + latent.log_variance.exp() - 1 - latent.log_variance)
    return divergence.sum(dim=-1).mean()


def _all_masks(mask: Tensor, auxiliary_mask: Tensor | None) -> Tensor:
    return mask if auxiliary_mask is None else mask + AUXILIARY_WEIGHT * auxiliary_mask
