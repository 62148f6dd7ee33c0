"""`Finding`: one thing that is wrong with a dataset, and where in its folder; `Remark`: what is to be known."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.errors import MaskACTError, printable
from maskact_ros.data.datasets.lerobot_reader import DataFile, LeRobotFolder

_SHOWN = 3  # findings of one kind; the rest is counted


@dataclass(frozen=True)
class Finding:
    """Where (file, episode, row) and what."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{printable(self.where)}: {printable(self.what)}"


@dataclass(frozen=True)
class Remark:
    """What is to be known about a dataset, though nothing is wrong with its files."""

    what: str

    def __str__(self) -> str:
        return printable(f"note: {self.what}")


def inside(folder: Path, text: str) -> str:
    """A text whose paths are relative to the dataset's folder."""
    return text.removeprefix(f"{folder}: ").replace(f"{folder}/", "")


def of_error(error: MaskACTError, folder: Path) -> Finding:
    """The finding that an error tells; its text begins with where."""
    where, separator, what = inside(folder, str(error)).partition(": ")
    return Finding(where, what) if separator else Finding(str(folder), where)


def of_rows(
    source: LeRobotFolder, file: DataFile, wrong: NDArray[np.intp], what: Callable[[int], str]
) -> Iterator[Finding]:
    """Findings of the rows `wrong`, counted within the file: the first few, and how many more there are."""
    name = str(file.path.relative_to(source.folder))

    def found(i: int) -> Finding:
        row = file.start + i
        episode = next((e for e in source.episodes if e.start <= row < e.start + e.length), None)
        place = f", episode {episode.index}, frame {row - episode.start}" if episode else ""
        return Finding(f"{name}, row {row}{place}", what(i))

    yield from few((found(i) for i in wrong.tolist()), len(wrong), name, "rows")


def few(findings: Iterator[Finding], count: int, where: str, of_what: str) -> Iterator[Finding]:
    """The first of `count` findings of one kind, and how many more there are."""
    yield from itertools.islice(findings, _SHOWN)
    if count > _SHOWN:
        yield Finding(where, f"{count - _SHOWN} more {of_what} of that kind")
