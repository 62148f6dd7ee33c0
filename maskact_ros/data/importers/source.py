"""What an importer is told, and what it finds: one small type each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from maskact_ros.data.datasets.lerobot_layout import Row

ActionAt = Literal["t", "t+dt"]


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What a source leaves open; None where the user said nothing."""

    camera: str | None = None  # the feature of the pictures
    masks: str | None = None  # the feature of their masks
    mask_classes: tuple[str, ...] | None = None  # names of the ids 0, 1, …
    joints: tuple[str, ...] | None = None  # the source's names of robot.yaml's joints, in robot.yaml's order
    action_at: ActionAt | None = None  # when a row's action was commanded
    state: str | None = None  # the HDF5 data set of the states
    task: str | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """What an importer found, and how to get at the rows."""

    task: str
    mask_classes: tuple[str, ...] | None
    episodes: tuple[tuple[str, int], ...]  # name and number of rows
    rows: Callable[[int], Iterator[Row]]  # of an episode
    notes: Mapping[str, Any]  # how it was read, for the dataset's contract.yaml
