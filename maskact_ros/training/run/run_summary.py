"""Prints the plan before the first step: trained and frozen parts, learning rates, and rows."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from maskact_ros.training.run.batches import Batches
from maskact_ros.training.run.run_folder import Learner
from maskact_ros.training.run.settings import TrainSettings

_PARTS = (  # the first that a parameter's name begins with
    ("perception.encoder.backbone.", "backbone"),
    ("perception.encoder.", "projection"),
    ("perception.mask_head.", "mask head"),
    ("perception.auxiliary_head.", "auxiliary head"),
    ("planner.", "planner"),
)


def print_plan(settings: TrainSettings, learner: Learner, rates: Sequence[float], batches: Batches) -> None:
    """Print the table; `rates` are the optimizer's groups' full learning rates."""
    rate_of = {
        id(parameter): rate
        for group, rate in zip(learner.optimizer.param_groups, rates, strict=True)
        for parameter in group["params"]
    }
    counts: dict[tuple[str, float | None], int] = {}
    for name, parameter in learner.model.named_parameters():
        key = (_part(name), rate_of.get(id(parameter)))
        counts[key] = counts.get(key, 0) + parameter.numel()
    table = Table("part", "parameters", "", "learning rate", title=f"{settings.stage}, {settings.steps} steps")
    for (part, rate), count in counts.items():
        table.add_row(part, f"{count:,}", *(("frozen", "") if rate is None else ("trained", f"{rate:g}")))
    Console().print(table)
    rows, training = batches.rows, len(batches.training_rows)
    print(
        f"{len(rows.episodes)} episodes: {training} rows to train on, {len(rows.states) - training} held out; "
        f"batches of {settings.batch_size}"
    )
    if settings.augment.needs_masks and not rows.with_masks:
        print("the dataset has no masks: augmentation class by class is left out")


def _part(name: str) -> str:
    if ".lora_" in name:
        return "LoRA adapters"
    return next(part for prefix, part in _PARTS if name.startswith(prefix))
