"""`Bag`: a recorded bag of ROS 2 → its messages in the order of their receipt, one at a time.

In: a rosbag2 folder, with metadata.yaml or without, or one of its files: .mcap or .db3, compressed (.zstd) or not; or
several such of one recording, as `A+B`. Out: messages, each once; what could not be read is said in `losses`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from maskact_ros.core.documents import shortened
from maskact_ros.data.bags.bag_files import bags_in, files_of, kind_of, parts_of, topics_of_metadata
from maskact_ros.data.bags.bag_mcap import McapFile
from maskact_ros.data.bags.bag_sqlite import SqliteFile
from maskact_ros.data.bags.log_order import BagFile, Piece, Twice, in_log_order
from maskact_ros.data.bags.recorded_message import BagError, Message, UnreadableError, in_order

__all__ = ["Bag", "bags_in"]

_T = TypeVar("_T")
_KINDS: dict[str, type[McapFile] | type[SqliteFile]] = {".mcap": McapFile, ".db3": SqliteFile}


class Bag:
    """A bag's files, read together; raises BagError when there are none, or none of them can be read."""

    def __init__(self, path: str | Path):
        parts = parts_of(Path(path))
        self.path = parts[0] if len(parts) == 1 else Path(path)
        found = files_of(self.path)
        self.files = found.files
        self._opened: list[BagFile] = [_KINDS[kind_of(file)](file) for file in self.files]
        self._sizes = [max(file.stat().st_size, 1) for file in self.files]
        self._topics: dict[str, str] | None = None
        self._unreadable: set[Path] = set()
        self._twice = Twice([file.name for file in self.files])
        self._said = list(found.notes)

    @property
    def losses(self) -> list[str]:
        """What could not be read so far, a sentence each."""
        whole = [f"{path.name}: cannot be read, all of it is lost" for path in self.files if path in self._unreadable]
        return whole + [loss for file in self._opened for loss in file.losses]

    @property
    def notes(self) -> list[str]:
        """What is odd about the files, but costs nothing, a sentence each."""
        twice = [f"{times} messages of {topic} stand in two files" for topic, times in self._twice.counts.items()]
        return self._said + [note for file in self._opened for note in file.notes] + twice

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
        """The same where that costs no more than a look at an index, or at metadata.yaml; None elsewhere."""
        if all(file.is_indexed for file in self._opened):
            return self.topics()
        return topics_of_metadata(self.path)

    def messages(self, topics: Sequence[str]) -> Iterator[Message]:
        """The messages of these topics, each once."""
        pieces: dict[Path, list[Piece]] = {path: [] for path in self.files}
        for path, piece in self._of_each(lambda file: ((file.path, part) for part in file.pieces(topics))):
            pieces[path].append(piece)
        yield from in_order(in_log_order([(path.name, found) for path, found in pieces.items()], self._twice))
        for file in self._opened:
            file.progress = 1.0

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
        said = "".join(f"; {note}" for note in self._said[:3])
        raise BagError(f"{self.path}: has no {wanted}{hint}; it has {shortened(', '.join(sorted(found)))}{said}")

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
