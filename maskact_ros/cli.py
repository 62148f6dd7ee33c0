"""The `maskact` command: checkpoints, bringup and demonstration; each subcommand loads only what it needs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from maskact_ros import __version__
from maskact_ros.errors import MaskACTError


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point; exits with 1 after an error, which is one sentence on stderr."""
    arguments = _parser().parse_args(_joined(sys.argv[1:] if argv is None else argv))
    try:
        code: int = arguments.run(arguments) or 0
    except MaskACTError as error:
        print(f"maskact {arguments.command}: {error}", file=sys.stderr)
        code = 1
    except OSError as error:  # a file that cannot be read or written, for whatever reason the system has
        print(f"maskact {arguments.command}: {error.filename}: {error.strerror}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _joined(argv: Sequence[str]) -> list[str]:
    """With `--state -0.1,0.2` as one word, because argparse takes a second one that begins with - for an option."""
    words = list(argv)
    if "--state" in words[:-1]:
        at = words.index("--state")
        words[at : at + 2] = [f"--state={words[at + 1]}"]
    return words


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


def _predict(a: argparse.Namespace) -> None:
    from maskact_ros.policy.commands import predict_once

    try:
        state = [float(number) for number in a.state.split(",")]
    except ValueError:
        raise MaskACTError(
            f"--state is {a.state!r}; allowed: numbers with commas between, one for each joint"
        ) from None
    predict_once(a.checkpoint, a.image, state, a.out)


def _bringup(a: argparse.Namespace) -> int:
    from maskact_ros.nodes.bringup import DESCRIPTIONS, BringupArguments
    from maskact_ros.nodes.supervisor import run_bringup

    return run_bringup(BringupArguments(**{name: getattr(a, name) for name in DESCRIPTIONS}))


def _enable(a: argparse.Namespace) -> None:
    from maskact_ros.nodes.switch import switch

    print(switch(a.namespace, on=a.command == "enable"))


def _demo(a: argparse.Namespace) -> None:
    from maskact_ros.nodes.demo import DemoArguments, run_demo

    result = run_demo(
        DemoArguments(
            policy_path=a.policy_path,
            episodes=a.episodes,
            seconds=a.seconds,
            seed=a.seed,
            shift=a.shift,
            expert=a.expert,
            headless=a.headless,
            out=a.out,
        )
    )
    if a.json:
        print(json.dumps(asdict(result)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="maskact",
        description="Run and make MaskACT policies. A first look: maskact demo --expert, then maskact demo.",
    )
    parser.add_argument("--version", action="version", version=f"maskact {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo",
        help="the simulated robot, driven by the three nodes",
        description="Start the simulated robot and the three nodes, let the policy try episode after episode, and "
        "write overlay.mp4, overview.png and log.txt. Ctrl-C brings the arm to rest and ends it early.",
    )
    demo.set_defaults(run=_demo)
    demo.add_argument("--policy-path", default="", metavar="DIR", help="checkpoint to run; default: the package's own")
    demo.add_argument("--episodes", type=int, default=3, help="how many to try; default: 3")
    demo.add_argument("--seconds", type=float, default=None, help="end after so long, whatever is going on")
    demo.add_argument("--seed", type=int, default=0, help="seed of the first scene; each next one adds 1; default: 0")
    demo.add_argument(
        "--shift",
        default="none",
        help="change the scene: background, light, object, distractors, camera, joined with +; default: none",
    )
    demo.add_argument("--expert", action="store_true", help="let the scripted expert show the task instead of a policy")
    demo.add_argument("--headless", action="store_true", help="no live status line; for logs and remote shells")
    demo.add_argument("--json", action="store_true", help="print the figures as one JSON object, last, on stdout")
    demo.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="where to write; default: demo")

    bringup = commands.add_parser(
        "bringup",
        help="the three nodes, as ros2 launch maskact_ros bringup.launch.py starts them",
        description="Start the three nodes (and, with --sim, the simulated robot) without ros2 launch. The arm is "
        "silent until ~/enable of action_publisher is called. Ctrl-C brings it to rest first, then ends all.",
    )
    bringup.set_defaults(run=_bringup)
    _add_bringup_arguments(bringup)

    for name, effect in (("enable", "let the arm follow its policy"), ("disable", "brake the arm, and hold it")):
        switch = commands.add_parser(
            name,
            help=effect,
            description=f"Call the enable service of the action publisher: {effect}.",
        )
        switch.set_defaults(run=_enable)
        switch.add_argument("--namespace", default="/maskact", help="as given to bringup; default: /maskact")

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

    for command in (init, imported):
        command.add_argument("--robot", type=Path, metavar="FILE", help="robot.yaml of the robot it is for")
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
    return parser


def _add_bringup_arguments(parser: argparse.ArgumentParser) -> None:
    from maskact_ros.nodes.bringup import DESCRIPTIONS, BringupArguments

    defaults = BringupArguments()
    for name, description in DESCRIPTIONS.items():
        flag, default = f"--{name.replace('_', '-')}", getattr(defaults, name)
        if isinstance(default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=description)
        else:
            shown = f"{description}; default: {default}" if default else description
            parser.add_argument(flag, default=default, metavar=name.upper().rsplit("_", 1)[-1], help=shown)


if __name__ == "__main__":
    main()
