"""The subcommands of `maskact` that train policies, and measure them."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare them; what they need is loaded when they run."""
    demos = commands.add_parser(
        "record-demos",
        help="let the scripted expert solve the simulated task, one bag for each episode",
        description="The scripted expert solves the simulated task, pushed a little now and then so that its recovery "
        "is seen, too. Each episode becomes a rosbag2 folder (mcap), OUT/episode_SEED. Episodes that were not solved "
        "are not kept. The same command again goes on where it was stopped.",
    )
    demos.set_defaults(run=_record_demos)
    demos.add_argument("--episodes", type=int, required=True, metavar="N", help="how many to try, a seed each")
    demos.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the bags")
    demos.add_argument(
        "--seed", type=int, default=100_000, help="of the first episode; default: 100000, as evaluations begin at 0"
    )
    demos.add_argument(
        "--shift",
        default="none",
        help="change the scene: background, light, object, distractors, camera, joined with +; default: none",
    )
    demos.add_argument(
        "--images",
        choices=("jpeg", "raw"),
        default="jpeg",
        help="jpeg (quality 95, 2 MB a second, on image_raw/compressed) or raw (27 MB a second, on image_raw); "
        "default: jpeg",
    )
    demos.add_argument("--jobs", type=int, default=1, metavar="J", help="episodes at a time; default: 1")
    demos.add_argument("--robot", type=Path, metavar="FILE", help="the simulated arm's description; default: our own")


def _record_demos(a: argparse.Namespace) -> None:
    from maskact_ros.paths import given
    from maskact_ros.training.record_demos import DemoRequest, record_demos

    done = record_demos(
        DemoRequest(
            out=given(a.out),
            episodes=a.episodes,
            seed=a.seed,
            shift=a.shift,
            images=a.images,
            jobs=a.jobs,
            robot_file=a.robot,
        )
    )
    print(done.text)
