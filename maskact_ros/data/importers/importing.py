"""`maskact import`: somebody else's dataset → one of ours, with this package's robot and its rule for actions.

In: a LeRobotDataset v3.0 or an HDF5 file of the reference, and robot.yaml. Out: a dataset, complete or absent. What the
source does not say is asked for by option, and how it was read is written into the dataset's contract.yaml.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from maskact_ros.core.outputs import check_folder, output_path
from maskact_ros.core.paths import resolve_path
from maskact_ros.core.progress import Progress
from maskact_ros.core.robot import RobotSpec
from maskact_ros.data.datasets.dataset import DATASET
from maskact_ros.data.datasets.lerobot_layout import DatasetError, Layout, Pictures
from maskact_ros.data.datasets.lerobot_writer import DatasetWriter
from maskact_ros.data.importers import import_hdf5, import_lerobot
from maskact_ros.data.importers.source import ImportOptions


def import_dataset(
    source: Path,
    out: Path,
    robot: RobotSpec,
    options: ImportOptions,
    *,
    pictures: Pictures = "video",
    overwrite: bool = False,
) -> None:
    """Write the dataset and say what became of it; raises MaskACTError and leaves nothing behind."""
    source, out = resolve_path(source), output_path(out)
    check_folder(out, DATASET, overwrite=overwrite, sources=(source,))
    found = (import_hdf5.read if source.is_file() else import_lerobot.read)(source, robot, options)
    layout = Layout(robot=robot, pictures=pictures, mask_classes=found.mask_classes, task=found.task)
    kept = [i for i, (_, rows) in enumerate(found.episodes) if rows > 0]
    if not kept:
        raise DatasetError(f"{source}: no episode has rows enough; allowed: at least 2, as an action is of one later")

    rows = 0
    with (
        DatasetWriter(out, layout, overwrite=overwrite, sources=(source,)) as writer,
        Progress("importing", sum(found.episodes[i][1] for i in kept)) as progress,
    ):
        manifest = {"imported_from": str(source), **found.notes}
        writer.documents["contract.yaml"] = yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True)
        for episode in kept:
            for row in found.rows(episode):
                writer.add(row)
                rows += 1
                progress.advance(1)
            writer.end_episode(f"{source.name}, {found.episodes[episode][0]}")
    for name, value in found.notes.items():
        print(f"{name}: {value}")
    if len(kept) < len(found.episodes):
        print(f"{len(found.episodes) - len(kept)} episodes of a single row are left out")
    print(f"{out}: {len(kept)} episodes, {rows} rows, imported from {source}")
