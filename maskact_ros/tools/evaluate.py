"""`maskact evaluate`: a policy's success rate in the simulated task, in this process or through the three nodes.

In: the command's arguments. Out: an `Evaluation`, with fewer episodes if Ctrl-C ended it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.core.config import NONE
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.outputs import output_path
from maskact_ros.core.parallel import HERE, Workers
from maskact_ros.training.evaluation.measured import collect, measure
from maskact_ros.training.evaluation.success_rate import EpisodeResult, Evaluation, Setup, check_counts


@dataclass(frozen=True, kw_only=True)
class EvaluateArguments:
    """The command's arguments."""

    checkpoint: str = ""
    expert: bool = False
    episodes: int = 100
    seed: int = 0
    shift: str = "none"
    backend: str = "torch"
    precision: str = "fp32"
    ensemble: str | None = None  # a number, or "none"; None: as in the checkpoint
    n_action_steps: int | None = None
    latency: float | None = None  # modelled seconds from image to chunk; None: 0.1, or the real latency through ROS
    time_limit: float = 20.0
    workers: Workers = HERE
    film: Path | None = None
    through_ros: bool = False


def run_evaluate(arguments: EvaluateArguments) -> Evaluation:
    """Measure; raises MaskACTError for arguments that are wrong, alone or together."""
    check_counts(episodes=arguments.episodes, seed=arguments.seed)
    setup = _setup(arguments)
    seeds = range(arguments.seed, arguments.seed + arguments.episodes)
    if arguments.through_ros:
        return _through_ros(arguments, setup, seeds)
    film = output_path(arguments.film) if arguments.film else None
    return measure(setup, seeds, workers=arguments.workers, film=film)


def _through_ros(arguments: EvaluateArguments, setup: Setup, seeds: range) -> Evaluation:
    """Measure in real time through the nodes, one episode at a time."""
    from maskact_ros.tools.evaluate_nodes import run_through_nodes  # loads rclpy

    if not setup.checkpoint:
        raise MaskACTError("--through-ros measures a checkpoint; maskact demo --expert shows the expert in the nodes")
    for name, fixed in (
        ("--latency", arguments.latency is not None),
        ("--jobs", arguments.workers.jobs > 1),
        ("--cluster", arguments.workers.cluster is not None),
        ("--film", arguments.film is not None),
    ):
        if fixed:
            raise MaskACTError(f"{name} is for evaluations in one process: --through-ros runs the nodes in real time")
    results: list[EpisodeResult] = []
    episodes = run_through_nodes(setup, seeds, lambda line: print(line, file=sys.stderr))
    collect(episodes, results, len(seeds), f"{setup.shift}, through ROS")
    return Evaluation.of(setup, results, through_ros=True)


def _setup(a: EvaluateArguments) -> Setup:
    rest: dict[str, Any] = {
        "shift": a.shift,
        "backend": a.backend,
        "precision": a.precision,
        "time_limit_s": a.time_limit,
    }
    if a.latency is not None:
        rest["latency_s"] = a.latency
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
