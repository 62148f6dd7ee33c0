"""Import of a checkpoint in the layout of the published reference (the `Mask_Policy` part of the ExoGS project).

In: its folder (`config.json`, `model.safetensors`) and the folder of its DINOv3 configuration; tensors may have either
of transformers' namings, with or without LoRA. Out: this project's `MaskACT`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from maskact_ros.core.checkpoint import PolicySpec, default_mask_classes
from maskact_ros.core.config import LATENT_LABEL, ConfigError, MaskACTConfig
from maskact_ros.core.dimensions import check_dimensions
from maskact_ros.core.documents import read_json
from maskact_ros.core.paths import regular_size, resolve_path
from maskact_ros.core.robot import UNKNOWN_ROBOT, Camera, Joint, RobotSpec
from maskact_ros.core.statistics import IMAGE_STATISTICS, FeatureStatistics, Statistics
from maskact_ros.policy.errors import PolicyError
from maskact_ros.policy.model.backbone import canonical_name, read_settings, read_tensors
from maskact_ros.policy.model.maskact import MaskACT
from maskact_ros.policy.model.weights import load_tensors

# Keys of the reference's config.json that ours does not have.
_ONLY_THERE = ("use_lowdim", "lowdim_label", "device", "use_amp", "input_features", "output_features")
_MOST = 10_000  # largest number of joints, and of pixels along a side
_GUESSED_RATE_HZ = 30.0  # the reference does not store the rate of its actions
_BUFFER = re.compile(r"(?:normalize_inputs|normalize_targets|unnormalize_outputs)\.buffer_(.+)\.(mean|std|min|max)")

# Prefixes of names in the reference and here; the first one that matches is replaced.
_PREFIXES = (
    ("model.vision_encoder.backbone.dino.", "perception.encoder.backbone."),
    ("model.vision_encoder.backbone.projection.", "perception.encoder.projection."),
    ("model.mask_head.head.image_pool.", "perception.mask_head.image_pooling."),
    ("model.mask_head.head.aspp_modules.convs.", "perception.mask_head.branches."),
    ("model.mask_head.head.bottleneck.", "perception.mask_head.bottleneck."),
    ("model.mask_head.head.cls_seg.", "perception.mask_head.classifier.1."),
    ("model.modality_embed.", "planner.act.modality_embedding."),
    ("model.label_embed.", "planner.act.label_embedding."),
    ("model.vae_encoder_cls_embed.weight", "planner.act.vae.class_token"),
    ("model.vae_encoder_robot_state_input_proj.", "planner.act.vae.state_projection."),
    ("model.vae_encoder_action_input_proj.", "planner.act.vae.action_projection."),
    ("model.vae_encoder_latent_output_proj.", "planner.act.vae.latent_projection."),
    ("model.vae_encoder.", "planner.act.vae.encoder."),
    ("model.transformer.encoder.", "planner.act.encoder."),
    ("model.transformer.decoder.", "planner.act.decoder."),
    ("model.encoder_latent_input_proj.", "planner.act.latent_projection."),
    ("model.encoder_robot_state_input_proj.", "planner.act.state_projection."),
    ("model.readout_embed.weight", "planner.act.action_queries"),
    ("model.action_head.", "planner.act.action_head."),
)
_LAYER_PARTS = ((".self_attn.", ".self_attention."), (".multihead_attn.", ".cross_attention."))


@dataclass(frozen=True)
class ImportedReference:
    """The policy, and remarks on guessed or omitted parts."""

    model: MaskACT
    remarks: tuple[str, ...]


def load_reference(folder: Path, backbone_folder: Path, robot: RobotSpec | None) -> ImportedReference:
    """Read a reference checkpoint; without a robot, a generic one is made of the widths that the reference stores.

    Raises:
        MaskACTError: a file cannot be read, its configuration is one that this project does not have, or tensors
            are missing, unknown or of another shape.
    """
    folder = resolve_path(folder)
    values = read_json(folder / "config.json")
    only_there = {key: values.pop(key) for key in _ONLY_THERE if key in values}
    if only_there.get("use_lowdim", True) is not True:
        raise PolicyError(f"{folder}: use_lowdim is false; allowed: true, a policy that sees the robot's state")
    try:
        _rename_lowdim_label(values, only_there.get("lowdim_label", LATENT_LABEL))
        config = MaskACTConfig.from_dict(values)
    except ConfigError as error:
        raise ConfigError(f"{folder / 'config.json'}: {error}") from None
    features = _Features.of(only_there, folder)
    remarks = []
    if robot is None:
        robot = features.generic_robot()
        remarks.append(
            f"the reference names no joints: they are called joint_1 to joint_{features.joints}, with wide limits, "
            f"camera {features.camera} of the size that the model sees and a policy rate of {_GUESSED_RATE_HZ:g} Hz; "
            "give a robot file to say better"
        )
    elif len(robot.joints) != features.joints:
        raise PolicyError(f"robot {robot.name} has {len(robot.joints)} joints, the reference's {features.joints}")

    tensors = read_tensors(folder / "model.safetensors")
    statistics = _take_statistics(tensors, features)
    auxiliary = [name for name in tensors if name.startswith("model.mask_head.") and "aux" in name]
    for name in auxiliary:
        del tensors[name]
    if auxiliary:
        remarks.append(
            f"the reference's auxiliary head, which it never trains, was left behind ({len(auxiliary)} tensors)"
        )
    spec = PolicySpec(
        config=config,
        robot=robot,
        statistics=statistics,
        backbone=read_settings(resolve_path(backbone_folder)),
        mask_classes=default_mask_classes(config.num_mask),
    )
    check_dimensions(config, spec.backbone, regular_size(folder / "model.safetensors"))
    model = MaskACT(spec)
    renamed = _renamed(tensors)
    if model.perception.auxiliary_head is not None:
        head = model.perception.auxiliary_head.state_dict(prefix="perception.auxiliary_head.")
        renamed |= {name: tensor.clone() for name, tensor in head.items()}
    load_tensors(model, renamed, str(folder / "model.safetensors"))
    return ImportedReference(model, tuple(remarks))


@dataclass(frozen=True)
class _Features:
    """The reference's input and output features."""

    camera_key: str
    camera: str
    height: int
    width: int
    joints: int

    @classmethod
    def of(cls, values: Mapping[str, Any], folder: Path) -> _Features:
        try:
            inputs, outputs = values["input_features"], values["output_features"]
            shapes = {key: entry["shape"] for key, entry in inputs.items() if entry["type"] == "VISUAL"}
            cameras = [key for key in shapes if not key.rpartition(".")[2].startswith("mask")]
            (state,) = inputs["observation.state"]["shape"]
            action = outputs["action"]["shape"][-1]
            if len(cameras) != 1:
                raise PolicyError(f"{folder}: it has the cameras {', '.join(cameras) or 'none'}; allowed: exactly one")
            _, height, width = shapes[cameras[0]]
            if not all(isinstance(n, int) and 1 <= n <= _MOST for n in (state, action, height, width)):
                raise ValueError
        except (KeyError, TypeError, ValueError, AttributeError):
            raise PolicyError(
                f"{folder / 'config.json'}: input_features and output_features do not describe one camera, "
                "observation.state and action"
            ) from None
        if state != action:
            raise PolicyError(f"{folder}: state has {state} numbers and action {action}; allowed: one for each joint")
        return cls(cameras[0], cameras[0].rpartition(".")[2], height, width, state)

    def generic_robot(self) -> RobotSpec:
        return RobotSpec(
            name=UNKNOWN_ROBOT,
            policy_rate_hz=_GUESSED_RATE_HZ,
            joint_states_topic="joint_states",
            command_topic="command",
            joints=tuple(
                Joint(name=f"joint_{i + 1}", lower=-2 * math.pi, upper=2 * math.pi, velocity=3.0, acceleration=15.0)
                for i in range(self.joints)
            ),
            cameras=(Camera(name=self.camera, image_topic="image_raw", width=self.width, height=self.height),),
        )


def _rename_lowdim_label(values: dict[str, Any], lowdim_label: Any) -> None:
    """Change the label of latent and state in the rules from the reference's `lowdim_label` to -1."""
    rules = values.get("label_attention_rules")
    if not isinstance(rules, dict) or lowdim_label == LATENT_LABEL:
        return
    num_mask = MaskACTConfig.from_dict({key: values[key] for key in ("num_mask",) if key in values}).num_mask
    if lowdim_label in range(num_mask):
        raise PolicyError(
            f"lowdim_label is {lowdim_label}, which label_attention_rules cannot tell from the mask class of that "
            f"number; allowed: a number that is no mask class's, such as {LATENT_LABEL}"
        )

    def renamed(label: Any) -> Any:
        return LATENT_LABEL if str(label) == str(lowdim_label) else label

    values["label_attention_rules"] = {
        renamed(query): [renamed(key) for key in keys] if isinstance(keys, list) else keys
        for query, keys in rules.items()
    }


def _take_statistics(tensors: dict[str, Tensor], features: _Features) -> Statistics:
    """The statistics in the reference's normalisation buffers, which are removed from `tensors`."""
    found: dict[str, dict[str, tuple[float, ...]]] = {}
    for name in list(tensors):
        if match := _BUFFER.fullmatch(name):
            feature, entry = match.groups()
            found.setdefault(feature, {})[entry] = tuple(tensors.pop(name).flatten().double().tolist())
    image = found.get(features.camera_key.replace(".", "_"))
    return Statistics(
        state=FeatureStatistics(**found.get("observation_state", {})),
        action=FeatureStatistics(**found.get("action", {})),
        image=IMAGE_STATISTICS if image is None else FeatureStatistics(**image),
    )


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under this project's names. A tensor without a counterpart keeps its name, and is refused later."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name == "model.vae_encoder_pos_enc":
            continue  # computed here, not stored
        new = name
        for there, here in _PREFIXES:
            if name.startswith(there):
                new = canonical_name(here + name.removeprefix(there))
                break
        if not new.startswith("planner."):
            renamed[new] = tensor
            continue
        for there, here in _LAYER_PARTS:
            new = new.replace(there, here)
        new = re.sub(r"\.(linear[12])\.", r".feed_forward.\1.", new)
        if ".in_proj_" in new:
            for projection, part in zip("qkv", tensor.chunk(3), strict=True):
                renamed[new.replace(".in_proj_", f".{projection}_proj.")] = part
        else:
            renamed[new] = tensor
    projection = "perception.encoder.projection.weight"
    if projection in renamed:
        renamed[projection] = renamed[projection].flatten(1)  # a 1x1 convolution there, (D, hidden, 1, 1)
    token = "planner.act.vae.class_token"  # noqa: S105
    if token in renamed:
        renamed[token] = renamed[token][None]  # (1, D) there
    return renamed
