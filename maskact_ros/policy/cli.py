"""The subcommands of `maskact` that make and inspect checkpoints."""

from __future__ import annotations

import argparse
from pathlib import Path

from maskact_ros.core.errors import MaskACTError
from maskact_ros.policy.engine import EXPORTABLE


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommands; their modules are loaded when they run."""
    init = commands.add_parser(
        "init-checkpoint",
        help="write an untrained checkpoint",
        description="Write an untrained checkpoint from a MaskACT JSON. The backbone comes from its dino_model_dir.",
    )
    init.set_defaults(run=_init_checkpoint)
    init.add_argument("config", type=Path, metavar="CONFIG", help="MaskACT JSON, such as config/demo_policy.json")
    init.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    init.add_argument("--seed", type=int, default=0, help="seed of the random weights; default: 0")

    imported = commands.add_parser(
        "import-checkpoint",
        help="import a checkpoint of the reference implementation",
        description="Write our checkpoint from a folder with the reference's config.json and model.safetensors.",
    )
    imported.set_defaults(run=_import_checkpoint)
    imported.add_argument("reference", type=Path, metavar="REFERENCE_DIR", help="the reference's folder")
    imported.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    imported.add_argument("--backbone", type=Path, required=True, metavar="DIR", help="its DINOv3 folder: config.json")

    shrunk = commands.add_parser(
        "shrink",
        help="a checkpoint in half the space",
        description="Write a copy of a checkpoint with its weights in half precision, to ship it. It runs as before.",
    )
    shrunk.set_defaults(run=_shrink)
    shrunk.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="folder of the checkpoint")
    shrunk.add_argument("out", type=Path, metavar="OUT", help="folder to write")

    export = commands.add_parser(
        "export",
        help="a checkpoint for onnxruntime and TensorRT",
        description="Write a checkpoint's encoder, mask head and planner as ONNX graphs, with LoRA merged, to "
        "CHECKPOINT/onnx/PRECISION, where the backend onnxruntime finds them. Prints the differences between their "
        "outputs and torch's; beyond the tolerance nothing is written.",
    )
    export.set_defaults(run=_export)
    export.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="folder of the checkpoint")
    export.add_argument(
        "--precision",
        choices=EXPORTABLE,
        default="fp32",
        help="fp16 is for GPUs; int8 is for CPUs, and changes what the policy does a little; default: fp32",
    )
    export.add_argument(
        "--dynamic",
        action="store_true",
        help="let the planner compute with any number of patches, for drop_isolated_patches; without it the planner "
        "needs all patches, unless the policy was trained without some",
    )
    export.add_argument("--out", type=Path, metavar="FOLDER", help="write to this folder instead")
    export.add_argument("--overwrite", action="store_true", help="replace an export that is there")

    for command in (init, imported):
        command.add_argument("--robot", type=Path, metavar="FILE", help="robot.yaml of the robot it is for")
    for command in (init, imported, shrunk):
        command.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")

    predict = commands.add_parser(
        "predict",
        help="run a checkpoint on one observation",
        description="Write features, pixel_logits, patch_labels and chunk of one observation to an .npz file.",
    )
    predict.set_defaults(run=_predict)
    predict.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="folder of the checkpoint")
    predict.add_argument("--image", type=Path, required=True, metavar="FILE", help="PNG or JPEG")
    predict.add_argument("--state", required=True, metavar="0.1,…", help="joint positions, with commas between")
    predict.add_argument("--out", type=Path, required=True, metavar="FILE.npz", help="where to write")


def _init_checkpoint(a: argparse.Namespace) -> None:
    from maskact_ros.core.paths import shared
    from maskact_ros.core.robot import RobotSpec
    from maskact_ros.policy.commands import init_checkpoint

    robot = RobotSpec.from_yaml(a.robot or shared("config/robot.yaml"))
    init_checkpoint(a.config, a.out, robot, seed=a.seed, overwrite=a.overwrite)


def _import_checkpoint(a: argparse.Namespace) -> None:
    from maskact_ros.core.robot import RobotSpec
    from maskact_ros.policy.commands import import_reference

    robot = RobotSpec.from_yaml(a.robot) if a.robot else None
    import_reference(a.reference, a.out, a.backbone, robot, overwrite=a.overwrite)


def _shrink(a: argparse.Namespace) -> None:
    from maskact_ros.policy.commands import shrink

    shrink(a.checkpoint, a.out, overwrite=a.overwrite)


def _export(a: argparse.Namespace) -> None:
    from maskact_ros.policy.onnx.export import export

    export(a.checkpoint, precision=a.precision, dynamic=a.dynamic, out=a.out, overwrite=a.overwrite)


def _predict(a: argparse.Namespace) -> None:
    from maskact_ros.policy.commands import predict_once

    try:
        state = [float(number) for number in a.state.split(",")]
    except ValueError:
        raise MaskACTError(
            f"--state is {a.state!r}; allowed: numbers with commas between, one for each joint"
        ) from None
    predict_once(a.checkpoint, a.image, state, a.out)
