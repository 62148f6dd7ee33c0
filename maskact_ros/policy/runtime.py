"""What the nodes run: numpy in and out, each process with the weights that it needs and no others.

`EncoderRuntime`: a picture to features, patch labels and, on request, label images. `PlannerRuntime`: features,
labels and joint positions to a chunk of joint positions. LoRA is merged, gradients are off.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskact_ros.checkpoint import CheckpointInfo
from maskact_ros.config import MaskACTConfig
from maskact_ros.policy.errors import PolicyError
from maskact_ros.policy.maskact import Perception, Planner, Segmentation
from maskact_ros.policy.weights import load_part

_WARM_UP_RUNS = 3


@dataclass(frozen=True)
class EncodeTimings:
    """How long the parts of one `encode` took."""

    encoder_s: float  # preprocessing and DINOv3
    mask_head_s: float  # mask head, voting and what was asked of the images; 0 where the policy has no masks


@dataclass(frozen=True, eq=False)
class Encoding:
    """What the encoder makes of one picture; labels are None where the policy has no masks."""

    features: NDArray[np.float16]  # (N, D)
    patch_labels: NDArray[np.int8] | None  # (N,)
    patch_confidence: NDArray[np.float16] | None  # (N,)
    label_image: NDArray[np.uint8] | None  # (S, S) class ids, where asked for
    confidence_image: NDArray[np.float32] | None  # (S, S) probability of the class, where asked for
    timings: EncodeTimings


class EncoderRuntime:
    """Encoder and mask head of a checkpoint, ready to run."""

    def __init__(self, info: CheckpointInfo, perception: Perception, device: torch.device) -> None:
        self.info = info
        self.device = device
        self._perception = perception

    @classmethod
    def load(
        cls, info: CheckpointInfo, config: MaskACTConfig | None = None, device: str = "auto", threads: int = 0
    ) -> Self:
        """Load from a checkpoint; `config` may differ from the checkpoint's in parameters of scope runtime.

        Args:
            info: the checkpoint.
            config: the effective configuration; the checkpoint's own when left out.
            device: `auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`.
            threads: of torch, in the whole process; 0 leaves torch's choice.

        Raises:
            MaskACTError: the weights are damaged or do not fit, or there is no such device.
        """
        chosen = _prepare(device, threads)
        info = _effective(info, config)
        perception = Perception(_without_training_parts(info))
        load_part(info, perception, "perception.", without=("auxiliary_head.",))
        perception.encoder.merge_lora()
        return cls(info, perception.eval().requires_grad_(False).to(chosen), chosen)

    def warm_up(self) -> None:
        """Run a few times on a dark picture, so that the first real one is not slower than the others.

        Raises:
            PolicyError: what the policy makes of it is not finite.
        """
        size = self.info.config.image_size
        for _ in range(_WARM_UP_RUNS):
            seen = self.encode(np.zeros((size, size, 3), np.uint8), label_image=True, confidence_image=True)
        for name in ("features", "patch_confidence", "confidence_image"):
            array = getattr(seen, name)
            if array is not None and not np.isfinite(array).all():
                raise PolicyError(f"the policy's {name} of a dark picture are not all finite")

    @torch.inference_mode()
    def encode(
        self, image: NDArray[np.uint8], *, label_image: bool = False, confidence_image: bool = False
    ) -> Encoding:
        """Encode an RGB picture (S, S, 3) at the model's size; raises PolicyError on any other shape or type.

        Label and confidence images cost time, so they are made only where asked for, and where there are masks.
        """
        size = self.info.config.image_size
        if image.shape != (size, size, 3) or image.dtype != np.uint8:
            raise PolicyError(
                f"the picture is {image.dtype} of the shape {image.shape}; allowed: uint8 of ({size}, {size}, 3)"
            )
        begin = time.perf_counter()
        batch = torch.from_numpy(np.ascontiguousarray(image)).to(self.device)[None]
        features = self._perception.features(batch)
        self._finish()
        encoded = time.perf_counter()
        segmentation = self._perception.segment(features)
        labels = confidence = None
        if segmentation is not None:
            labels, confidence = _pixel_images(segmentation, label_image, confidence_image)
            self._finish()
        end = time.perf_counter()
        return Encoding(
            features=_array(features[0].half()),
            patch_labels=None if segmentation is None else _array(segmentation.patch_labels[0].to(torch.int8)),
            patch_confidence=None if segmentation is None else _array(segmentation.patch_confidence[0].half()),
            label_image=labels,
            confidence_image=confidence,
            timings=EncodeTimings(encoded - begin, 0.0 if segmentation is None else end - encoded),
        )

    def _finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # or the clock would stop before the work does


class PlannerRuntime:
    """ACT of a checkpoint, ready to run."""

    def __init__(self, info: CheckpointInfo, planner: Planner, device: torch.device) -> None:
        self.info = info
        self.device = device
        self._planner = planner

    @classmethod
    def load(
        cls, info: CheckpointInfo, config: MaskACTConfig | None = None, device: str = "auto", threads: int = 0
    ) -> Self:
        """Load from a checkpoint; arguments and errors as `EncoderRuntime.load`."""
        chosen = _prepare(device, threads)
        info = _effective(info, config)
        planner = Planner(_without_training_parts(info))
        load_part(info, planner, "planner.", without=("act.vae.",))
        return cls(info, planner.eval().requires_grad_(False).to(chosen), chosen)

    def warm_up(self) -> None:
        """Run a few times on features of zeros, so that the first real ones are not slower than the others."""
        config = self.info.config
        features = np.zeros((config.patches_per_side**2, config.dim_model), np.float16)
        labels = np.zeros(len(features), np.int8) if config.use_mask else None
        for _ in range(_WARM_UP_RUNS):
            self.predict(features, labels, np.zeros(self._joints))

    @torch.inference_mode()
    def predict(
        self,
        features: NDArray[np.float16],
        patch_labels: NDArray[np.int8] | None,
        state: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Joint positions to come (K, J), in the robot's units, of features (N, D), labels (N,) and positions (J,).

        Raises:
            PolicyError: an input does not fit the policy, or input or output is not finite.
        """
        config = self.info.config
        patches = config.patches_per_side**2
        _check_shape("features", features, (patches, config.dim_model))
        _check_shape("state", state, (self._joints,))
        if not np.isfinite(state).all():
            raise PolicyError(f"the state is {state.tolist()}; allowed: finite joint positions")
        labels = None
        if config.use_mask:
            if patch_labels is None:
                raise PolicyError("the features came without patch labels, which a policy with use_mask true needs")
            _check_shape("patch labels", patch_labels, (patches,))
            if patch_labels.min() < 0 or patch_labels.max() >= config.num_mask:
                raise PolicyError(
                    f"the patch labels reach from {patch_labels.min()} to {patch_labels.max()}; allowed: 0 to "
                    f"{config.num_mask - 1}"
                )
            labels = self._tensor(patch_labels, torch.int64)
        actions = self._planner(self._tensor(features, torch.float32), labels, self._tensor(state, torch.float32))
        chunk = _array(actions[0].double())
        if not np.isfinite(chunk).all():
            raise PolicyError("the policy's actions are not all finite")
        return chunk

    @property
    def _joints(self) -> int:
        return len(self.info.robot.joints)

    def _tensor(self, array: NDArray[Any], dtype: torch.dtype) -> Tensor:
        """On the device, as a batch of one; copied, since a message's array may be read-only."""
        return torch.tensor(array, dtype=dtype, device=self.device)[None]


def _prepare(device: str, threads: int) -> torch.device:
    if threads:
        torch.set_num_threads(threads)
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError):
        raise PolicyError(f"device is {device!r}, which torch cannot use here; allowed: auto, cpu, cuda") from None
    return chosen


def _effective(info: CheckpointInfo, config: MaskACTConfig | None) -> CheckpointInfo:
    """The checkpoint, its weights verified, with the configuration in effect."""
    info.verify()
    return info if config is None else replace(info, config=config)


def _without_training_parts(info: CheckpointInfo) -> CheckpointInfo:
    return replace(info, config=replace(info.config, use_aux_head=False, use_vae=False))


def _pixel_images(
    segmentation: Segmentation, label_image: bool, confidence_image: bool
) -> tuple[NDArray[np.uint8] | None, NDArray[np.float32] | None]:
    logits = segmentation.pixel_logits[0]  # (C, S, S)
    # max, not argmax, which takes ten times as long over a leading dimension.
    labels = _array(logits.max(dim=0).indices.to(torch.uint8)) if label_image else None
    confidence = _array(logits.softmax(dim=0).amax(dim=0)) if confidence_image else None
    return labels, confidence


def _check_shape(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise PolicyError(f"the {name} have the shape {array.shape}; the policy needs {shape}")


def _array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.cpu().numpy()
    return array
