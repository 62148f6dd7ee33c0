"""Measures a policy's success rate in the simulated task, in this process or in several.

In: a checkpoint (or the scripted expert), a scene and seeds. Out: one `EpisodeResult` for each seed, and an
`Evaluation` of all, which `maskact evaluate --json` prints. Each episode depends on its seed alone.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from statistics import median
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.core.config import MaskACTConfig
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.parallel import HERE, Workers, in_parallel
from maskact_ros.core.paths import shared
from maskact_ros.core.robot import RobotSpec
from maskact_ros.core.work import Tick
from maskact_ros.policy.engine import Engine
from maskact_ros.sim.look import NO_SHIFT, parse_shifts
from maskact_ros.sim.scene import CLASS_NAMES
from maskact_ros.sim.world import World
from maskact_ros.training.evaluation.episode import ExpertPlanner, run_episode
from maskact_ros.training.evaluation.policy_planner import PolicyPlanner, Watcher, mask_iou
from maskact_ros.training.evaluation.proportions import wilson

BACKENDS = ("torch", "onnxruntime")  # not auto: a result must name its backend
_MOST = 100_000  # episodes


class EvaluationError(MaskACTError):
    """An evaluation that is not possible as requested."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The settings of a measurement, without the seeds; hashable, and small enough to send to another process."""

    checkpoint: str  # its folder; empty: the scripted expert
    weights_hash: str
    shift: str = NO_SHIFT
    temporal_ensemble_coeff: float | None
    n_action_steps: int
    latency_s: float = 0.1  # from an image's capture until its chunk is in force
    time_limit_s: float = 20.0
    backend: str = "torch"
    precision: str = "fp32"

    @classmethod
    def of_policy(cls, info: CheckpointInfo, runtime: Mapping[str, Any], **rest: Any) -> Self:
        """A checkpoint, with parameters of scope runtime changed.

        Raises:
            MaskACTError: the checkpoint is of training stage 1 or another robot's, or a value is not allowed.
        """
        if info.config.training_stage == "stage1":
            raise EvaluationError(f"{info.folder} is of training stage 1, which trains the masks only; use stage 2's")
        differences = simulated_robot().differences(info.robot, mine="the simulated one")
        if differences:
            raise EvaluationError(f"the checkpoint {info.folder} is for another robot: " + "; ".join(differences))
        config = MaskACTConfig.from_dict(info.config.to_dict() | dict(runtime))
        setup = cls(
            checkpoint=str(info.folder),
            weights_hash=info.weights_hash,
            temporal_ensemble_coeff=config.temporal_ensemble_coeff,
            n_action_steps=config.n_action_steps,
            **rest,
        )
        setup.check()
        return setup

    @classmethod
    def of_expert(cls, **rest: Any) -> Self:
        """The scripted expert, which plans as in demonstrations; raises MaskACTError."""
        setup = cls(checkpoint="", weights_hash="", temporal_ensemble_coeff=None, n_action_steps=8, **rest)
        setup.check()
        return setup

    def check(self) -> None:
        """Raise MaskACTError for invalid settings."""
        parse_shifts(self.shift)
        if self.backend not in BACKENDS:
            raise EvaluationError(f"the backend is {self.backend!r}; allowed: {', '.join(BACKENDS)}")
        _ = self.engine
        if not 0.0 <= self.latency_s <= 10.0:
            raise EvaluationError(f"the latency is {self.latency_s:g} s; allowed: a number >= 0 and <= 10")
        if not 0.0 < self.time_limit_s <= 3600.0:
            raise EvaluationError(f"the time limit is {self.time_limit_s:g} s; allowed: a number > 0 and <= 3600")

    @property
    def engine(self) -> Engine:
        """The engine for this process; raises PolicyError for a combination that does not exist."""
        # One thread, so that sums are always rounded in the same way.
        return Engine(backend=self.backend, precision=self.precision, device="cpu", threads=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class EpisodeResult:
    """The result of one seed."""

    seed: int
    success: bool
    seconds: float  # until success, or the time limit
    confusion: NDArray[np.int64] | None  # pixels of the pictures that were checked, (true, predicted)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The content of `--json`: the results, and all that they depend on."""

    checkpoint: str
    weights_hash: str
    backend: str
    precision: str
    through_ros: bool
    shift: str
    temporal_ensemble_coeff: float | None
    n_action_steps: int
    latency_s: float | None  # the modelled latency; None through ROS, where the latency is real
    time_limit_s: float
    episodes: int
    successes: int
    success_rate: float | None
    ci95: tuple[float, float]  # Wilson's
    median_seconds: float | None  # of the episodes that were solved
    mask_iou: dict[str, float] | None  # by class, and their mean; None for a policy without masks
    seeds: tuple[int, ...]
    solved: tuple[int, ...]  # the seeds of solved episodes

    @classmethod
    def of(cls, setup: Setup, results: Sequence[EpisodeResult], *, through_ros: bool = False) -> Self:
        """The summary of episodes in any order."""
        results = sorted(results, key=lambda result: result.seed)
        solved = [result for result in results if result.success]
        counts = [result.confusion for result in results if result.confusion is not None]
        interval = wilson(len(solved), len(results))
        return cls(
            checkpoint=setup.checkpoint or "expert",
            weights_hash=setup.weights_hash,
            backend=setup.backend,
            precision=setup.precision,
            through_ros=through_ros,
            shift=setup.shift,
            temporal_ensemble_coeff=setup.temporal_ensemble_coeff,
            n_action_steps=setup.n_action_steps,
            latency_s=None if through_ros else setup.latency_s,
            time_limit_s=setup.time_limit_s,
            episodes=len(results),
            successes=len(solved),
            success_rate=round(len(solved) / len(results), 4) if results else None,
            ci95=(round(interval[0], 4), round(interval[1], 4)),
            median_seconds=round(median(result.seconds for result in solved), 3) if solved else None,
            mask_iou=mask_iou(np.sum(counts, axis=0), CLASS_NAMES) if counts else None,
            seeds=tuple(result.seed for result in results),
            solved=tuple(result.seed for result in solved),
        )

    def text(self) -> str:
        """The results in words."""
        rate = "" if self.success_rate is None else f" ({self.success_rate:.0%}, 95 % interval "
        interval = f"{self.ci95[0]:.0%} to {self.ci95[1]:.0%})" if rate else ""
        lines = [f"shift {self.shift}: {self.successes} of {self.episodes} episodes solved{rate}{interval}"]
        if self.median_seconds is not None:
            lines.append(f"median time to success: {self.median_seconds:.1f} s")
        if self.mask_iou:
            lines.append("mask IoU: " + ", ".join(f"{name} {iou:.3f}" for name, iou in self.mask_iou.items()))
        return "\n".join(lines)


def check_counts(*, episodes: int, seed: int) -> None:
    """Raise EvaluationError for numbers out of range."""
    if not 1 <= episodes <= _MOST:
        raise EvaluationError(f"--episodes is {episodes}; allowed: an integer >= 1 and <= {_MOST}")
    if not 0 <= seed < 2**31 - _MOST:
        raise EvaluationError(f"--seed is {seed}; allowed: an integer >= 0 and < {2**31 - _MOST}")


def run(
    setup: Setup, seeds: Sequence[int], *, workers: Workers = HERE, watcher: Watcher | None = None
) -> Generator[EpisodeResult, None, None]:
    """The episodes of `seeds`, as they end. A watcher gets every picture; then all run in this process.

    Raises:
        MaskACTError: the checkpoint is damaged, this machine cannot render, or as `in_parallel`.
    """
    if watcher is not None:
        bench = _bench(setup)
        bench.watch(watcher)
        try:
            yield from (bench.run(seed) for seed in seeds)
        finally:
            bench.watch(None)
        return
    yield from in_parallel(partial(_run, setup), seeds, workers=workers, name="the episode of seed {}".format)


def simulated_robot() -> RobotSpec:
    """The robot of the simulation."""
    return RobotSpec.from_yaml(shared("config/robot.yaml"))


class _Bench:
    """A process's world and planner, used for one seed after the other."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        robot = simulated_robot()
        self._world = World(robot, shift=setup.shift)
        self._policy: PolicyPlanner | None = None
        if setup.checkpoint:
            info = CheckpointInfo.read(setup.checkpoint)
            if info.weights_hash != setup.weights_hash:
                raise EvaluationError(f"{setup.checkpoint} has other weights than those that are to be measured")
            config = replace(
                info.config,
                temporal_ensemble_coeff=setup.temporal_ensemble_coeff,
                n_action_steps=setup.n_action_steps,
            )
            self._policy = PolicyPlanner(self._world, info, config, engine=setup.engine, latency_s=setup.latency_s)
            robot = info.robot
        self._robot = robot
        self._planner = self._policy or ExpertPlanner(self._world, robot, every=setup.n_action_steps)

    def watch(self, watcher: Watcher | None) -> None:
        """Give each picture of a policy, and its labels, to `watcher`."""
        if self._policy is not None:
            self._policy.watcher = watcher

    def run(self, seed: int) -> EpisodeResult:
        self._world.reset(seed)
        episode = run_episode(
            self._world,
            self._planner,
            self._robot,
            latency_s=self._setup.latency_s,
            time_limit_s=self._setup.time_limit_s,
        )
        confusion = None if self._policy is None else self._policy.confusion
        return EpisodeResult(seed=seed, success=episode.success, seconds=episode.seconds, confusion=confusion)


@lru_cache(maxsize=1)
def _bench(setup: Setup) -> _Bench:
    return _Bench(setup)


def _run(setup: Setup, seed: int, tick: Tick) -> EpisodeResult:
    return _bench(setup).run(seed)
