"""Evaluations with a progress bar, which Ctrl-C ends early with what is done so far."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from maskact_ros.checkpoint import CheckpointInfo
from maskact_ros.training.evaluate import EpisodeResult, Evaluation, EvaluationError, Setup, run
from maskact_ros.training.film import FILMED, filming

_LINE_EVERY_S = 30.0  # where there is no terminal


def measure(setup: Setup, seeds: Sequence[int], *, jobs: int = 1, film: Path | None = None) -> Evaluation:
    """Evaluate, showing progress on stderr; of fewer seeds after Ctrl-C. The first episodes are filmed if asked for.

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
            collect(run(setup, seeds[filmed:], jobs=jobs), results, len(seeds), setup.shift)
    except KeyboardInterrupt:
        pass
    return Evaluation.of(setup, results)


def collect(episodes: Iterable[EpisodeResult], into: list[EpisodeResult], total: int, title: str) -> None:
    """Collect episodes as they end, and show how it goes: a bar on a terminal, else a line now and then."""
    console = Console(stderr=True, highlight=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[solved]} solved"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=total, completed=len(into), solved=_solved(into))
        said_s = time.monotonic()
        for result in episodes:
            into.append(result)
            progress.update(task, advance=1, solved=_solved(into))
            if not console.is_terminal and time.monotonic() - said_s > _LINE_EVERY_S:
                said_s = time.monotonic()
                console.print(f"{title}: {len(into)} of {total} episodes, {_solved(into)} solved", soft_wrap=True)


def _solved(results: Sequence[EpisodeResult]) -> int:
    return sum(result.success for result in results)
