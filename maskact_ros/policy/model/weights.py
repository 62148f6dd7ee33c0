"""Writes and reads a checkpoint's `model.safetensors`, with the same names for all releases of transformers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from maskact_ros.core.checkpoint import WEIGHTS, CheckpointInfo, write_checkpoint
from maskact_ros.core.foreign_file import reading
from maskact_ros.policy.errors import PolicyError
from maskact_ros.policy.model.backbone import canonical_name
from maskact_ros.policy.model.maskact import MaskACT

_SHOWN = 3  # most names in an error's text


def save_checkpoint(
    folder: str | Path,
    model: MaskACT,
    *,
    half: bool = False,
    overwrite: bool = False,
    sources: Iterable[Path] = (),
) -> CheckpointInfo:
    """Write the policy with its weights, optionally in half precision; it always computes in single precision.

    Raises:
        MaskACTError: as `write_checkpoint`, or a weight is too large for half precision.
    """
    tensors = {canonical_name(name): tensor.contiguous() for name, tensor in model.state_dict().items()}
    if half:
        tensors = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
        if large := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
            raise PolicyError(f"{_listed(large)} too large for half precision, which ends at 65504")
    try:
        return write_checkpoint(
            folder, model.spec, lambda path: save_file(tensors, path), overwrite=overwrite, sources=sources
        )
    except SafetensorError as error:  # a full disk
        raise PolicyError(f"{folder}: the weights cannot be written ({error})") from None


def load_checkpoint(info: CheckpointInfo) -> MaskACT:
    """The whole policy of a checkpoint in training mode, for further training; raises MaskACTError."""
    model = MaskACT(info)
    info.verify()
    load_part(info, model)
    return model


def load_part(info: CheckpointInfo, module: nn.Module, prefix: str = "", *, without: tuple[str, ...] = ()) -> None:
    """Load the tensors whose names begin with `prefix`, without it; skip names that then begin with one of `without`.

    Raises:
        PolicyError: the file cannot be read, or its tensors are not the module's.
    """
    path = info.folder / WEIGHTS
    with reading(path, "safetensors", PolicyError), safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 it is no dictionary
        wanted = [name for name in names if not name[len(prefix) :].startswith(without)]
        tensors = {name[len(prefix) :]: file.get_tensor(name) for name in wanted}
    load_tensors(module, tensors, str(path))


def load_backbone(model: MaskACT, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy a published DINOv3 model's tensors into the policy's backbone, adapters apart; raises PolicyError."""
    backbone = model.perception.encoder.backbone
    own = {canonical_name(name): tensor for name, tensor in backbone.state_dict().items()}
    place = {name.replace(".base_layer.", "."): name for name in own if ".lora_" not in name}
    published = {canonical_name(name): tensor for name, tensor in tensors.items()}
    adapters = {name: tensor for name, tensor in own.items() if ".lora_" in name}
    load_tensors(backbone, adapters | {place.get(name, name): tensor for name, tensor in published.items()}, source)


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy tensors with canonical names into a module; there must be exactly the module's tensors.

    Raises:
        PolicyError: tensors are missing, unknown or not finite, or differ in shape or type; the text names them.
    """
    own = {canonical_name(name): tensor for name, tensor in module.state_dict().items()}
    if missing := [name for name in own if name not in tensors]:
        raise PolicyError(f"{source}: {_listed(missing)} missing")
    if unknown := [name for name in tensors if name not in own]:
        raise PolicyError(f"{source}: {_listed(unknown)} unknown to this policy's configuration")
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            raise PolicyError(
                f"{source}: tensor {name} has the shape {list(tensor.shape)}, the policy's has {list(own[name].shape)}"
            )
        if tensor.dtype != own[name].dtype and not (tensor.is_floating_point() and own[name].is_floating_point()):
            raise PolicyError(f"{source}: tensor {name} is {tensor.dtype}, the policy's is {own[name].dtype}")
        own[name].copy_(tensor)  # a state dict's tensors share the module's memory
        if not own[name].isfinite().all():
            raise PolicyError(f"{source}: tensor {name} is not all finite")


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"tensor {shown} is" if len(names) == 1 else f"tensors {shown}{more} are"
