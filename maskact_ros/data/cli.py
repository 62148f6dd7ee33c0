"""The subcommands of `maskact` that make datasets, and look into them."""

from __future__ import annotations

import argparse
from pathlib import Path

from maskact_ros.core.parallel import add_workers, workers_of


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare them; what they need is loaded when they run."""
    convert = commands.add_parser(
        "convert",
        help="make a dataset from rosbags",
        description="Make a LeRobotDataset v3.0 from rosbags. A gap ends an episode, and nothing is made up. What was "
        "interrupted goes on where it was when the same command is given again. The exit code is 3 when the dataset is "
        "there, but some of the bags gave nothing.",
    )
    convert.set_defaults(run=_convert)
    convert.add_argument(
        "bags", nargs="+", type=Path, metavar="BAG", help="rosbag2 folder, its file, or a folder of bags"
    )
    convert.add_argument(
        "--contract", type=Path, required=True, metavar="FILE", help="what becomes which feature: config/contract.yaml"
    )
    convert.add_argument("--out", type=Path, required=True, metavar="DATASET", help="folder to write")
    convert.add_argument(
        "--images",
        choices=("video", "png"),
        default="video",
        help="pictures as H.264, small and quick, or as PNG, without loss; masks are always PNG; default: video",
    )
    add_workers(convert, "bags")
    convert.add_argument(
        "--accept-latency",
        action="store_true",
        help="convert bags also where the stamps of two streams differ by more than the tolerance, or drift apart",
    )
    convert.add_argument("--overwrite", action="store_true", help="replace DATASET if it exists")

    validate = commands.add_parser(
        "validate",
        help="check a dataset",
        description="Check every number and every picture of a dataset, and say what is wrong where. "
        "The exit code is 1 when anything is.",
    )
    validate.set_defaults(run=_validate)
    validate.add_argument("dataset", type=Path, metavar="DATASET", help="folder of a LeRobotDataset v3.0")

    inspect = commands.add_parser(
        "inspect",
        help="a page to look at a dataset",
        description="Write one HTML file, which needs no network: what is in a dataset, how it was made and, of some "
        "episodes, overlays, traces of state and action, gaps, and ages of the streams.",
    )
    inspect.set_defaults(run=_inspect)
    inspect.add_argument("dataset", type=Path, metavar="DATASET", help="folder of a dataset of ours")
    inspect.add_argument("--html", type=Path, required=True, metavar="FILE", help="page to write")
    inspect.add_argument("--episodes", type=int, default=6, metavar="N", help="how many, evenly spread; default: 6")

    imported = commands.add_parser(
        "import",
        help="take over a dataset of somebody else",
        description="Make a dataset of ours from any LeRobotDataset v3.0, or from an HDF5 file of the reference.",
    )
    imported.set_defaults(run=_import)
    imported.add_argument("source", type=Path, metavar="SOURCE", help="a LeRobotDataset's folder, or an HDF5 file")
    imported.add_argument("--out", type=Path, required=True, metavar="DATASET", help="folder to write")
    imported.add_argument("--robot", type=Path, required=True, metavar="FILE", help="robot.yaml of its robot")
    imported.add_argument("--camera", metavar="KEY", help="the feature of the pictures; default: the only one")
    imported.add_argument("--masks", metavar="KEY", help="the feature of their masks; default: observation.masks.…")
    imported.add_argument("--mask-classes", metavar="NAME,…", help="names of the class ids 0, 1, …")
    imported.add_argument(
        "--joints",
        metavar="NAME,…",
        help="what SOURCE calls the joints of robot.yaml, in robot.yaml's order; in-order: it has them in that order",
    )
    imported.add_argument(
        "--action-at",
        choices=("t", "t+dt"),
        help="when a row's action was commanded; default: t, as LeRobot records, and it is shifted by a row; "
        "t+dt for a dataset of ours, which meta/maskact or stamp_ns tells",
    )
    imported.add_argument("--state", choices=("joints", "tcps"), help="what of an HDF5 file is the state")
    imported.add_argument("--task", metavar="TEXT", help="what is done; default: as SOURCE says")
    imported.add_argument("--images", choices=("video", "png"), default="video", help="default: video; png: lossless")
    imported.add_argument("--overwrite", action="store_true", help="replace DATASET if it exists")


def _convert(a: argparse.Namespace) -> int:
    from maskact_ros.data.bags.convert import run

    return run(
        a.bags,
        a.contract,
        a.out,
        pictures=a.images,
        workers=workers_of(a),
        overwrite=a.overwrite,
        accept_latency=a.accept_latency,
    )


def _validate(a: argparse.Namespace) -> int:
    from maskact_ros.data.inspection.validate import run

    return run(a.dataset)


def _inspect(a: argparse.Namespace) -> None:
    from maskact_ros.data.inspection.inspection import inspect

    inspect(a.dataset, a.html, episodes=a.episodes)


def _import(a: argparse.Namespace) -> None:
    from maskact_ros.core.robot import RobotSpec
    from maskact_ros.data.importers.importing import import_dataset
    from maskact_ros.data.importers.source import ImportOptions

    options = ImportOptions(
        camera=a.camera,
        masks=a.masks,
        mask_classes=_names(a.mask_classes),
        joints=_names(a.joints),
        action_at=a.action_at,
        state=a.state,
        task=a.task,
    )
    robot = RobotSpec.from_yaml(a.robot)
    import_dataset(a.source, a.out, robot, options, pictures=a.images, overwrite=a.overwrite)


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(","))
