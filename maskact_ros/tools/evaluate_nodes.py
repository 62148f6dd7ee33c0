"""The same measurement as in one process, through the three nodes and the simulated robot, in real time.

In: a `Setup` and seeds in a row. Out: an `EpisodeResult` for each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.core.config import NONE
from maskact_ros.sim.scene import CLASS_NAMES
from maskact_ros.tools.bringup import BringupArguments, Process, processes
from maskact_ros.tools.episode_runner import EpisodeRunner
from maskact_ros.training.evaluation.policy_planner import CHECKED_NS
from maskact_ros.training.evaluation.success_rate import EpisodeResult, Setup
from maskact_ros.training.iou import confusion

Labels = NDArray[np.uint8]


def run_through_nodes(setup: Setup, seeds: range, say: Callable[[str], None]) -> Iterator[EpisodeResult]:
    """The episodes of `seeds`, as they end; fewer after Ctrl-C. The nodes' warnings go to `say`.

    Raises:
        MaskACTError: a node does not start, or ends by itself.
    """
    info = CheckpointInfo.read(setup.checkpoint)

    def warn(name: str, line: str) -> None:
        if any(level in line for level in ("[WARN]", "[ERROR]", "[FATAL]")):
            say(f"{name}: {line}")

    with EpisodeRunner(_processes(setup, seeds.start), warn) as runner:
        counts: NDArray[np.int64] | None = None
        until_s = 0.0
        with_masks = info.config.use_mask and info.mask_classes == CLASS_NAMES

        def count(predicted: Labels, truth: Labels) -> None:
            if counts is not None and time.monotonic() < until_s:
                _add(counts, predicted, truth, info)

        if with_masks:
            runner.observer.compare_masks(count)
        runner.start()
        for _ in seeds:
            if with_masks:
                counts = np.zeros((len(CLASS_NAMES),) * 2, np.int64)
                until_s = time.monotonic() + CHECKED_NS / 1e9
            outcome = runner.episode(setup.time_limit_s)
            if outcome is None:
                return
            yield EpisodeResult(seed=outcome.seed, success=outcome.success, seconds=outcome.seconds, confusion=counts)
            if runner.stop.is_set():
                return


def _processes(setup: Setup, seed: int) -> list[Process]:
    described = processes(
        BringupArguments(
            policy_path=setup.checkpoint,
            sim=True,
            # One true mask a second, as in one process: rendering them takes time from the nodes.
            sim_parameters={"seed": seed, "shift": setup.shift, "mask_truth_every": 30},
            # Between episodes the simulation moves the arm home; commands must not move it back.
            publisher_parameters={"release_on_disable": True},
        )
    )
    coeff = setup.temporal_ensemble_coeff
    engine = {"backend": setup.backend, "precision": setup.precision}
    added: dict[str, dict[str, Any]] = {
        "camera_encoder": engine,
        "inference": engine
        | {
            "temporal_ensemble_coeff": NONE if coeff is None else coeff,
            "n_action_steps": setup.n_action_steps,
        },
    }
    return [replace(process, parameters=process.parameters | added.get(process.name, {})) for process in described]


def _add(counts: NDArray[np.int64], predicted: Labels, truth: Labels, info: CheckpointInfo) -> None:
    """Add one picture's pixels, at the model's size as in one process."""
    size = info.config.image_size
    seen, true = (info.geometry.labels_to_model(labels, size) for labels in (predicted, truth))
    counts += confusion(true, seen, len(CLASS_NAMES))
