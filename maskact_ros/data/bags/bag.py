"""`Bag`: a recorded bag of ROS 2 → its messages in the order of their receipt, one at a time.

In: a rosbag2 folder, with metadata.yaml or without, or one of its files: .mcap or .db3, compressed (.zstd) or not.
Out: messages; what could not be read is said in `losses`, not raised.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from maskact_ros.core.documents import shortened
from maskact_ros.core.paths import resolve_path
from maskact_ros.data.bags.bag_mcap import McapFile
from maskact_ros.data.bags.bag_sqlite import SqliteFile
from maskact_ros.data.bags.recorded_message import BagError, BagFile, Message, UnreadableError, in_order

_T = TypeVar("_T")
_KINDS: dict[str, type[McapFile] | type[SqliteFile]] = {".mcap": McapFile, ".db3": SqliteFile}


class Bag:
    """A bag's files, read one after the other; raises BagError when there are none, or none of them can be read."""

    def __init__(self, path: str | Path):
        self.path = resolve_path(path)
        if not self.path.exists():
            raise BagError(f"{self.path}: there is no such bag")
        self.files = _files(self.path)
        self._opened: list[BagFile] = [_KINDS[_kind(file)](file) for file in self.files]
        self._sizes = [max(file.stat().st_size, 1) for file in self.files]
        self._topics: dict[str, str] | None = None
        self._unreadable: set[Path] = set()

    @property
    def losses(self) -> list[str]:
        """What could not be read so far, a sentence each."""
        whole = [f"{path.name}: cannot be read, all of it is lost" for path in self.files if path in self._unreadable]
        return whole + [loss for file in self._opened for loss in file.losses]

    @property
    def progress(self) -> float:
        """How much of the bag has been read, from 0 to 1."""
        return sum(file.progress * size for file, size in zip(self._opened, self._sizes, strict=True)) / sum(
            self._sizes
        )

    def topics(self) -> dict[str, str]:
        """Topics and their types, of all files."""
        if self._topics is None:  # without an index, a file has to be read for them
            self._topics = dict(self._of_each(lambda file: file.topics().items()))
        return self._topics

    def indexed_topics(self) -> dict[str, str] | None:
        """The same where that costs no more than a look at an index; None elsewhere."""
        return self.topics() if all(file.is_indexed for file in self._opened) else None

    def messages(self, topics: Sequence[str]) -> Iterator[Message]:
        """The messages of these topics, once."""
        return in_order(self._of_each(lambda file: file.messages(topics)))

    def first_of(self, topics: Sequence[str], found: Mapping[str, str] | None = None) -> str:
        """The first of these topics among those `found`, the bag's by default; raises BagError that lists them."""
        found = self.topics() if found is None else found
        for topic in topics:
            if topic in found:
                return topic
        if not found:
            raise BagError(f"{self.path}: holds no topics at all")
        wanted = " or ".join(topics)
        nearest = difflib.get_close_matches(topics[0], found, n=1, cutoff=0.3)
        hint = f" (nearest: {nearest[0]})" if nearest else ""
        raise BagError(f"{self.path}: has no {wanted}{hint}; it has {shortened(', '.join(sorted(found)))}")

    def _of_each(self, read: Callable[[BagFile], Iterable[_T]]) -> Iterator[_T]:
        """What is read in all files; one that is unreadable, as after a power cut, is a loss unless all of them are."""
        for path, file in zip(self.files, self._opened, strict=True):
            try:
                yield from read(file)
            except UnreadableError:
                file.progress = 1.0
                self._unreadable.add(path)
                if len(self._unreadable) == len(self.files):
                    raise


def bags_in(path: str | Path) -> list[Path]:
    """The bag at a path or, where that is a folder of bags, each of them; raises BagError when there is none."""
    path = resolve_path(path)
    if not path.exists():
        raise BagError(f"{path}: there is no such bag")
    if path.is_file() or any(_kind(file) for file in path.iterdir()):
        return [path]
    inside = [folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
    found = sorted(folder for folder in inside if any(_kind(file) for file in folder.iterdir()))
    if not found:
        raise BagError(f"{path}: holds no bag; allowed: a rosbag2 folder, a folder of such, an .mcap or a .db3 file")
    return found


def _files(path: Path) -> list[Path]:
    if path.is_file():
        if path.suffix == ".bag":
            raise BagError(
                f"{path}: a bag of ROS 1; rosbags-convert --src {path.name} --dst {path.stem} makes one of ROS 2 of it"
            )
        if not _kind(path):
            raise BagError(
                f"{path}: not a bag; allowed: a rosbag2 folder, or a file .mcap, .db3, .mcap.zstd, .db3.zstd"
            )
        return [path]
    found = [file for file in path.iterdir() if file.is_file() and _kind(file)]
    # A file that was compressed beside its original is the same one.
    found = [file for file in found if not (file.suffix == ".zstd" and file.with_suffix("") in found)]
    if not found:
        raise BagError(f"{path}: holds no .mcap and no .db3 file")
    return sorted(
        found, key=lambda file: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file.name)]
    )


def _kind(file: Path) -> str:
    suffixes = file.suffixes[-2:] if file.suffix == ".zstd" else file.suffixes[-1:]
    return suffixes[0] if suffixes and suffixes[0] in _KINDS else ""
