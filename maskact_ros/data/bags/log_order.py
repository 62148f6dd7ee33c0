"""Messages of a bag's files in the order of their receipt, each once, whatever the order in which they were written.

In: `Piece`s, each of which begins at a known time and is read when that is reached. Out: one stream. Memory holds the
pieces that overlap in time; where that would be too much, it is said.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from maskact_ros.data.bags.recorded_message import OUT_OF_ORDER_NS, BagError, Message

_MOST_OPEN_BYTES = 2**29  # of unpacked pieces that overlap in time
_MOST_OPEN = 200  # such pieces
_MOST_RUNS = 20_000  # of one file
_FEWEST_CHANGES = 20  # from one file to the other, before these are two recordings
_AT_ONCE = 50

END_OF_TIME_NS = 2**64  # the last of a piece of which it is not known
SORTED = "is not written in the order of receipt; it was read in that order"


@dataclass(frozen=True)
class Piece:
    """A part of a file that is read as a whole, or from front to back."""

    first_ns: int  # no message of it is earlier
    last_ns: int  # none is later
    bytes: int  # that memory holds while it is read
    read: Callable[[], Iterator[Message]]


class BagFile(Protocol):
    """One file of a bag."""

    path: Path
    progress: float  # of the file, from 0 to 1

    @property
    def losses(self) -> list[str]:
        """What could not be read, a sentence each."""

    @property
    def notes(self) -> list[str]:
        """What is odd, but costs nothing, a sentence each."""

    @property
    def is_indexed(self) -> bool:
        """Whether topics are known without reading all."""

    def topics(self) -> dict[str, str]:
        """Its topics and their types."""

    def pieces(self, topics: Collection[str]) -> Sequence[Piece]:
        """The file in pieces, each with the messages of some topics, nearly in the order of their receipt."""


@dataclass
class Run:
    """Messages that follow each other in a file in the order of their receipt."""

    first_ns: int
    last_ns: int
    start: int  # positions in the file
    end: int


class OrderSurvey:
    """In which order a file was written; takes its messages from front to back, without their content."""

    def __init__(self, name: str) -> None:
        self.runs: list[Run] = []
        self._name = name
        self._of_topic: defaultdict[str, list[Run]] = defaultdict(list)

    def add(self, topic: str, received_ns: int, position: int) -> None:
        """Take a message; those that were received at time 0 tell nothing."""
        if received_ns > 0:
            _append(self.runs, received_ns, position)
            _append(self._of_topic[topic], received_ns, position)
            if len(self.runs) > _MOST_RUNS:
                raise BagError(f"{self._name}: its messages are in no order at all; mcap sort puts them into one")

    @property
    def last_ns(self) -> int:
        """The latest receipt."""
        return max((run.last_ns for run in self.runs), default=0)

    @property
    def is_set_back(self) -> bool:
        """Whether one and the same topic has messages of the same time twice, as when a clock was set back."""
        for runs in self._of_topic.values():
            ordered = sorted(runs, key=lambda run: run.first_ns)
            for before, after in pairwise(ordered):
                if after.first_ns < before.last_ns - OUT_OF_ORDER_NS:
                    return True
        return False


def _append(runs: list[Run], received_ns: int, position: int) -> None:
    if not runs or received_ns < runs[-1].last_ns - OUT_OF_ORDER_NS:
        runs.append(Run(received_ns, received_ns, position, position))
    run = runs[-1]
    run.first_ns, run.last_ns = min(run.first_ns, received_ns), max(run.last_ns, received_ns)
    run.end = position


def sorted_unless_set_back(messages: list[Message]) -> list[Message]:
    """Messages of a chunk in the order of their receipt, or as they are where a topic has the same time twice."""
    if all(before.received_ns <= after.received_ns for before, after in pairwise(messages)):
        return messages
    survey = OrderSurvey("")
    for position, message in enumerate(messages):
        survey.add(message.topic, message.received_ns, position)
    return messages if survey.is_set_back else sorted(messages, key=lambda message: message.received_ns)


def in_log_order(files: Sequence[tuple[str, Sequence[Piece]]], twice: Twice) -> Iterator[Message]:
    """The messages of files, each with its name and its pieces; raises BagError when too much would be in memory."""
    ends_ns = [max((piece.last_ns for piece in pieces), default=0) for _, pieces in files]
    waiting = deque(
        sorted(
            ((piece.first_ns, order, source, piece) for order, source, piece in _numbered(files)),
            key=lambda entry: entry[:2],
        )
    )
    reading: list[tuple[int, int, Message, Iterator[Message], int, Piece]] = []
    open_bytes = 0
    while waiting or reading:
        while waiting and (not reading or waiting[0][0] <= reading[0][0]):
            _, order, source, piece = waiting.popleft()
            messages = piece.read()
            if (first := next(messages, None)) is None:
                continue
            heapq.heappush(reading, (first.received_ns, order, first, messages, source, piece))
            open_bytes += piece.bytes
            if len(reading) > 1 and (open_bytes > _MOST_OPEN_BYTES or len(reading) > _MOST_OPEN):
                raise BagError(
                    f"{files[source][0]}: its messages are so far out of order that sorting them takes more than "
                    f"{_MOST_OPEN_BYTES / 1e6:.0f} MB of memory; mcap sort puts them into order"
                )
        if not reading:
            break
        _, order, message, messages, source, piece = reading[0]
        if twice.is_new(message, source, ends_ns):
            yield message
        if (following := next(messages, None)) is not None:
            heapq.heapreplace(reading, (following.received_ns, order, following, messages, source, piece))
        else:
            heapq.heappop(reading)
            open_bytes -= piece.bytes
    twice.check(_FEWEST_CHANGES)


def _numbered(files: Sequence[tuple[str, Sequence[Piece]]]) -> Iterator[tuple[int, int, Piece]]:
    order = 0
    for source, (_, pieces) in enumerate(files):
        for piece in pieces:
            yield order, source, piece
            order += 1


class Twice:
    """Messages that stand in two files, such as in a copy, or as two recorders heard them, are used once."""

    def __init__(self, names: Sequence[str]) -> None:
        self.counts: Counter[str] = Counter()  # by topic
        self._names = names
        self._recent: defaultdict[str, dict[int, deque[Message]]] = defaultdict(dict)  # by topic and file
        self._last: dict[str, int] = {}  # the file of each topic's last message
        self._changes: Counter[tuple[str, int, int]] = Counter()  # between two files, while both have messages
        self._shared: Counter[tuple[str, int, int]] = Counter()

    def is_new(self, message: Message, source: int, ends_ns: Sequence[int]) -> bool:
        """Whether no other file has given this message within half a second; these end at `ends_ns`.

        What comes after a file's end is not in it, though an equal command may have been: a recording that was split
        has every message once.
        """
        if len(self._names) == 1:
            return True
        topic, now_ns, data = message.topic, message.received_ns, message.data
        files = self._recent[topic]
        for other, recent in files.items():
            while recent and recent[0].received_ns < now_ns - OUT_OF_ORDER_NS:
                recent.popleft()
            if other == source:
                continue
            for place, known in enumerate(recent):
                is_covered = now_ns <= ends_ns[other] or now_ns == known.received_ns
                if is_covered and len(known.data) == len(data) and known.data == data:
                    del recent[place]  # so that equal commands, one after the other, are each matched once
                    self.counts[topic] += 1
                    self._shared[_pair(topic, source, other)] += 1
                    return False
        files.setdefault(source, deque()).append(message)
        last = self._last.get(topic, source)
        self._last[topic] = source
        if last != source and now_ns <= ends_ns[last]:
            pair = _pair(topic, source, last)
            self._changes[pair] += 1
            if self._changes[pair] >= _AT_ONCE:
                self.check(_AT_ONCE)
        return True

    def check(self, fewest: int) -> None:
        """Raise BagError where two files alternate in a topic, and what they have is not the same."""
        for pair, changes in self._changes.items():
            if changes >= fewest and 4 * self._shared[pair] < changes:
                topic, one, other = pair
                raise BagError(
                    f"{self._names[one]}, {self._names[other]}: have different messages of {topic} of the same time, "
                    "so they are not of one recording; allowed: give them as bags of their own"
                )


def _pair(topic: str, one: int, other: int) -> tuple[str, int, int]:
    return topic, min(one, other), max(one, other)
