"""Evaluations with a progress bar; Ctrl-C ends one early, with the results so far."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.core.parallel import HERE, Workers
from maskact_ros.core.progress import Progress
from maskact_ros.training.evaluation.policy_video import FILMED, filming
from maskact_ros.training.evaluation.success_rate import EpisodeResult, Evaluation, EvaluationError, Setup, run


def measure(setup: Setup, seeds: Sequence[int], *, workers: Workers = HERE, film: Path | None = None) -> Evaluation:
    """Evaluate, with progress on stderr; with fewer seeds after Ctrl-C. `film` makes a video of the first episodes.

    Raises:
        MaskACTError: as `run`, or there is nothing to film.
    """
    results: list[EpisodeResult] = []
    filmed = 0 if film is None else FILMED
    try:
        if film is not None:
            if not setup.checkpoint:
                raise EvaluationError("--film shows what a policy sees, and the expert sees no pictures")
            with filming(film, CheckpointInfo.read(setup.checkpoint)) as watcher:
                collect(run(setup, seeds[:filmed], watcher=watcher), results, len(seeds), setup.shift)
        if seeds[filmed:]:
            with closing(run(setup, seeds[filmed:], workers=workers)) as episodes:
                collect(episodes, results, len(seeds), setup.shift)
    except KeyboardInterrupt:
        pass
    return Evaluation.of(setup, results)


def collect(episodes: Iterable[EpisodeResult], into: list[EpisodeResult], total: int, title: str) -> None:
    """Collect episodes as they end, with progress: a bar on a terminal, else a line from time to time."""
    with Progress(title, total, done=len(into)) as progress:
        for result in episodes:
            into.append(result)
            progress.advance(1, f"{sum(result.success for result in into)} solved")
