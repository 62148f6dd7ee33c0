"""MCAP files, whole or torn, with an index or without: their chunks, or runs of messages, as pieces.

The format: magic, then records of one byte of kind, eight of length, and content; a chunk holds records of its own,
often compressed. A file that was cut off ends in the middle of one: what is before the cut is read all the same.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from maskact_ros.data.bags.log_order import END_OF_TIME_NS, SORTED, OrderSurvey, Piece, Run, sorted_unless_set_back
from maskact_ros.data.bags.mcap_index import HEAD as _HEAD
from maskact_ros.data.bags.mcap_index import Chunk, chunks_of_index
from maskact_ros.data.bags.recorded_message import (
    OUT_OF_ORDER_NS,
    PIECE_BYTES,
    BagError,
    Message,
    UnreadableError,
    decompressed,
    most_unpacked,
    plain,
)

_MAGIC = b"\x89MCAP0\r\n"
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 0x02, 0x03, 0x04, 0x05, 0x06, 0x0F
_FOOTER_BYTES = 9 + 20 + len(_MAGIC)
_MESSAGE_HEAD = struct.Struct("<HIQQ")
_CHUNK_HEAD = struct.Struct("<QQQI")
_LARGEST = 2**28  # bytes of a record; beyond, its length was not written by a recorder


class McapFile:
    """One .mcap file, or .mcap.zstd; raises UnreadableError when it is none."""

    def __init__(self, path: Path):
        self.path = path
        self.progress = 0.0
        self.notes: list[str] = []
        self._lost: Counter[str] = Counter()  # damage can be in every record: equal sentences are counted
        self._path = path
        self._size = max(path.stat().st_size, 1)
        self._schemas: dict[int, str] = {}
        self._channels: dict[int, tuple[str, str]] = {}  # topic and type

    @property
    def losses(self) -> list[str]:
        """What could not be read, a sentence each."""
        return [f"{loss} ({times} times)" if times > 1 else loss for loss, times in self._lost.items()]

    @property
    def is_indexed(self) -> bool:
        """Whether topics are known without reading all."""
        with self._path.open("rb") as raw:
            return self._summary_start(raw) > 0

    def topics(self) -> dict[str, str]:
        """From the summary at the end or, where that is missing, from all of the file."""
        with self._path.open("rb") as raw:
            start = self._summary_start(raw)
            if start:
                raw.seek(start)
                for kind, content in self._records(raw):
                    self._take(kind, content)
        if not self._channels:
            lost, self._lost = self._lost, Counter()
            for _ in self._front_to_back(()):
                pass
            self._lost = lost
        return dict(self._channels.values())

    def pieces(self, topics: Collection[str]) -> Sequence[Piece]:
        """Its chunks by its index or, without one, by a look at the heads of its records."""
        with self._path.open("rb") as raw:
            if self._path.suffix == ".zstd":  # which cannot be read but from front to back
                if io.BufferedReader(_Unpacked(raw)).read(len(_MAGIC)) != _MAGIC:
                    raise UnreadableError(f"{self._path}: not an MCAP file")
                return [Piece(0, END_OF_TIME_NS, 0, partial(self._front_to_back, topics))]
            if raw.read(len(_MAGIC)) != _MAGIC:
                raise UnreadableError(f"{self._path}: not an MCAP file")
            chunks = chunks_of_index(raw, self._summary_start(raw))
            if chunks is None:
                chunks, survey, lost = self._walk(raw, topics)
                if survey.runs:
                    return self._runs(survey, topics, chunks, lost)
                self._lost.update(lost)
        newest_ns, is_odd = 0, False
        for chunk in chunks:
            is_odd |= chunk.first_ns < newest_ns - OUT_OF_ORDER_NS
            newest_ns = max(newest_ns, chunk.last_ns)
        if is_odd:
            survey, lost = OrderSurvey(self._path.name), self._lost.copy()
            for position, message in enumerate(self._front_to_back(topics)):
                survey.add(message.topic, message.received_ns, position)
            self._lost, self.progress = lost, 0.0
            if survey.is_set_back:
                return [Piece(0, END_OF_TIME_NS, 0, partial(self._front_to_back, topics))]
            self.notes.append(f"{self._path.name}: {SORTED}")
        return [
            Piece(chunk.first_ns, chunk.last_ns, chunk.unpacked, partial(self._chunk_at, chunk, topics))
            for chunk in chunks
        ]

    def _runs(
        self, survey: OrderSurvey, topics: Collection[str], chunks: Sequence[Chunk], lost: Counter[str]
    ) -> Sequence[Piece]:
        """Pieces of a file whose messages are not in chunks, or not all of them."""
        if chunks or survey.is_set_back or len(survey.runs) == 1:
            return [Piece(survey.runs[0].first_ns, survey.last_ns, 0, partial(self._front_to_back, topics))]
        self._lost.update(lost)
        self.notes.append(f"{self._path.name}: {SORTED}")
        return [Piece(run.first_ns, run.last_ns, 0, partial(self._run, run, topics)) for run in survey.runs]

    def _run(self, run: Run, topics: Collection[str]) -> Iterator[Message]:
        with self._path.open("rb") as raw:
            raw.seek(run.start)
            for kind, content in self._records(raw):
                self.progress = max(self.progress, min(raw.tell() / self._size, 1.0))
                if (message := self._take(kind, content)) and message.topic in topics:
                    yield message
                if raw.tell() > run.end:
                    break

    def _walk(self, raw: BinaryIO, topics: Collection[str]) -> tuple[list[Chunk], OrderSurvey, Counter[str]]:
        """Chunks, the order of messages outside of them, and what is lost, by the heads of its records."""
        chunks, survey, lost = list[Chunk](), OrderSurvey(self._path.name), Counter[str]()
        at, ended = len(_MAGIC), False
        while at < self._size:
            raw.seek(at)
            head = raw.read(_HEAD.size)
            if len(head) < _HEAD.size:
                break
            kind, length = _HEAD.unpack(head)
            if kind in (_DATA_END, _FOOTER):
                ended = True
                break
            if length > _LARGEST or not kind > 0:
                break
            if kind == _CHUNK and len(times := raw.read(24)) == 24:
                first_ns, last_ns, unpacked = struct.unpack("<QQQ", times)
                chunks.append(Chunk(first_ns, last_ns, at, unpacked))
            elif kind == _MESSAGE and len(start := raw.read(_MESSAGE_HEAD.size)) == _MESSAGE_HEAD.size:
                channel, _, received_ns, _ = _MESSAGE_HEAD.unpack(start)
                if channel not in self._channels:
                    lost[f"{self._path.name}: a damaged record"] += 1
                elif (topic := self._channels[channel][0]) in topics:
                    survey.add(topic, received_ns, at)
            elif kind in (_SCHEMA, _CHANNEL):
                self._take(kind, memoryview(raw.read(length)))
            at += _HEAD.size + length
        if not ended:
            lost[self._torn(min(at, self._size))] += 1
        return chunks, survey, lost

    def _chunk_at(self, chunk: Chunk, topics: Collection[str]) -> Iterator[Message]:
        """A chunk's messages in the order of their receipt."""
        with self._path.open("rb") as raw:
            raw.seek(chunk.start)
            for kind, content in self._records(raw):
                messages = list(self._chunk(content, topics)) if kind == _CHUNK else []
                break
            else:
                return
            self.progress = max(self.progress, min(raw.tell() / self._size, 1.0))
        yield from sorted_unless_set_back(messages)

    def _front_to_back(self, topics: Collection[str]) -> Iterator[Message]:
        """All that can be read, in the order in which it was written; `losses` says what cannot."""
        with self._path.open("rb") as raw:
            file: BinaryIO = raw
            if self._path.suffix == ".zstd":
                file = io.BufferedReader(_Unpacked(raw))
            if file.read(len(_MAGIC)) != _MAGIC:
                raise UnreadableError(f"{self._path}: not an MCAP file")
            ended = False
            for kind, content in self._records(file):
                self.progress = min(raw.tell() / self._size, 1.0)
                if kind in (_DATA_END, _FOOTER):
                    ended = True
                    break
                if kind == _CHUNK:
                    yield from self._chunk(content, topics)
                elif (message := self._take(kind, content)) and message.topic in topics:
                    yield message
            if not ended:
                self._lost[self._torn(raw.tell())] += 1
        self.progress = 1.0

    def _torn(self, at: int) -> str:
        return f"{self._path.name}: torn; what came after its first {at / 1e6:.1f} MB is lost"

    def _records(self, file: BinaryIO) -> Iterator[tuple[int, memoryview]]:
        """The file's records; of one that was cut off, a chunk's beginning is given, too."""
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            kind, length = _HEAD.unpack(head)
            if length > _LARGEST or not kind > 0:
                return
            content = b""
            with suppress(OSError):
                content = file.read(length)
            if len(content) == length or kind == _CHUNK:
                yield kind, memoryview(content)
            if len(content) < length:
                return

    def _chunk(self, content: memoryview, topics: Collection[str]) -> Iterator[Message]:
        """The messages in a chunk; a damaged one gives what comes before the damage."""
        try:
            _, _, size, crc = _CHUNK_HEAD.unpack_from(content)
            (named,) = struct.unpack_from("<I", content, _CHUNK_HEAD.size)
            at = _CHUNK_HEAD.size + 4
            codec = bytes(content[at : at + named]).decode()
        except (struct.error, UnicodeDecodeError):
            return
        packed = content[at + named + 8 :]
        whole = True
        if codec == "":
            records: memoryview = packed
        elif codec in ("zstd", "lz4"):
            unpacked, whole = decompressed(packed, codec, min(size, most_unpacked(len(packed))))
            records = memoryview(unpacked)
        else:
            raise BagError(f"{self._path}: its chunks are compressed with {codec!r}; allowed: zstd, lz4")
        if not whole or len(records) != size or (crc and zlib.crc32(records) != crc):
            self._lost[f"{self._path.name}: a damaged chunk; {len(records)} of its {size} bytes were used"] += 1
        for kind, record in _within(records):
            if (message := self._take(kind, record)) and message.topic in topics:
                yield message

    def _take(self, kind: int, content: memoryview) -> Message | None:
        """Note schemas and channels; return a message."""
        try:
            if kind == _MESSAGE:
                channel, _, received_ns, _ = _MESSAGE_HEAD.unpack_from(content)
                topic, name = self._channels[channel]
                return Message(received_ns, topic, name, plain(content[_MESSAGE_HEAD.size :]))
            if kind == _SCHEMA:
                (key,) = struct.unpack_from("<H", content)
                self._schemas[key] = _text(content, 2)
            elif kind == _CHANNEL:
                key, schema = struct.unpack_from("<HH", content)
                self._channels[key] = (_text(content, 4), self._schemas.get(schema, ""))
        except (struct.error, KeyError, UnicodeDecodeError):
            self._lost[f"{self._path.name}: a damaged record"] += 1
        return None

    def _summary_start(self, raw: BinaryIO) -> int:
        if self._path.suffix == ".zstd" or self._size < _FOOTER_BYTES:
            return 0
        raw.seek(-_FOOTER_BYTES, io.SEEK_END)
        footer = raw.read()
        if footer[-len(_MAGIC) :] != _MAGIC or footer[0] != _FOOTER:
            return 0
        start = int.from_bytes(footer[9:17], "little")
        return start if start < self._size else 0


class _Unpacked(io.RawIOBase):
    """The content of a file that the recorder compressed as a whole; where it is torn, it ends."""

    def __init__(self, raw: BinaryIO):
        self._stream = pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            piece = self._stream.read(min(len(buffer), PIECE_BYTES))
        except OSError:
            return 0
        buffer[: len(piece)] = piece
        return len(piece)


def _within(records: memoryview) -> Iterator[tuple[int, memoryview]]:
    at = 0
    while at + _HEAD.size <= len(records):
        kind, length = _HEAD.unpack_from(records, at)
        at += _HEAD.size
        if at + length > len(records):
            return
        yield kind, records[at : at + length]
        at += length


def _text(content: memoryview, at: int) -> str:
    (length,) = struct.unpack_from("<I", content, at)
    return bytes(content[at + 4 : at + 4 + length]).decode()
