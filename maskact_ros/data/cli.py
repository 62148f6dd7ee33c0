"""The subcommands of `maskact` that make datasets, and look into them."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare them; what they need is loaded when they run."""
    validate = commands.add_parser(
        "validate",
        help="check a dataset",
        description="Check every number and every picture of a dataset, and say what is wrong where. "
        "The exit code is 1 when anything is.",
    )
    validate.set_defaults(run=_validate)
    validate.add_argument("dataset", type=Path, metavar="DATASET", help="folder of a LeRobotDataset v3.0")


def _validate(a: argparse.Namespace) -> int:
    from maskact_ros.data.validate import run

    return run(a.dataset)
