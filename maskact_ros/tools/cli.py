"""The subcommands of `maskact` that start nodes, and communicate with them."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from maskact_ros.core.parallel import add_workers, workers_of


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommands; their modules are loaded when they run."""
    demo = commands.add_parser(
        "demo",
        help="the simulated robot, driven by the three nodes",
        description="Start the simulated robot and the three nodes, let the policy try episode after episode, and "
        "write overlay.mp4, overview.png and log.txt. Ctrl-C brings the arm to rest and ends it early.",
    )
    demo.set_defaults(run=_demo)
    demo.add_argument("--policy-path", default="", metavar="DIR", help="checkpoint to run; default: the package's own")
    demo.add_argument("--episodes", type=int, default=3, help="how many to try; default: 3")
    demo.add_argument("--seconds", type=float, default=None, help="end after this, even in an episode")
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

    _add_evaluate(commands)

    record = commands.add_parser(
        "record",
        help="record the topics of a contract from the running robot",
        description="Record the topics that a contract names, as bytes, with receive times, into a rosbag2 folder that "
        "maskact convert and ros2 bag read. Ctrl-C closes it properly; a bag is never overwritten. A topic without a "
        "message is an error, but the bag is kept.",
    )
    record.set_defaults(run=_record)
    record.add_argument("--contract", type=Path, required=True, metavar="FILE", help="such as config/contract.yaml")
    record.add_argument("--out", type=Path, required=True, metavar="BAG", help="folder to write; must not exist")
    record.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap", help="format; default: mcap")
    record.add_argument("--seconds", type=float, help="end this long after the first message; default: at Ctrl-C")

    for name, effect in (("enable", "let the arm follow its policy"), ("disable", "brake the arm, and hold it")):
        switch = commands.add_parser(
            name,
            help=effect,
            description=f"Call the enable service of the action publisher: {effect}.",
        )
        switch.set_defaults(run=_enable)
        _add_namespace(switch)

    reset = commands.add_parser(
        "reset",
        help="clear a fault whose cause is gone",
        description="Call the reset service of the action publisher: it discards the plan and all chunks in flight, "
        "and clears a fault if its cause is gone. Then maskact enable lets the arm move again.",
    )
    reset.set_defaults(run=_reset)
    _add_namespace(reset)

    _add_monitor(commands)


def _add_namespace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--namespace", default="/maskact", help="as given to bringup; default: /maskact")


def _add_monitor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    monitor = commands.add_parser(
        "monitor",
        help="the nodes' diagnostics and state, as one live table",
        description="Listen to /diagnostics and state, and show them as one table; if stdout is no terminal, as a text "
        "each second. The nodes may have been started in any way. Ctrl-C ends it. The exit code is 0; with --once it "
        "is 1 when nothing was heard, or when a node reports an error.",
    )
    monitor.set_defaults(run=_monitor)
    _add_namespace(monitor)
    duration = monitor.add_mutually_exclusive_group()
    duration.add_argument("--once", action="store_true", help="show the reports of two seconds, and end")
    duration.add_argument("--seconds", type=float, metavar="N", help="end after this time; default: at Ctrl-C")
    monitor.add_argument("--json", action="store_true", help="print a JSON object each second, or with --once just one")


def _add_evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="a policy's success rate in the simulated task",
        description="Let a policy try the simulated task once for each seed, in simulated time, and print how often it "
        "succeeded. record-demos begins at seed 100000 by default, so smaller seeds are in none of its demonstrations. "
        "Ctrl-C ends it early, and prints the results so far.",
    )
    evaluate.set_defaults(run=_evaluate)
    evaluate.add_argument("checkpoint", nargs="?", default="", metavar="CHECKPOINT", help="folder of the checkpoint")
    evaluate.add_argument("--expert", action="store_true", help="measure the scripted expert instead of a checkpoint")
    evaluate.add_argument("--episodes", type=int, default=100, help="how many to try; default: 100")
    evaluate.add_argument("--seed", type=int, default=0, metavar="FIRST", help="seed of the first; default: 0")
    evaluate.add_argument(
        "--shift",
        default="none",
        help="change the scene: background, light, object, distractors, camera, joined with +; default: none",
    )
    evaluate.add_argument(
        "--backend", default="torch", help="library that runs the policy: torch, onnxruntime; default: torch"
    )
    evaluate.add_argument(
        "--precision", default="fp32", help="fp32, bf16 (torch), fp16, int8 (onnxruntime); default: fp32"
    )
    evaluate.add_argument(
        "--ensemble",
        metavar="COEFF",
        help="temporal_ensemble_coeff, such as 0.01, or none; default: as in the checkpoint",
    )
    evaluate.add_argument("--n-action-steps", type=int, metavar="N", help="default: as in the checkpoint")
    evaluate.add_argument(
        "--latency", type=float, metavar="S", help="seconds from image to chunk, modelled; default: 0.1"
    )
    evaluate.add_argument(
        "--time-limit", type=float, default=20.0, metavar="S", help="seconds an episode may take; default: 20"
    )
    add_workers(evaluate, "episodes")
    evaluate.add_argument(
        "--film",
        type=Path,
        metavar="FILE",
        help="write the first episodes as a video of overlays: .mp4, or .webp for a page",
    )
    evaluate.add_argument(
        "--through-ros",
        action="store_true",
        help="run the three nodes and sim_robot in real time, instead of simulated time in this process",
    )
    evaluate.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def _add_bringup_arguments(parser: argparse.ArgumentParser) -> None:
    from maskact_ros.tools.bringup import DESCRIPTIONS, BringupArguments

    defaults = BringupArguments()
    for name, description in DESCRIPTIONS.items():
        flag, default = f"--{name.replace('_', '-')}", getattr(defaults, name)
        if isinstance(default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=description)
        else:
            shown = f"{description}; default: {default}" if default else description
            parser.add_argument(flag, default=default, metavar=name.upper().rsplit("_", 1)[-1], help=shown)


def _bringup(a: argparse.Namespace) -> int:
    from maskact_ros.tools.bringup import DESCRIPTIONS, BringupArguments
    from maskact_ros.tools.supervisor import run_bringup

    return run_bringup(BringupArguments(**{name: getattr(a, name) for name in DESCRIPTIONS}))


def _enable(a: argparse.Namespace) -> None:
    from maskact_ros.tools.enable_client import switch

    print(switch(a.namespace, on=a.command == "enable"))


def _reset(a: argparse.Namespace) -> None:
    from maskact_ros.tools.enable_client import reset

    print(reset(a.namespace))


def _monitor(a: argparse.Namespace) -> int:
    from maskact_ros.tools.monitor import MonitorArguments, run_monitor

    return run_monitor(MonitorArguments(namespace=a.namespace, once=a.once, json=a.json, seconds=a.seconds))


def _record(a: argparse.Namespace) -> None:
    from maskact_ros.core.outputs import output_path
    from maskact_ros.data.bags.contract import Contract
    from maskact_ros.data.bags.recorded_message import BagError
    from maskact_ros.tools.recorder import RecordRequest, record

    contract = Contract.from_yaml(a.contract)
    summary = record(RecordRequest.of(contract, output_path(a.out), storage=a.storage, seconds=a.seconds))
    print(summary.text)
    if summary.silent:
        raise BagError(
            f"nothing came on {', '.join(summary.silent)}; the bag is kept, but it lacks what the contract needs"
        )


def _demo(a: argparse.Namespace) -> None:
    from maskact_ros.tools.demo import DemoArguments, run_demo

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


def _evaluate(a: argparse.Namespace) -> int:
    from maskact_ros.tools.evaluate import EvaluateArguments, run_evaluate

    names = EvaluateArguments.__dataclass_fields__.keys() - {"workers"}
    evaluation = run_evaluate(EvaluateArguments(workers=workers_of(a), **{name: getattr(a, name) for name in names}))
    print(json.dumps(asdict(evaluation)) if a.json else evaluation.text())
    return 0 if evaluation.episodes == a.episodes else 130  # Ctrl-C
