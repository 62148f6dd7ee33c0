"""The policy for the nodes: numpy in and out; each process loads only the weights that it needs.

`EncoderRuntime`: a picture to features, patch labels and, on request, label images. `PlannerRuntime`: features, labels
and joint positions to a chunk of joint positions. A backend computes; this module checks its inputs and outputs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.core.chunk import MOST
from maskact_ros.core.config import MaskACTConfig
from maskact_ros.core.geometry import ImageGeometry
from maskact_ros.policy.backend import PerceptionBackend, PlannerBackend
from maskact_ros.policy.backend_choice import load_perception, load_planner
from maskact_ros.policy.engine import Engine
from maskact_ros.policy.errors import PolicyError
from maskact_ros.policy.rules import class_importance, configured_rules, isolated_labels

_WARM_UP_RUNS = 3


@dataclass(frozen=True)
class EncodeTimings:
    """The durations of the parts of one `encode`."""

    encoder_s: float  # preprocessing and DINOv3
    mask_head_s: float  # mask head, voting and the requested images; 0 if the policy has no masks


@dataclass(frozen=True, eq=False)
class Encoding:
    """The result for one picture; labels and confidence are None if the policy has no masks."""

    features: NDArray[np.float16]  # (N, D)
    patch_labels: NDArray[np.int8] | None  # (N,)
    patch_confidence: NDArray[np.float16] | None  # (N,)
    label_image: NDArray[np.uint8] | None  # (S, S) class ids, if requested
    confidence_image: NDArray[np.float32] | None  # (S, S) probability of the class, if requested
    timings: EncodeTimings


class EncoderRuntime:
    """Encoder and mask head of a checkpoint, ready to run."""

    def __init__(self, info: CheckpointInfo, backend: PerceptionBackend) -> None:
        self.info = info
        self._backend = backend
        self._importance = class_importance(info.config)

    @classmethod
    def load(cls, info: CheckpointInfo, config: MaskACTConfig | None = None, engine: Engine | None = None) -> Self:
        """Load from a checkpoint.

        Args:
            info: the checkpoint.
            config: the effective configuration, which may differ from the checkpoint's in parameters of scope runtime;
                by default the checkpoint's own.
            engine: backend, precision, device and threads; by default `Engine()`.

        Raises:
            MaskACTError: the weights are damaged or do not fit, or this machine cannot run that engine.
        """
        info = _effective(info, config)
        return cls(info, load_perception(info, engine or Engine()))

    @property
    def weights_hash(self) -> str:
        """Names the weights; features carry it."""
        return self.info.weights_hash

    @property
    def image_size(self) -> int:
        """S, the side of the picture that `encode` takes."""
        return self.info.config.image_size

    @property
    def geometry(self) -> ImageGeometry:
        """How a camera's picture becomes the model's."""
        return self.info.geometry

    @property
    def mask_classes(self) -> tuple[str, ...]:
        """Names of the classes, by id."""
        return self.info.mask_classes

    @property
    def engine_text(self) -> str:
        """What runs it, such as "torch, fp32, cpu, 1 thread"."""
        return self._backend.text

    def with_config(self, config: MaskACTConfig) -> Self:
        """A runtime with the same weights (shared memory), and a configuration with other parameters of scope runtime.

        The present runtime is not changed: another thread may be using it.
        """
        return type(self)(replace(self.info, config=config), self._backend)

    def warm_up(self) -> None:
        """Run a few times on a dark picture, so that the first real one is not slower than the others.

        Raises:
            PolicyError: the policy's output is not finite.
        """
        size = self.info.config.image_size
        for _ in range(_WARM_UP_RUNS):
            seen = self.encode(np.zeros((size, size, 3), np.uint8), label_image=True, confidence_image=True)
        for name in ("features", "patch_confidence", "confidence_image"):
            array = getattr(seen, name)
            if array is not None and not np.isfinite(array).all():
                raise PolicyError(f"the policy's {name} of a dark picture are not all finite")

    def encode(
        self, image: NDArray[np.uint8], *, label_image: bool = False, confidence_image: bool = False
    ) -> Encoding:
        """Encode an RGB picture (S, S, 3) at the model's size; raises PolicyError for any other shape or type.

        Label and confidence images take time, so they are made only on request, if the policy has masks.
        """
        size = self.info.config.image_size
        if image.shape != (size, size, 3) or image.dtype != np.uint8:
            raise PolicyError(
                f"the picture is {image.dtype} of the shape {image.shape}; allowed: uint8 of ({size}, {size}, 3)"
            )
        begin = time.perf_counter()
        features = self._backend.features(image)
        encoded = time.perf_counter()
        segments = None
        if self.info.config.use_mask:
            segments = self._backend.segment(
                features, self._importance, label_image=label_image, confidence_image=confidence_image
            )
        end = time.perf_counter()
        return Encoding(
            features=self._backend.to_numpy(features),
            patch_labels=None if segments is None else segments.patch_labels,
            patch_confidence=None if segments is None else segments.patch_confidence,
            label_image=None if segments is None else segments.label_image,
            confidence_image=None if segments is None else segments.confidence_image,
            timings=EncodeTimings(encoded - begin, 0.0 if segments is None else end - encoded),
        )


class PlannerRuntime:
    """ACT of a checkpoint, ready to run."""

    def __init__(self, info: CheckpointInfo, backend: PlannerBackend, *, drop_isolated: bool = False) -> None:
        self.info = info
        self.drop_isolated = drop_isolated
        self._backend = backend
        self._rules = configured_rules(info.config)
        self._trained_without = info.config.dropped_labels or ()
        isolated = isolated_labels(info.config) if drop_isolated else ()
        self._dropped = tuple(sorted({*self._trained_without, *isolated}))
        self._all_patches = np.arange(info.config.patches_per_side**2, dtype=np.int64)

    @classmethod
    def load(
        cls,
        info: CheckpointInfo,
        config: MaskACTConfig | None = None,
        engine: Engine | None = None,
        *,
        drop_isolated: bool = False,
    ) -> Self:
        """Load from a checkpoint; arguments and errors as `EncoderRuntime.load`, and one more.

        With `drop_isolated` the transformer skips patches whose labels no other label may attend to. That saves time,
        but is exact only for labels that the policy was trained without; see `drops_text`.
        """
        info = _effective(info, config)
        return cls(info, load_planner(info, engine or Engine()), drop_isolated=drop_isolated)

    @property
    def weights_hash(self) -> str:
        """Names the weights; features carry it."""
        return self.info.weights_hash

    @property
    def n_action_steps(self) -> int:
        """The number of points of a chunk that are executed before the next chunk."""
        return self.info.config.n_action_steps

    @property
    def temporal_ensemble_coeff(self) -> float | None:
        """The coefficient of temporal ensembling; None without it."""
        return self.info.config.temporal_ensemble_coeff

    @property
    def engine_text(self) -> str:
        """What runs it, such as "torch, fp32, cpu, 1 thread"."""
        return self._backend.text

    @property
    def drops_text(self) -> str:
        """Which labels' patches the transformer skips, and whether that changes the actions."""
        if not self._dropped:
            return "no patches are dropped"
        names = ", ".join(f"{label} ({self.info.mask_classes[label]})" for label in self._dropped)
        if new := [label for label in self._dropped if label not in self._trained_without]:
            shown = ", ".join(map(str, new))
            return (
                f"patches of {names} are dropped; not exact: the policy was trained with {shown} in its decoder's view"
            )
        return f"patches of {names} are dropped; exact: the policy was trained without them"

    def with_config(self, config: MaskACTConfig, *, drop_isolated: bool | None = None) -> Self:
        """As `EncoderRuntime.with_config`; by default `drop_isolated` is unchanged."""
        chosen = self.drop_isolated if drop_isolated is None else drop_isolated
        return type(self)(replace(self.info, config=config), self._backend, drop_isolated=chosen)

    def warm_up(self) -> None:
        """Run a few times on features of zeros, so that the first real ones are not slower than the others."""
        config = self.info.config
        features = np.zeros((config.patches_per_side**2, config.dim_model), np.float16)
        labels = np.zeros(len(features), np.int8) if config.use_mask else None
        for _ in range(_WARM_UP_RUNS):
            self.predict(features, labels, np.zeros(self._joints))

    def predict(
        self,
        features: NDArray[np.float16],
        patch_labels: NDArray[np.int8] | None,
        state: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Future joint positions (K, J), in the robot's units, from features (N, D), labels (N,) and positions (J,).

        Raises:
            PolicyError: an input does not fit the policy, or input or output is not finite.
        """
        config = self.info.config
        patches: NDArray[np.int64] = self._all_patches
        _check_shape("features", features, (len(patches), config.dim_model))
        _check_shape("state", state, (self._joints,))
        if not np.isfinite(state).all():
            raise PolicyError(f"the state is {state.tolist()}; allowed: finite joint positions")
        labels = None
        if config.use_mask:
            if patch_labels is None:
                raise PolicyError("the features came without patch labels, which a policy with use_mask true needs")
            _check_shape("patch labels", patch_labels, (len(patches),))
            if patch_labels.min() < 0 or patch_labels.max() >= config.num_mask:
                raise PolicyError(
                    f"the patch labels reach from {patch_labels.min()} to {patch_labels.max()}; allowed: 0 to "
                    f"{config.num_mask - 1}"
                )
            labels = patch_labels.astype(np.int64)
            if self._dropped:
                patches = patches[~np.isin(labels, self._dropped)]
                features, labels = features[patches], labels[patches]
        chunk = self._backend.actions(features, patches, labels, self._rules, state)
        if not (np.abs(chunk) <= MOST).all():  # false for NaN, too
            raise PolicyError(f"the policy's actions are not all finite and within ±{MOST:g}")
        return chunk

    @property
    def _joints(self) -> int:
        return len(self.info.robot.joints)


def _effective(info: CheckpointInfo, config: MaskACTConfig | None) -> CheckpointInfo:
    """The checkpoint, its weights verified, with the configuration in effect."""
    info.verify()
    return info if config is None else replace(info, config=config)


def _check_shape(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise PolicyError(f"the {name} have the shape {array.shape}; the policy needs {shape}")
