"""The torch backend: the modules of `deploy`, on a CPU or a CUDA device."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.policy.backend import Segments
from maskact_ros.policy.deploy.deploy import deployed_perception, deployed_planner
from maskact_ros.policy.deploy.deploy_encoder import DeployedEncoder
from maskact_ros.policy.deploy.deploy_mask_head import DeployedMaskHead
from maskact_ros.policy.deploy.deploy_planner import DeployedPlanner
from maskact_ros.policy.deploy.label_groups import attention_groups
from maskact_ros.policy.deploy.torch_place import TorchPlace, as_array
from maskact_ros.policy.engine import Engine
from maskact_ros.policy.model.act import PREFIX


class TorchPerception:
    """Encoder and mask head of a checkpoint; see `backend.PerceptionBackend`."""

    def __init__(
        self, info: CheckpointInfo, place: TorchPlace, encoder: DeployedEncoder, mask_head: DeployedMaskHead | None
    ) -> None:
        config = info.config
        self.encoder, self.mask_head = encoder, mask_head
        self._place = place
        size = config.image_size
        self._encode = place.prepare(encoder, torch.zeros(size, size, 3, dtype=torch.uint8))
        if mask_head is not None:
            features = torch.zeros(config.patches_per_side**2, config.dim_model)
            self._segment = place.prepare(mask_head, features, torch.ones(config.num_mask))

    @classmethod
    def load(cls, info: CheckpointInfo, engine: Engine) -> Self:
        """Load the weights; raises MaskACTError if they do not fit, or there is no such device."""
        return cls(info, TorchPlace(engine), *deployed_perception(info))

    @property
    def text(self) -> str:
        """See `backend.PerceptionBackend.text`."""
        return self._place.text

    @torch.inference_mode()
    def features(self, image: NDArray[np.uint8]) -> Tensor:
        """(N, D) on the device, of a picture (S, S, 3)."""
        features: Tensor = self._encode(self._place.tensor(np.ascontiguousarray(image)))
        self._place.finish()
        return features

    @torch.inference_mode()
    def segment(
        self, features: Tensor, importance: NDArray[np.float32], *, label_image: bool, confidence_image: bool
    ) -> Segments:
        """Masks of features (N, D) under class weights (C,)."""
        labels, confidence, logits = self._segment(features, self._place.tensor(importance))
        return Segments(
            patch_labels=as_array(labels.to(torch.int8)),
            patch_confidence=as_array(confidence.half()),
            # max is ten times as fast as argmax over a leading dimension.
            label_image=as_array(logits.max(dim=0).indices.to(torch.uint8)) if label_image else None,
            confidence_image=as_array(logits.softmax(dim=0).amax(dim=0)) if confidence_image else None,
        )

    @torch.inference_mode()
    def to_numpy(self, features: Tensor) -> NDArray[np.float16]:
        """(N, D) in half precision."""
        return as_array(features.half())


class TorchPlanner:
    """ACT of a checkpoint; see `backend.PlannerBackend`."""

    def __init__(self, info: CheckpointInfo, place: TorchPlace, planner: DeployedPlanner) -> None:
        config = info.config
        self.planner = planner
        self._place = place
        self._patches = config.patches_per_side**2
        # Rules that allow everything, because a recorded graph always has an input for rules.
        labels = config.num_mask + 1
        self._no_rules = place.tensor(np.ones((labels, labels), np.bool_)) if place.device.type == "cuda" else None
        inputs = [
            torch.zeros(self._patches, config.dim_model, dtype=torch.float16),
            torch.arange(self._patches),
            torch.zeros(len(info.robot.joints)),
        ]
        if config.use_mask:
            inputs += [
                torch.zeros(self._patches, dtype=torch.int64),
                torch.ones(labels, labels, dtype=torch.bool),
            ]
        self._plan = place.prepare(planner, *inputs)

    @classmethod
    def load(cls, info: CheckpointInfo, engine: Engine) -> Self:
        """As `TorchPerception.load`."""
        return cls(info, TorchPlace(engine), deployed_planner(info))

    @property
    def text(self) -> str:
        """See `backend.PlannerBackend.text`."""
        return self._place.text

    @torch.inference_mode()
    def actions(
        self,
        features: NDArray[np.float16],
        patches: NDArray[np.int64],
        labels: NDArray[np.int64] | None,
        rules: NDArray[np.bool_] | None,
        state: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """See `backend.PlannerBackend.actions`."""
        on_cpu = self._place.device.type == "cpu"
        groups = None
        if on_cpu and labels is not None and rules is not None:
            order, groups = attention_groups(labels, rules, PREFIX)
            features, patches, labels, rules = features[order], patches[order], labels[order], None
        inputs = [self._place.tensor(array) for array in (features, patches, state.astype(np.float32))]
        if labels is not None:
            inputs.append(self._place.tensor(labels))
            table = self._no_rules if rules is None else self._place.tensor(rules)
            if table is not None:
                inputs.append(table)
        # With fewer patches the inputs' shapes differ from the recorded ones.
        plan = self._plan if len(patches) == self._patches else self.planner
        actions: Tensor = plan(*inputs) if groups is None else plan(*inputs, groups=groups)
        return as_array(actions.double())
