"""`Run`: a run in progress, in one process; `prepare` makes it from settings.

Settings → datasets and their decoded frames → model and optimizer, with the state of a resumed run → batches.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from maskact_ros.core.checkpoint import PolicySpec
from maskact_ros.data.datasets.dataset import Dataset
from maskact_ros.policy.model.maskact import MaskACT
from maskact_ros.policy.model.optimizer import build_optimizer
from maskact_ros.training.errors import TrainingError
from maskact_ros.training.run.batches import Batches, Rows, also_trained_on, rows_of, split_episodes
from maskact_ros.training.run.devices import chosen_precision, compile_transformers
from maskact_ros.training.run.features import open_tokens
from maskact_ros.training.run.frames import fingerprint, open_frames
from maskact_ros.training.run.held_out import chosen_rows
from maskact_ros.training.run.run_folder import Learner, Progressed, RunFolder
from maskact_ros.training.run.settings import TrainSettings
from maskact_ros.training.run.start import initial_model, open_datasets


@dataclass(eq=False)
class Run:
    """A run in progress, in one process."""

    settings: TrainSettings
    folder: RunFolder
    accelerator: Accelerator
    learner: Learner
    module: torch.nn.Module  # the model as accelerate wraps it
    batches: Batches
    held_out: NDArray[np.int64]  # rows
    rates: list[float]  # full learning rate of each group
    progressed: Progressed = field(default_factory=Progressed)

    @property
    def main(self) -> bool:
        """Whether this is the process that prints and writes."""
        return bool(self.accelerator.is_main_process)


def prepare(settings: TrainSettings, accelerator: Accelerator, *, resume: bool = False) -> Run:
    """Prepare all that a run needs for its next step, and create a new run's folder. Raises MaskACTError as `train`."""
    folder = RunFolder(settings.out)
    if not resume:
        sources = (*settings.datasets, *([settings.init] if settings.init else []))
        folder.check_new(sources)  # before hours of decoding
    datasets = open_datasets(settings)
    fingerprints = [fingerprint(dataset) for dataset in datasets]
    model, origin = _begun(settings, datasets, folder.spec(fingerprints) if resume else None, folder.has_state)
    config, geometry = model.spec.config, model.spec.geometry
    caches = [settings.cache or dataset.folder / ".cache" for dataset in datasets]
    with accelerator.main_process_first():
        frames = [open_frames(d, cache, geometry, config.image_size) for d, cache in zip(datasets, caches, strict=True)]
    largest = max(cache.largest_class for cache in frames)
    with_masks = all(cache.masks is not None for cache in frames)
    if config.use_mask and with_masks and largest >= config.num_mask:
        raise TrainingError(f"a mask holds the class {largest}; allowed: 0 to {config.num_mask - 1}")

    model.to(accelerator.device)
    optimizer = build_optimizer(model)
    rates = [group["lr"] for group in optimizer.param_groups]
    ema = copy.deepcopy(model).requires_grad_(False) if settings.ema else None
    learner = Learner(model, optimizer, ema)
    progressed = folder.restore(learner) if resume and folder.has_state else Progressed()
    with accelerator.main_process_first():
        tokens, uncached = open_tokens(settings, model, frames, caches)
    # Stored, so that a run resumed on another machine continues in the same way.
    settings = replace(
        settings, precision=chosen_precision(settings), cache_features="never" if tokens is None else "always"
    )
    rows = Rows.of(datasets, frames, tokens)
    training, held_out = split_episodes(rows.sources, settings.val_episodes, settings.seed)
    if accelerator.is_main_process and (leaked := also_trained_on(rows, training, held_out)):
        print(
            f"note: {len(leaked)} of {len(held_out)} held-out episodes are in the training data, too. Were two "
            "datasets made from the same bags? The held-out loss does not tell how well such a policy generalises"
        )
    batches = Batches(
        rows=rows,
        training_rows=rows_of(rows.episodes[training]),
        chunk_size=config.chunk_size,
        augmentation=settings.augment,
        seed=settings.seed,
        batch_size=settings.batch_size,
        process=accelerator.process_index,
        processes=accelerator.num_processes,
        use_masks=config.use_mask,
        pinned=accelerator.device.type == "cuda",
    )
    if settings.compile:
        compile_transformers(model)
    prepared = accelerator.prepare(model)
    if accelerator.is_main_process:
        if resume:
            folder.clear()
        else:  # last, so that a refused run leaves no folder
            folder.create(settings, model.spec, fingerprints)
        print(origin)
        print("features: " + (f"computed in each step, as {uncached}" if uncached else "cached"))
    return Run(
        settings=settings,
        folder=folder,
        accelerator=accelerator,
        learner=learner,
        module=prepared,
        batches=batches,
        held_out=chosen_rows(rows_of(rows.episodes[held_out])) if len(held_out) else np.empty(0, np.int64),
        rates=rates,
        progressed=progressed,
    )


def _begun(
    settings: TrainSettings, datasets: Sequence[Dataset], spec: PolicySpec | None, has_state: bool
) -> tuple[MaskACT, str]:
    """The model that a run begins or continues with, and the source of its weights."""
    if spec is not None and has_state:
        return MaskACT(spec), f"the state of {settings.out}"
    model, origin = initial_model(settings, datasets)
    if spec is not None and model.spec != spec:
        raise TrainingError(
            f"{settings.out}: nothing was saved yet, and {settings.config} or --init has changed since the run was "
            "started; start a new run"
        )
    return model, origin
