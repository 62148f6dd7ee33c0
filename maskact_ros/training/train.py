"""`train`: one training stage, from datasets to a checkpoint.

Settings → datasets and their decoded frames → model and optimizer → the loop, which logs, evaluates and saves.
All randomness of a step follows from seed and step: a run that was killed ends, on a CPU, as if it had not been.
"""

from __future__ import annotations

import copy
import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from maskact_ros.checkpoint import PolicySpec
from maskact_ros.data.dataset import Dataset
from maskact_ros.data.progress import Progress
from maskact_ros.policy.losses import Losses
from maskact_ros.policy.maskact import MaskACT, TrainingBatch
from maskact_ros.policy.optimizer import build_optimizer
from maskact_ros.training.batches import Batches, Prefetcher, Rows, rows_of, split_episodes
from maskact_ros.training.devices import loader_threads, moved, start_accelerator
from maskact_ros.training.errors import TrainingError
from maskact_ros.training.frames import fingerprint, open_frames
from maskact_ros.training.held_out import chosen_rows, evaluate
from maskact_ros.training.plan import print_plan
from maskact_ros.training.run_folder import Learner, Progressed, RunFolder
from maskact_ros.training.run_log import HELD_OUT, THROUGHPUT, TRAINING, RunLog
from maskact_ros.training.settings import TrainSettings
from maskact_ros.training.start import initial_model, open_datasets

_LOG_EVERY = 50  # steps that a line of the log is the mean of
_FLOOR = 0.01  # of the learning rates, at the end of the cosine
_FORWARD = 2  # what a random stream is for, beside those of batches


@dataclass(eq=False)
class _Run:
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
        return bool(self.accelerator.is_main_process)


def train(settings: TrainSettings, *, resume: bool = False) -> int:
    """Run a stage to its end, or until a signal; the exit status.

    Raises:
        MaskACTError: what was given does not fit together, the loss is not finite, or the disk is full.
    """
    accelerator = start_accelerator(settings)
    run = _prepared(settings, accelerator, resume)
    if run.main:
        print_plan(settings, run.learner, run.rates, run.batches)
        print(f"{accelerator.num_processes} process(es) on {accelerator.device}")
    with _signals() as received:
        try:
            return _loop(run, received)
        except OSError as error:  # of the log; what else is written says so itself
            reason = error.strerror or str(error)
            raise TrainingError(
                f"{settings.out}: cannot be written ({reason}); the last state saved is whole"
            ) from None


def resumed(out: Path) -> TrainSettings:
    """The settings of the run in a folder; raises TrainingError where there is none."""
    return RunFolder(out).settings()


def _prepared(settings: TrainSettings, accelerator: Accelerator, resume: bool) -> _Run:
    folder = RunFolder(settings.out)
    if not resume:
        folder.check_new()  # before hours of decoding
    datasets = open_datasets(settings)
    fingerprints = [fingerprint(dataset) for dataset in datasets]
    model, origin = _begun(settings, datasets, folder.spec(fingerprints) if resume else None, folder.has_state)
    config, geometry = model.spec.config, model.spec.geometry
    with accelerator.main_process_first():
        caches = [settings.cache or dataset.folder / ".cache" for dataset in datasets]
        rows = Rows.of(
            datasets,
            [open_frames(d, cache, geometry, config.image_size) for d, cache in zip(datasets, caches, strict=True)],
        )
    largest = max(frames.largest_class for frames in rows.frames)
    if config.use_mask and rows.with_masks and largest >= config.num_mask:
        raise TrainingError(f"a mask holds the class {largest}; allowed: 0 to {config.num_mask - 1}")
    training, held_out = split_episodes(rows.sources, settings.val_episodes, settings.seed)

    model.to(accelerator.device)
    optimizer = build_optimizer(model)
    rates = [group["lr"] for group in optimizer.param_groups]
    ema = copy.deepcopy(model).requires_grad_(False) if settings.ema else None
    learner = Learner(model, optimizer, ema)
    progressed = folder.restore(learner) if resume and folder.has_state else Progressed()
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
    )
    prepared = accelerator.prepare(model)
    if accelerator.is_main_process:
        if resume:
            folder.clear()
        else:  # last: what was refused leaves no run behind
            folder.create(settings, model.spec, fingerprints)
        print(origin)
    return _Run(
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
    """The model that a run begins with, or goes on with where it has a state; and where its weights come from."""
    if spec is not None and has_state:
        return MaskACT(spec), f"the state of {settings.out}"
    model, origin = initial_model(settings, datasets)
    if spec is not None and model.spec != spec:
        raise TrainingError(
            f"{settings.out}: nothing was saved yet, and {settings.config} or --init has changed since the run was "
            "started; start a new run"
        )
    return model, origin


def _loop(run: _Run, received: list[int]) -> int:
    settings, begin = run.settings, run.progressed.step
    steps = range(begin, settings.steps)
    computing_s = 0.0
    seen: list[dict[str, float]] = []
    with (
        _log(run) as log,
        Prefetcher(run.batches, steps, loader_threads(run.accelerator)) as batches,
        Progress(settings.stage, settings.steps, done=begin, quiet=not run.main) as progress,
    ):
        if begin:
            _save(run)  # the run may have been killed between its state and its checkpoint
        begin_s = time.perf_counter()
        for step, batch in batches:
            seen.append(_step(run, step, batch))
            run.progressed = replace(run.progressed, step=step + 1)
            progress.advance(1, f"loss {seen[-1]['total']:.4f}")
            done = step + 1
            stopping = _any_received(run, received)
            evaluating = done % settings.eval_every == 0 or done == settings.steps
            if done % _LOG_EVERY == 0 or evaluating or stopping:
                _log_training(run, log, seen)
                seen = []
            if evaluating or stopping:
                computing_s += time.perf_counter() - begin_s
                if evaluating:
                    _evaluate(run, log, progress)
                _save(run)
                if stopping:
                    progress.say(f"stopped after step {done}; --resume goes on from there")
                    break
                begin_s = time.perf_counter()
    if run.main:
        _report(run, run.progressed.step - begin, computing_s, batches.waited_s)
    return 128 + received[0] if received and run.progressed.step < settings.steps else 0


def _step(run: _Run, step: int, batch: TrainingBatch) -> dict[str, float]:
    """One step of the optimizer; the losses by name, with the gradient's norm."""
    model, optimizer = run.learner.model, run.learner.optimizer
    stream = np.random.SeedSequence([run.settings.seed, _FORWARD, step, run.accelerator.process_index])
    torch.manual_seed(int(stream.generate_state(1, np.uint64)[0]))
    for group, rate in zip(optimizer.param_groups, run.rates, strict=True):
        group["lr"] = rate * rate_factor(step, run.settings.steps, run.settings.warmup)
    run.module.train()
    losses: Losses = run.module(moved(batch, run.accelerator.device))
    named = losses.named()
    _check_finite(named, "loss", step, run)
    optimizer.zero_grad()
    run.accelerator.backward(losses.total)
    norm = float(run.accelerator.clip_grad_norm_(model.parameters(), run.settings.clip_norm))
    _check_finite(named | {"gradient": norm}, "gradient", step, run)
    optimizer.step()
    if run.learner.ema is not None:
        average(run.learner.ema, model, min(run.settings.ema, (1 + step) / (10 + step)))
    return named | {"gradient_norm": norm}


def rate_factor(step: int, steps: int, warmup: int) -> float:
    """What a step's learning rates are of their full values: up in a line, then down along half a cosine."""
    warmup = min(warmup, steps // 2)
    if step < warmup:
        return (step + 1) / warmup
    share = (step - warmup) / max(steps - warmup, 1)
    return _FLOOR + (1 - _FLOOR) * 0.5 * (1 + math.cos(math.pi * share))


@torch.no_grad()
def average(ema: MaskACT, model: MaskACT, decay: float) -> None:
    """ema = decay * ema + (1 - decay) * model, in place; counters are copied."""
    ours, theirs = list(ema.state_dict().values()), list(model.state_dict().values())
    real = [(a, b) for a, b in zip(ours, theirs, strict=True) if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in real], [b for _, b in real], 1 - decay)
    for a, b in zip(ours, theirs, strict=True):
        if not a.is_floating_point():
            a.copy_(b)


def _check_finite(named: dict[str, float], what: str, step: int, run: _Run) -> None:
    if all(math.isfinite(value) for value in named.values()):
        return
    listed = ", ".join(f"{name} {value:g}" for name, value in named.items())
    kept = f"{run.folder.checkpoint} is whole" if run.folder.checkpoint.exists() else "nothing was saved yet"
    raise TrainingError(f"step {step + 1}: the {what} is not finite ({listed}); lower optimizer_lr; {kept}")


def _evaluate(run: _Run, log: RunLog | None, progress: Progress) -> None:
    if not len(run.held_out) or log is None:
        return
    result = evaluate(run.learner.policy, run.batches, run.held_out, run.accelerator.device)
    step, total = run.progressed.step, result.losses["total"]
    log.add(step, HELD_OUT, result.losses | {"iou": result.iou})
    iou = "".join(f", {name} {value:.3f}" for name, value in result.iou.items())
    progress.say(f"step {step}: held-out loss {total:.4f}" + (f"; IoU{iou[1:]}" if iou else ""))
    if run.progressed.best_loss is None or total < run.progressed.best_loss:
        run.progressed = replace(run.progressed, best_loss=total)
        run.folder.save_best(run.learner)
    log.draw_now_and_then()


def _save(run: _Run) -> None:
    if run.main:
        run.folder.save(run.learner, run.progressed)
    run.accelerator.wait_for_everyone()


@contextmanager
def _log(run: _Run) -> Iterator[RunLog | None]:
    """The log, in the main process."""
    if not run.main:
        yield None
        return
    with RunLog(run.folder.path, run.progressed.step) as log:
        yield log


def _log_training(run: _Run, log: RunLog | None, seen: list[dict[str, float]]) -> None:
    if log is not None:
        means = {name: sum(values[name] for values in seen) / len(seen) for name in seen[0]}
        log.add(run.progressed.step, TRAINING, means | {"rate": run.learner.optimizer.param_groups[-1]["lr"]})


def _report(run: _Run, steps: int, computing_s: float, waited_s: float) -> None:
    """Print, and log, how fast it went."""
    if not steps:
        print(f"{run.folder.path}: nothing to do, all {run.settings.steps} steps are done")
        return
    speed, share = steps * run.settings.batch_size / computing_s, waited_s / computing_s
    print(f"{run.folder.checkpoint}: step {run.progressed.step} of {run.settings.steps}")
    print(f"{speed:.1f} samples/s, {100 * share:.1f} % of the time spent waiting for data")
    with RunLog(run.folder.path, run.progressed.step) as log:
        log.add(run.progressed.step, THROUGHPUT, {"samples_per_s": speed, "waiting_share": share})
        log.draw()


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM: the step in progress is finished and saved. A second one has its usual effect."""
    received: list[int] = []
    usual: dict[int, Any] = {}

    def receive(number: int, _frame: object) -> None:
        received.append(number)
        signal.signal(number, usual[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        usual[number] = signal.signal(number, receive)
    try:
        yield received
    finally:
        for caught, handler in usual.items():
            signal.signal(caught, handler)


def _any_received(run: _Run, received: list[int]) -> bool:
    """Whether a signal has come, to any of the processes."""
    if run.accelerator.num_processes == 1:
        return bool(received)
    if received:
        run.accelerator.set_trigger()
    return bool(run.accelerator.check_trigger())
