"""The subcommands of `maskact` that start nodes, and talk to them."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare them; what they need is loaded when they run."""
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
