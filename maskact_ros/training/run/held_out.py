"""The held-out loss and the masks' intersection over union, on episodes that are not trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from maskact_ros.policy.model.maskact import MaskACT
from maskact_ros.training.iou import confusion, intersection_over_union
from maskact_ros.training.run.batches import Batches
from maskact_ros.training.run.devices import moved

_MOST_ROWS = 512  # evenly spaced rows; more would not change the result


@dataclass(frozen=True)
class HeldOut:
    """The results of a policy on held-out rows."""

    losses: dict[str, float]
    iou: dict[str, float]  # by class; without classes that are neither in the truth nor in the prediction


def chosen_rows(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The held-out rows that are evaluated."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _MOST_ROWS)).round().astype(np.int64))]


@torch.no_grad()
def evaluate(model: MaskACT, batches: Batches, rows: NDArray[np.int64], device: torch.device) -> HeldOut:
    """Losses in evaluation mode, without augmentation; the model is left in evaluation mode."""
    model.eval()
    classes = model.spec.config.num_mask
    totals: dict[str, float] = {}
    counts = np.zeros((classes, classes), np.int64)
    for first in range(0, len(rows), batches.batch_size):
        part = rows[first : first + batches.batch_size]
        batch = moved(batches.plain(part), device)
        encoded = model.encode_batch(batch)
        for name, value in model.losses(encoded, batch).named().items():
            totals[name] = totals.get(name, 0.0) + value * len(part) / len(rows)
        if encoded.segmentation is not None and batch.masks is not None:
            seen = encoded.segmentation.pixel_logits.argmax(dim=1)  # (B, S, S)
            counts += confusion(batch.masks.cpu().numpy(), seen.cpu().numpy(), classes)
    return HeldOut(totals, intersection_over_union(counts, model.spec.mask_classes))
