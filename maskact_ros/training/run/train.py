"""`train`: one training stage, from datasets to a checkpoint.

In: settings. Out: the folder of a run. The loop takes steps, logs, evaluates and saves; on a signal it saves and ends.
On a CPU a run that was killed and resumed gives the same result as without the kill.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from maskact_ros.core.progress import Progress
from maskact_ros.training.errors import TrainingError
from maskact_ros.training.run.batches import Prefetcher
from maskact_ros.training.run.devices import loader_threads, start_accelerator
from maskact_ros.training.run.held_out import evaluate
from maskact_ros.training.run.run_folder import RunFolder
from maskact_ros.training.run.run_log import HELD_OUT, THROUGHPUT, TRAINING, RunLog
from maskact_ros.training.run.run_summary import print_plan
from maskact_ros.training.run.settings import TrainSettings
from maskact_ros.training.run.step import take_step
from maskact_ros.training.run.training_run import Run, prepare

_LOG_EVERY = 50  # steps whose mean is a line of the log


def train(settings: TrainSettings, *, resume: bool = False) -> int:
    """Run a stage to its end, or until a signal; return the exit status.

    Raises:
        MaskACTError: the settings do not fit together, the loss is not finite, or the disk is full.
    """
    accelerator = start_accelerator(settings)
    run = prepare(settings, accelerator, resume=resume)
    if run.main:
        print_plan(settings, run.learner, run.rates, run.batches)
        precision = "bfloat16 and single" if run.settings.precision == "bf16" else "single"
        print(f"{accelerator.num_processes} process(es) on {accelerator.device}, {precision} precision")
    with _signals() as received:
        try:
            return _loop(run, received)
        except OSError as error:  # of the log; other writers raise their own errors
            reason = error.strerror or str(error)
            raise TrainingError(
                f"{settings.out}: cannot be written ({reason}); the last state saved is whole"
            ) from None


def resumed(out: Path) -> TrainSettings:
    """The settings of the run in a folder; raises TrainingError if there is none."""
    return RunFolder(out).settings()


def _loop(run: Run, received: list[int]) -> int:
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
            seen.append(take_step(run, step, batch))
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


def _evaluate(run: Run, log: RunLog | None, progress: Progress) -> None:
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


def _save(run: Run) -> None:
    if run.main:
        run.folder.save(run.learner, run.progressed)
    run.accelerator.wait_for_everyone()


@contextmanager
def _log(run: Run) -> Iterator[RunLog | None]:
    """The log, in the main process."""
    if not run.main:
        yield None
        return
    with RunLog(run.folder.path, run.progressed.step) as log:
        yield log


def _log_training(run: Run, log: RunLog | None, seen: list[dict[str, float]]) -> None:
    if log is not None:
        means = {name: sum(values[name] for values in seen) / len(seen) for name in seen[0]}
        log.add(run.progressed.step, TRAINING, means | {"rate": run.learner.optimizer.param_groups[-1]["lr"]})


def _report(run: Run, steps: int, computing_s: float, waited_s: float) -> None:
    """Print and log the speed."""
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
    """Collect SIGINT and SIGTERM, so that the present step is finished and saved. A second signal acts as usual."""
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


def _any_received(run: Run, received: list[int]) -> bool:
    """Whether any of the processes has received a signal."""
    if run.accelerator.num_processes == 1:
        return bool(received)
    if received:
        run.accelerator.set_trigger()
    return bool(run.accelerator.check_trigger())
