"""MaskACT: perception, planner, and both together for training.

Perception: uint8 pictures to patch features, pixel logits and patch labels. Planner: features, labels and joint
positions to future joint positions. On a robot each runs in a process of its own; for training `MaskACT` holds both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from maskact_ros.core.checkpoint import PolicySpec
from maskact_ros.policy.errors import PolicyError
from maskact_ros.policy.model.act import ACT, Latent
from maskact_ros.policy.model.backbone import build_backbone
from maskact_ros.policy.model.encoder import VisionEncoder
from maskact_ros.policy.model.losses import Losses, action_loss, kl_divergence, mask_loss, stage1_losses, stage2_losses
from maskact_ros.policy.model.mask_head import AuxiliaryHead, MaskHead, as_grid, resizing_matrix, to_pixels
from maskact_ros.policy.model.normalize import Normalizer
from maskact_ros.policy.model.preprocess import ImagePreprocessor
from maskact_ros.policy.model.voting import vote
from maskact_ros.policy.rules import class_importance


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The mask head's output for a batch."""

    pixel_logits: Tensor  # (B, C, S, S)
    patch_labels: Tensor  # (B, N) int64
    patch_confidence: Tensor  # (B, N)


@dataclass(frozen=True, eq=False)
class EncodedBatch:
    """Perception's output for a batch of pictures."""

    features: Tensor  # (B, N, D)
    segmentation: Segmentation | None  # None if the policy has no masks


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingBatch:
    """Observations and the actions that followed; joint positions in the robot's units."""

    images: Tensor | None = None  # (B, S, S, 3) uint8, RGB at the model's size; None if there are tokens
    tokens: Tensor | None = None  # (B, N, hidden) tokens of a frozen backbone, in place of the images
    masks: Tensor | None = None  # (B, S, S) class ids; needed in stage 1
    state: Tensor | None = None  # (B, D); this and the next two are needed in stage 2
    actions: Tensor | None = None  # (B, K, D)
    action_is_pad: Tensor | None = None  # (B, K) bool

    @property
    def size(self) -> int:
        """The number of pictures."""
        seen = self.images if self.tokens is None else self.tokens
        assert seen is not None
        return len(seen)


class Perception(nn.Module):
    """Preprocessing, encoder, mask head and voting."""

    importance: Tensor
    resizing: Tensor

    def __init__(self, spec: PolicySpec) -> None:
        super().__init__()
        config = spec.config
        self.image_size = config.image_size
        self.preprocessor = ImagePreprocessor(
            statistics=spec.statistics.image, mode=config.normalization_mapping["VISUAL"]
        )
        self.encoder = VisionEncoder(
            backbone=build_backbone(spec.backbone),
            dim_model=config.dim_model,
            frozen=config.freeze_backbone,
            lora=config.lora if config.use_lora else None,
        )
        with_aux = config.use_mask and config.use_aux_head
        sizes = {"dim_model": config.dim_model, "channels": config.mask_head_channels, "num_mask": config.num_mask}
        self.mask_head = MaskHead(**sizes) if config.use_mask else None
        self.auxiliary_head = AuxiliaryHead(**sizes) if with_aux else None
        resizing = resizing_matrix(config.patches_per_side, config.image_size)  # (S, P)
        self.register_buffer("resizing", resizing, persistent=False)
        self.register_buffer("importance", torch.from_numpy(class_importance(config)), persistent=False)

    def forward(self, images: Tensor) -> EncodedBatch:
        """Encode (B, S, S, 3) uint8 RGB pictures."""
        features = self.features(images)
        return EncodedBatch(features, self.segment(features))

    def features(self, images: Tensor) -> Tensor:
        """(B, S, S, 3) uint8 to (B, N, D)."""
        features: Tensor = self.encoder(self.preprocessor(images))
        return features

    def of_tokens(self, tokens: Tensor) -> EncodedBatch:
        """As `forward`, but from the backbone's tokens (B, N, hidden), of any precision."""
        features = self.encoder.projection(tokens.float())
        return EncodedBatch(features, self.segment(features))

    def segment(self, features: Tensor) -> Segmentation | None:
        """(B, N, D) features to masks; None if the policy has no masks."""
        if self.mask_head is None:
            return None
        logits = to_pixels(self.mask_head(as_grid(features)), self.resizing)
        labels, confidence = vote(logits.detach(), self.importance)
        return Segmentation(logits, labels, confidence)

    def auxiliary_logits(self, features: Tensor) -> Tensor | None:
        """(B, C, S, S) of the auxiliary head; None if there is none."""
        if self.auxiliary_head is None:
            return None
        return to_pixels(self.auxiliary_head(as_grid(features)), self.resizing)


class Planner(nn.Module):
    """ACT, with the normalisation of its inputs and output."""

    def __init__(self, spec: PolicySpec) -> None:
        super().__init__()
        joints = len(spec.robot.joints)
        modes = spec.config.normalization_mapping
        self.state_normalizer = Normalizer(
            statistics=spec.statistics.state, mode=modes["STATE"], feature="state", width=joints
        )
        self.action_normalizer = Normalizer(
            statistics=spec.statistics.action, mode=modes["ACTION"], feature="action", width=joints
        )
        self.act = ACT(config=spec.config, state_dim=joints, action_dim=joints)

    def forward(self, features: Tensor, patch_labels: Tensor | None, state: Tensor) -> Tensor:
        """(B, N, D), (B, N) and joint positions (B, J) to joint positions (B, K, J)."""
        normalised = self.act(features, patch_labels, self.state_normalizer(state))
        return self.action_normalizer.inverse(normalised)

    def losses(
        self, encoded: EncodedBatch, state: Tensor, actions: Tensor, is_pad: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The action loss of normalised actions, and the VAE's KL divergence (None without a VAE).

        In evaluation mode the latent is zero, as it is on the robot, and nothing is random.
        """
        labels = None if encoded.segmentation is None else encoded.segmentation.patch_labels
        state = self.state_normalizer(state)
        actions = self.action_normalizer(actions)
        vae = self.act.vae if self.training else None
        latent: Latent | None = None if vae is None else vae(state, actions, is_pad)
        sample = None if latent is None else latent.sample()
        predicted = self.act(encoded.features, labels, state, sample)
        kl = None if latent is None else kl_divergence(latent)
        return action_loss(predicted, actions, is_pad), kl


class MaskACT(nn.Module):
    """Perception and planner of one policy; parts that its training stage does not train are frozen."""

    def __init__(self, spec: PolicySpec) -> None:
        super().__init__()
        self.spec = spec
        self.perception = Perception(spec)
        self.planner = Planner(spec)
        if spec.config.training_stage == "stage1":
            self.planner.requires_grad_(False)
            return
        if spec.config.stage2_dino_lr_ratio == 0:
            self.perception.encoder.freeze()
        if spec.config.stage2_freeze_mask_head:
            for head in self._mask_heads():
                head.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`, but a frozen mask head stays in evaluation mode, so its statistics do not change."""
        super().train(mode)
        for head in self._mask_heads():
            head.train(mode and any(parameter.requires_grad for parameter in head.parameters()))
        return self

    def encode(self, images: Tensor) -> EncodedBatch:
        """Encode (B, S, S, 3) uint8 RGB pictures."""
        encoded: EncodedBatch = self.perception(images)
        return encoded

    def encode_batch(self, batch: TrainingBatch) -> EncodedBatch:
        """Encode a batch's pictures, from their tokens if the batch has these."""
        if batch.tokens is not None:
            return self.perception.of_tokens(batch.tokens)
        assert batch.images is not None
        return self.encode(batch.images)

    def act(self, features: Tensor, patch_labels: Tensor | None, state: Tensor) -> Tensor:
        """(B, N, D), (B, N) and joint positions (B, J) to joint positions (B, K, J)."""
        actions: Tensor = self.planner(features, patch_labels, state)
        return actions

    def forward(self, batch: TrainingBatch) -> Losses:
        """The losses of the configuration's training stage, on a whole batch.

        Raises:
            PolicyError: the batch lacks data that the stage needs, or has one picture only while a mask head trains.
        """
        config = self.spec.config
        if config.training_stage == "stage1" and not (config.use_mask and batch.masks is not None):
            raise PolicyError(
                "training_stage is stage1, which trains the masks only: it needs use_mask true and pictures with masks"
            )
        if batch.size == 1 and any(head.training for head in self._mask_heads()):
            raise PolicyError("a training batch has 1 picture; allowed: at least 2, for the mask head's batch norm")
        return self.losses(self.encode_batch(batch), batch)

    def losses(self, encoded: EncodedBatch, batch: TrainingBatch) -> Losses:
        """The losses as in `forward`, for an encoded batch; raises PolicyError."""
        config = self.spec.config
        mask = auxiliary_mask = None
        if encoded.segmentation is not None and batch.masks is not None:
            mask = mask_loss(encoded.segmentation.pixel_logits, batch.masks)
            auxiliary_logits = self.perception.auxiliary_logits(encoded.features)
            auxiliary_mask = None if auxiliary_logits is None else mask_loss(auxiliary_logits, batch.masks)
        if config.training_stage == "stage1":
            assert mask is not None
            return stage1_losses(mask, auxiliary_mask)
        if batch.state is None or batch.actions is None or batch.action_is_pad is None:
            raise PolicyError("training_stage is stage2, which needs state, actions and action_is_pad of each picture")
        action, kl = self.planner.losses(encoded, batch.state, batch.actions, batch.action_is_pad)
        return stage2_losses(config, mask=mask, auxiliary_mask=auxiliary_mask, action=action, kl=kl)

    def _mask_heads(self) -> list[nn.Module]:
        heads = (self.perception.mask_head, self.perception.auxiliary_head)
        return [head for head in heads if head is not None]
