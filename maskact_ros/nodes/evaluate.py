"""`maskact evaluate`: a policy's rate of success in the simulated task, in this process or through the three nodes.

In: what to measure. Out: an `Evaluation`; of fewer episodes, if Ctrl-C ended it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskact_ros.checkpoint import CheckpointInfo
from maskact_ros.config import NONE
from maskact_ros.errors import MaskACTError
from maskact_ros.paths import given
from maskact_ros.training.evaluate import Evaluation, Setup, check_counts
from maskact_ros.training.measure import measure


@dataclass(frozen=True, kw_only=True)
class EvaluateArguments:
    """The command's arguments."""

    checkpoint: str = ""
    expert: bool = False
    episodes: int = 100
    seed: int = 0
    shift: str = "none"
    backend: str = "torch"
    ensemble: str | None = None  # a number or none; left out: as in the checkpoint
    n_action_steps: int | None = None
    latency: float = 0.1
    time_limit: float = 20.0
    jobs: int = 1
    film: Path | None = None


def run_evaluate(arguments: EvaluateArguments) -> Evaluation:
    """Measure; raises MaskACTError when it cannot be done as asked."""
    check_counts(episodes=arguments.episodes, seed=arguments.seed, jobs=arguments.jobs)
    seeds = range(arguments.seed, arguments.seed + arguments.episodes)
    return measure(
        _setup(arguments), seeds, jobs=arguments.jobs, film=given(arguments.film) if arguments.film else None
    )


def _setup(a: EvaluateArguments) -> Setup:
    rest = {"shift": a.shift, "backend": a.backend, "latency_s": a.latency, "time_limit_s": a.time_limit}
    if a.expert == bool(a.checkpoint):
        raise MaskACTError("there is one thing to measure: give either the folder of a CHECKPOINT, or --expert")
    if a.expert:
        if a.ensemble is not None or a.n_action_steps is not None:
            raise MaskACTError("--ensemble and --n-action-steps are for policies, not for the --expert")
        return Setup.of_expert(**rest)
    runtime: dict[str, Any] = {}
    if a.n_action_steps is not None:
        runtime["n_action_steps"] = a.n_action_steps
    if a.ensemble is not None:
        runtime["temporal_ensemble_coeff"] = _coefficient(a.ensemble)
    return Setup.of_policy(CheckpointInfo.read(a.checkpoint), runtime, **rest)


def _coefficient(text: str) -> float | None:
    try:
        return None if text == NONE else float(text)
    except ValueError:
        raise MaskACTError(f"--ensemble is {text!r}; allowed: none, or a number such as 0.01") from None
