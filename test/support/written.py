"""A tiny dataset of ours, made by the package's own writer."""

from pathlib import Path

from maskact_ros.core.robot import RobotSpec
from maskact_ros.data.datasets.lerobot_layout import Layout, Pictures, Row
from maskact_ros.data.datasets.lerobot_writer import DatasetWriter
from support import foreign


def write(folder: Path, *, pictures: Pictures = "video") -> Path:
    """The rows, pictures and masks of `foreign`."""
    layout = Layout(robot=RobotSpec.from_dict(foreign.ROBOT), pictures=pictures, mask_classes=foreign.CLASSES)
    columns = foreign.rows()
    with DatasetWriter(folder, layout) as writer:
        writer.documents["contract.yaml"] = "task: the contract's\n"
        row = 0
        for number, length in enumerate(foreign.LENGTHS):
            for _ in range(length):
                writer.add(
                    Row(
                        stamp_ns=int(columns["stamp_ns"][row]),
                        state=columns["observation.state"][row].astype(float),
                        action=columns["action"][row].astype(float),
                        rgb=foreign.picture(row),
                        mask=foreign.mask(row),
                    )
                )
                row += 1
            writer.end_episode(f"demo_{number}")
    return folder
