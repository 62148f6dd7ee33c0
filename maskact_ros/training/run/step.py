"""One step of the optimizer; its learning rates depend on its number, all randomness on seed and number."""

from __future__ import annotations

import math

import numpy as np
import torch

from maskact_ros.policy.model.losses import Losses
from maskact_ros.policy.model.maskact import MaskACT, TrainingBatch
from maskact_ros.training.errors import TrainingError
from maskact_ros.training.run.devices import computing, moved
from maskact_ros.training.run.training_run import Run

_FLOOR = 0.01  # factor of the learning rates at the end of the cosine
_FORWARD = 2  # a random stream's purpose, besides those of batches


def take_step(run: Run, step: int, batch: TrainingBatch) -> dict[str, float]:
    """Do one step of the optimizer; return the losses by name, and the gradient's norm."""
    model, optimizer = run.learner.model, run.learner.optimizer
    stream = np.random.SeedSequence([run.settings.seed, _FORWARD, step, run.accelerator.process_index])
    torch.manual_seed(int(stream.generate_state(1, np.uint64)[0]))
    for group, rate in zip(optimizer.param_groups, run.rates, strict=True):
        group["lr"] = rate * rate_factor(step, run.settings.steps, run.settings.warmup)
    run.module.train()
    device = run.accelerator.device
    with computing(run.settings.precision, device):
        losses: Losses = run.module(moved(batch, device))
    optimizer.zero_grad()
    run.accelerator.backward(losses.total)
    norm = run.accelerator.clip_grad_norm_(model.parameters(), run.settings.clip_norm)
    optimizer.step()
    # Only now, because reading a number waits for the GPU. A value that is not finite ends the run without saving.
    named = losses.named()
    _check_finite(named, "loss", step, run)
    named |= {"gradient_norm": float(norm)}
    _check_finite(named, "gradient", step, run)
    if run.learner.ema is not None:
        average(run.learner.ema, model, min(run.settings.ema, (1 + step) / (10 + step)))
    return named


def rate_factor(step: int, steps: int, warmup: int) -> float:
    """The factor of a step's learning rates: a linear rise to 1, then a fall along half a cosine."""
    warmup = min(warmup, steps // 2)
    if step < warmup:
        return (step + 1) / warmup
    share = (step - warmup) / max(steps - warmup, 1)
    return _FLOOR + (1 - _FLOOR) * 0.5 * (1 + math.cos(math.pi * share))


@torch.no_grad()
def average(ema: MaskACT, model: MaskACT, decay: float) -> None:
    """ema = decay * ema + (1 - decay) * model, in place; counters are copied; frozen parameters are equal in both."""
    learning: list[tuple[torch.Tensor, torch.Tensor]] = [
        (a, b) for a, b in zip(ema.parameters(), model.parameters(), strict=True) if b.requires_grad
    ]
    learning += zip(ema.buffers(), model.buffers(), strict=True)
    real = [(a, b) for a, b in learning if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in real], [b for _, b in real], 1 - decay)
    for a, b in learning:
        if not a.is_floating_point():
            a.copy_(b)


def _check_finite(named: dict[str, float], what: str, step: int, run: Run) -> None:
    if all(math.isfinite(value) for value in named.values()):
        return
    listed = ", ".join(f"{name} {value:g}" for name, value in named.items())
    kept = f"{run.folder.checkpoint} is whole" if run.folder.checkpoint.exists() else "nothing was saved yet"
    raise TrainingError(f"step {step + 1}: the {what} is not finite ({listed}); lower optimizer_lr; {kept}")
