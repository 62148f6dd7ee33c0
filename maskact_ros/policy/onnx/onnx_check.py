"""The differences between an export's outputs and torch's, over inputs of many kinds; and their tolerances.

The mask head gets the features of the exported encoder, so that its labels are those on the robot. The planner gets
torch's features, so that only its own difference is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.policy.onnx.onnx_files import ENCODER, MASK_HEAD, PLANNER, Difference
from maskact_ros.policy.onnx.onnx_graphs import Deployed
from maskact_ros.policy.rules import class_importance, configured_rules

Array = NDArray[Any]
Run = Callable[[str, Mapping[str, Array]], dict[str, Array]]  # a graph's name and its inputs to its outputs

_RELATIVE = "largest difference, relative to the largest value"
_MEASURES = {
    f"{ENCODER}.features": _RELATIVE,
    f"{MASK_HEAD}.pixel_logits": _RELATIVE,
    f"{MASK_HEAD}.patch_confidence": "largest difference of a probability",
    f"{MASK_HEAD}.patch_labels": "share of the patches with another label",
    f"{PLANNER}.actions": "largest difference, relative to the scale that the joint's actions are normalised with",
}
_TOLERANCES = {
    "fp32": (1e-4, 1e-4, 1e-3, 0.002, 1e-3),
    "fp16": (2e-2, 2e-2, 5e-2, 0.02, 2e-2),
    "int8": (0.1, 0.1, 0.2, 0.05, 0.3),
}
_IMPORTANCE_RANGE = (0.05, 5.0)  # of random class weights, which are tried besides the policy's own


def differences(
    info: CheckpointInfo, deployed: Deployed, run: Run, precision: str, *, dynamic: bool
) -> dict[str, Difference]:
    """The largest difference of each output; keys are "graph.output"."""
    found: dict[str, list[float]] = {}
    for name, value in _measured(info, deployed, run, dynamic=dynamic):
        found.setdefault(name, []).append(value)
    tolerances = dict(zip(_MEASURES, _TOLERANCES[precision], strict=True))
    return {
        # A share is the mean over all inputs; a value that is not finite once stays so.
        name: Difference(
            largest=float(np.mean(values) if name.endswith("labels") else np.max(values)),
            tolerance=tolerances[name],
            measure=_MEASURES[name],
        )
        for name, values in found.items()
    }


@torch.inference_mode()
def _measured(info: CheckpointInfo, deployed: Deployed, run: Run, *, dynamic: bool) -> Iterator[tuple[str, float]]:
    rng = np.random.default_rng(0)
    config = info.config
    scale = deployed.planner.action_normalizer.scale.numpy()
    for image in pictures(config.image_size, rng):
        features = deployed.encoder(torch.from_numpy(image))
        seen = run(ENCODER, {"image": image})["features"]
        yield f"{ENCODER}.features", _relative(seen, features.numpy())
        labels = None
        if deployed.mask_head is not None:
            for importance in _class_weights(class_importance(config), rng):
                expected = deployed.mask_head(features, torch.from_numpy(importance))
                labels, confidence, logits = (tensor.numpy() for tensor in expected)
                masks = run(MASK_HEAD, {"features": seen, "importance": importance})
                yield f"{MASK_HEAD}.pixel_logits", _relative(masks["pixel_logits"], logits)
                yield f"{MASK_HEAD}.patch_confidence", float(np.abs(masks["patch_confidence"] - confidence).max())
                yield f"{MASK_HEAD}.patch_labels", float((masks["patch_labels"] != labels).mean())
        with np.errstate(over="ignore"):  # an infinite value shows in the difference
            half = features.numpy().astype(np.float16)
        for inputs in _observations(info, half, labels, rng, dynamic=dynamic):
            tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
            actions = deployed.planner(**tensors).numpy()
            yield f"{PLANNER}.actions", float((np.abs(run(PLANNER, inputs)["actions"] - actions) / scale).max())


def pictures(size: int, rng: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """Pictures (S, S, 3): a dark one, noise, and three of objects before a background, blurred and noisy."""
    yield np.zeros((size, size, 3), np.uint8)
    yield rng.integers(0, 256, (size, size, 3), np.uint8)
    for _ in range(3):
        corners = rng.integers(0, 256, (2, 2, 3), np.uint8)
        picture = cv2.resize(corners, (size, size), interpolation=cv2.INTER_LINEAR)
        for _ in range(8):
            centre, axes = rng.integers(0, size, 2), rng.integers(size // 20 + 1, size // 3 + 2, 2)
            colour, angle = rng.integers(0, 256, 3), float(rng.uniform(0.0, 360.0))
            cv2.ellipse(picture, centre.tolist(), axes.tolist(), angle, 0.0, 360.0, colour.tolist(), thickness=-1)
        blurred = cv2.GaussianBlur(picture, (0, 0), sigmaX=1.0)
        yield np.clip(blurred + rng.normal(0.0, 4.0, picture.shape), 0, 255).astype(np.uint8)


def _class_weights(own: NDArray[np.float32], rng: np.random.Generator) -> Iterator[NDArray[np.float32]]:
    yield np.ones_like(own)
    yield rng.uniform(*_IMPORTANCE_RANGE, len(own)).astype(np.float32)
    yield own  # the last one's labels go on to the planner


def _observations(
    info: CheckpointInfo, features: Array, labels: Array | None, rng: np.random.Generator, *, dynamic: bool
) -> Iterator[dict[str, Array]]:
    """Inputs of the planner: with the policy's own rules, none and random ones; with all patches and with some."""
    joints, num_mask = len(info.robot.joints), info.config.num_mask
    centre, scale = info.statistics.state.affine(
        info.config.normalization_mapping["STATE"], feature="state", width=joints
    )
    patches = len(features)
    everything = np.ones((num_mask + 1, num_mask + 1), np.bool_)
    own = configured_rules(info.config)
    for rules in (everything, rng.random(everything.shape) < 0.5, everything if own is None else own):
        kept = (
            np.sort(rng.permutation(patches)[: patches // 2]) if dynamic and rules is everything else np.arange(patches)
        )
        inputs: dict[str, Array] = {
            "features": features[kept],
            "patches": kept,
            "state": (np.array(centre) + np.array(scale) * rng.normal(size=joints)).astype(np.float32),
        }
        if labels is not None:
            inputs |= {"labels": labels[kept], "rules": rules}
        yield inputs


def _relative(found: Array, expected: Array) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())
