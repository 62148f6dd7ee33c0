"""The subcommands of `maskact` that make checkpoints, and look into them."""

from __future__ import annotations

import argparse
from pathlib import Path

from maskact_ros.errors import MaskACTError


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare them; what they need is loaded when they run."""
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
        help="take over a checkpoint of the reference implementation",
        description="Write our checkpoint from a folder with the reference's config.json and model.safetensors.",
    )
    imported.set_defaults(run=_import_checkpoint)
    imported.add_argument("reference", type=Path, metavar="REFERENCE_DIR", help="the reference's folder")
    imported.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    imported.add_argument("--backbone", type=Path, required=True, metavar="DIR", help="its DINOv3 folder: config.json")

    shrunk = commands.add_parser(
        "shrink",
        help="a checkpoint in half the space",
        description="Write a checkpoint again with its weights in half precision, to ship it. It runs as before.",
    )
    shrunk.set_defaults(run=_shrink)
    shrunk.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="folder of the checkpoint")
    shrunk.add_argument("out", type=Path, metavar="OUT", help="folder to write")

    for command in (init, imported):
        command.add_argument("--robot", type=Path, metavar="FILE", help="robot.yaml of the robot it is for")
    for command in (init, imported, shrunk):
        command.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")

    predict = commands.add_parser(
        "predict",
        help="one observation through a checkpoint",
        description="Write features, pixel_logits, patch_labels and chunk of one observation to an .npz file.",
    )
    predict.set_defaults(run=_predict)
    predict.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="folder of the checkpoint")
    predict.add_argument("--image", type=Path, required=True, metavar="FILE", help="PNG or JPEG")
    predict.add_argument("--state", required=True, metavar="0.1,…", help="joint positions, with commas between")
    predict.add_argument("--out", type=Path, required=True, metavar="FILE.npz", help="where to write")


def _init_checkpoint(a: argparse.Namespace) -> None:
    from maskact_ros.paths import shared
    from maskact_ros.policy.commands import init_checkpoint
    from maskact_ros.robot import RobotSpec

    robot = RobotSpec.from_yaml(a.robot or shared("config/robot.yaml"))
    init_checkpoint(a.config, a.out, robot, seed=a.seed, overwrite=a.overwrite)


def _import_checkpoint(a: argparse.Namespace) -> None:
    from maskact_ros.policy.commands import import_reference
    from maskact_ros.robot import RobotSpec

    robot = RobotSpec.from_yaml(a.robot) if a.robot else None
    import_reference(a.reference, a.out, a.backbone, robot, overwrite=a.overwrite)


def _shrink(a: argparse.Namespace) -> None:
    from maskact_ros.policy.commands import shrink

    shrink(a.checkpoint, a.out, overwrite=a.overwrite)


def _predict(a: argparse.Namespace) -> None:
    from maskact_ros.policy.commands import predict_once

    try:
        state = [float(number) for number in a.state.split(",")]
    except ValueError:
        raise MaskACTError(
            f"--state is {a.state!r}; allowed: numbers with commas between, one for each joint"
        ) from None
    predict_once(a.checkpoint, a.image, state, a.out)
