"""One step of a policy, from the camera's picture to the chunk, as a job that notes what its parts took.

`OurStep` is the nodes' own runtimes, `BaselineStep` the plain implementation. Both act on labels that are given, not
on those that random weights see.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.model_policy import camera_picture
from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.policy.backend import PerceptionBackend, PlannerBackend, Segments
from maskact_ros.policy.backend_choice import load_perception, load_planner
from maskact_ros.policy.deploy.deploy_planner import label_attention_bias
from maskact_ros.policy.deploy.label_groups import attention_groups
from maskact_ros.policy.deploy.torch_backend import TorchPlanner
from maskact_ros.policy.engine import Engine
from maskact_ros.policy.model.act import PREFIX
from maskact_ros.policy.rules import configured_rules
from maskact_ros.policy.runtime import EncoderRuntime, PlannerRuntime
from maskact_ros.tools.bench.gemm import finish
from maskact_ros.tools.bench.timing import Samples

MODEL_PARTS = ("encoder", "mask_head", "act")
_PICTURES = 4  # whose labels are compared

Result = TypeVar("Result")


class Stopwatch:
    """The parts of each step, in the order of the steps."""

    def __init__(self) -> None:
        self._steps: list[dict[str, float]] = []

    def begin(self) -> None:
        """A step begins."""
        self._steps.append(dict.fromkeys(MODEL_PARTS, 0.0))

    def time(self, part: str, work: Callable[[], Result]) -> Result:
        """What `work` gives, its time added to a part of the step that runs."""
        began = time.perf_counter()
        done = work()
        self._steps[-1][part] += time.perf_counter() - began
        return done

    def samples(self, step: Samples, warm_up: int) -> dict[str, Samples]:
        """Parts, their sum `model`, what the step takes besides, `rest`, and the step, of the rounds of `step`."""
        counted = self._steps[warm_up : warm_up + step.rounds]
        parts = {part: np.array([taken[part] for taken in counted]) for part in MODEL_PARTS}
        model = np.sum([*parts.values()], axis=0)
        named = {part: Samples(times_s) for part, times_s in parts.items()}
        return named | {"model": Samples(model), "rest": Samples(step.times_s - model), "step": step}


@dataclass(frozen=True, eq=False)
class _TimedPerception:
    """A backend whose calls are timed, and whose labels are replaced."""

    backend: PerceptionBackend
    watch: Stopwatch
    labels: NDArray[np.int8]

    @property
    def text(self) -> str:
        return self.backend.text

    def features(self, image: NDArray[np.uint8]) -> Any:
        return self.watch.time("encoder", lambda: self.backend.features(image))

    def segment(
        self, features: Any, importance: NDArray[np.float32], *, label_image: bool, confidence_image: bool
    ) -> Segments:
        segments = self.watch.time(
            "mask_head",
            lambda: self.backend.segment(
                features, importance, label_image=label_image, confidence_image=confidence_image
            ),
        )
        return replace(segments, patch_labels=self.labels)

    def to_numpy(self, features: Any) -> NDArray[np.float16]:
        return self.backend.to_numpy(features)


@dataclass(frozen=True, eq=False)
class _TimedPlanner:
    backend: PlannerBackend
    watch: Stopwatch

    @property
    def text(self) -> str:
        return self.backend.text

    def actions(self, *inputs: Any) -> NDArray[np.float64]:
        return self.watch.time("act", lambda: self.backend.actions(*inputs))


class OurStep:
    """A job: picture to chunk by the nodes' runtimes."""

    def __init__(self, info: CheckpointInfo, engine: Engine, labels: NDArray[np.int8]) -> None:
        self.watch = Stopwatch()
        self._perception = load_perception(info, engine)
        self._planner = load_planner(info, engine)
        self.text = self._perception.text
        self._info = info
        self._encoder = EncoderRuntime(info, _TimedPerception(self._perception, self.watch, labels))
        self._acting = PlannerRuntime(info, _TimedPlanner(self._planner, self.watch))
        self._rgb, self._state = camera_picture(), _middle_pose(info)

    def __call__(self) -> None:
        """Once."""
        self.watch.begin()
        seen = self._encoder.encode(self._info.geometry.to_model(self._rgb, self._info.config.image_size))
        self._acting.predict(seen.features, seen.patch_labels, self._state)

    def label_mask(self, labels: NDArray[np.int8]) -> Callable[[], object] | None:
        """A job: what a step's ACT does to know who may attend to whom; None where the backend does not show it."""
        rules = configured_rules(self._info.config)
        if rules is None or not isinstance(self._planner, TorchPlanner):
            return None
        device = self._planner.planner.queries.device
        if device.type == "cpu":
            return lambda: attention_groups(labels.astype(np.int64), rules, PREFIX)
        table, classes = torch.from_numpy(rules).to(device), torch.from_numpy(labels.astype(np.int64)).to(device)

        def build() -> None:
            label_attention_bias(classes, table)
            finish(device)

        return build

    def without_isolated(self, labels: NDArray[np.int8]) -> Callable[[], object]:
        """A job: ACT alone, of features of zeros with these labels, patches that the rules isolate left out."""
        runtime = PlannerRuntime(self._info, self._planner, drop_isolated=True)
        config = self._info.config
        features = np.zeros((config.patches_per_side**2, config.dim_model), np.float16)
        return lambda: runtime.predict(features, labels, self._state)

    def seen_labels(self) -> NDArray[np.int8]:
        """(P, N) labels of some pictures, as the mask head sees them."""
        runtime = EncoderRuntime(self._info, self._perception)
        pictures = [camera_picture(seed) for seed in range(_PICTURES)]
        size = self._info.config.image_size
        seen = [runtime.encode(self._info.geometry.to_model(picture, size)).patch_labels for picture in pictures]
        return np.array(seen)


class BaselineStep:
    """A job: the same by `benchmarks/baseline_model.py`."""

    def __init__(self, info: CheckpointInfo, baseline: Any, labels: NDArray[np.int8]) -> None:
        self.watch = Stopwatch()
        self._baseline = baseline
        self._rgb, self._state = camera_picture(), _middle_pose(info)
        self._labels = torch.from_numpy(labels.astype(np.int64))[None].to(baseline.device)

    def __call__(self) -> None:
        """Once."""
        self.watch.begin()
        image = self._baseline.preprocess(self._rgb)
        features = self.watch.time("encoder", lambda: self._baseline.encode(image))
        self.watch.time("mask_head", lambda: self._baseline.segment(features))
        self.watch.time("act", lambda: self._baseline.act(features, self._labels, self._state))


def encoder_alone(baseline: Any) -> Callable[[], object]:
    """A job: the encoder of a plain implementation."""
    image = baseline.preprocess(camera_picture())
    return lambda: baseline.encode(image)


def _middle_pose(info: CheckpointInfo) -> NDArray[np.float64]:
    return np.array([(joint.lower + joint.upper) / 2 for joint in info.robot.joints])
