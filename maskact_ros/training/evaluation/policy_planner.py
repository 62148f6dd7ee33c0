"""A checkpoint as an episode's planner: the work of camera_encoder and inference, in one process and simulated time.

In: the world's camera and joints. Out: chunks, and a comparison of the predicted masks with the true ones. Only
pictures that are planned from are rendered, unless there is a watcher.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.align import StateBuffer
from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.core.chunk import Chunk
from maskact_ros.core.config import MaskACTConfig
from maskact_ros.policy.engine import Engine
from maskact_ros.policy.errors import PolicyError
from maskact_ros.policy.infer import ChunkPlanner, MaskLimits, Perceived, Perceiver, Picture, PlanSetup, Refusal
from maskact_ros.policy.runtime import EncoderRuntime, PlannerRuntime
from maskact_ros.sim.renderer import Renderer
from maskact_ros.sim.scene import CLASS_NAMES
from maskact_ros.sim.world import Measurement, Snapshot, World
from maskact_ros.training.iou import confusion, intersection_over_union

IMAGE_RATE_HZ = 30.0  # of the camera, as the simulated robot's default
_IMAGE_NS = round(1e9 / IMAGE_RATE_HZ)
_CHECK_MASK_NS = 1_000_000_000  # masks change slowly, and rendering a true one takes as long as a picture
# About the time of a solved episode. Without this limit failed episodes, with the arm stuck in one view, count more.
CHECKED_NS = 6_000_000_000

Watcher = Callable[[int, NDArray[np.uint8], NDArray[np.uint8]], None]  # stamp, picture (H, W, 3), labels (H, W)


class PolicyPlanner:
    """Pictures and joints through a policy; `config` may differ from the checkpoint's in parameters of scope runtime.

    `confusion` counts the pixels (true class, predicted class) of pictures in the episode's first 6 seconds, at the
    model's size; it stays None for a policy without masks, or with other classes than the simulation's.

    Raises:
        MaskACTError: the checkpoint does not fit, or this machine cannot draw.
    """

    def __init__(
        self, world: World, info: CheckpointInfo, config: MaskACTConfig, *, engine: Engine, latency_s: float
    ) -> None:
        self._world, self._info, self._config = world, info, config
        self._encoder = EncoderRuntime.load(info, config, engine)
        self._setup = PlanSetup(PlannerRuntime.load(info, config, engine))
        self._renderer = Renderer(info.robot)
        self._latency_ns = round(latency_s * 1e9)
        self._has_masks = config.use_mask and info.mask_classes == CLASS_NAMES
        self.watcher: Watcher | None = None
        self.begin()

    def begin(self) -> None:
        """Forget the last episode."""
        self._perceiver = Perceiver(self._info.robot.only_camera)
        self._states = StateBuffer(tolerance_s=0.0)  # joints are measured with the picture
        self._planner = ChunkPlanner(self._info.robot, self._states, self._setup)
        self._image_due_ns = self._check_due_ns = 0
        self.confusion = np.zeros((len(CLASS_NAMES),) * 2, np.int64) if self._has_masks else None

    def plan(self, now_ns: int, measured: Measurement) -> Chunk | None:
        """The chunk from the present picture, if one is due and wanted; raises PolicyError."""
        if now_ns < self._image_due_ns:
            return None
        self._image_due_ns += _IMAGE_NS
        wanted = self._planner.wants(now_ns)
        if not wanted and self.watcher is None:
            return None
        perceived = self._see(now_ns, check=wanted and self._has_masks and self._check_due_ns <= now_ns < CHECKED_NS)
        if not wanted:
            return None
        self._states.add(now_ns, measured.positions)
        planned = self._planner.plan(perceived.features, now_ns=now_ns)
        if isinstance(planned, Refusal):
            raise PolicyError(planned.reason)
        self._planner.published(planned.chunk, now_ns + self._latency_ns)
        return planned.chunk

    def _see(self, now_ns: int, *, check: bool) -> Perceived:
        """Render and encode one picture; compare its mask if `check`, and give it to the watcher."""
        snapshot = self._world.snapshot()
        picture = self._renderer.rgb(snapshot)
        perceived = self._perceiver.perceive(
            self._encoder,
            Picture(now_ns, picture, picture.ravel()),
            MaskLimits(),
            label_image=check or self.watcher is not None,
        )
        label_image = perceived.encoding.label_image
        if check:
            assert label_image is not None
            self._check_due_ns = now_ns + _CHECK_MASK_NS
            self._check(label_image, snapshot)
        if self.watcher is not None:
            height, width = picture.shape[:2]
            size = self._config.image_size
            seen = np.zeros((size, size), np.uint8) if label_image is None else label_image
            self.watcher(now_ns, picture, self._info.geometry.to_camera(seen, height, width))
        return perceived

    def _check(self, predicted: NDArray[np.uint8], snapshot: Snapshot) -> None:
        assert self.confusion is not None
        truth = self._info.geometry.labels_to_model(self._renderer.labels(snapshot), len(predicted))
        self.confusion += confusion(truth, predicted, len(CLASS_NAMES))


def mask_iou(counts: NDArray[np.int64], class_names: Sequence[str]) -> dict[str, float]:
    """Intersection over union of each class that is in the truth or the prediction, and their mean."""
    iou = {name: round(value, 4) for name, value in intersection_over_union(counts, class_names).items()}
    return iou | {"mean": round(float(np.mean(list(iou.values()))), 4)} if iou else {}
