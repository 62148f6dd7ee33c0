"""The index of an MCAP file: where its chunks are and which times they hold, without reading them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO

HEAD = struct.Struct("<BQ")  # of a record: its kind, and the length of its content
_CHUNK_INDEX, _FOOTER, _MESSAGE = 0x08, 0x02, 0x05
_TIMES = struct.Struct("<QQQQI")
_LARGEST = 2**32
_FIRST = 8  # where the first record is, behind the magic


@dataclass(frozen=True)
class Chunk:
    """One chunk record."""

    first_ns: int
    last_ns: int
    start: int  # its position in the file
    unpacked: int  # bytes


def chunks_of_index(raw: BinaryIO, summary_start: int) -> list[Chunk] | None:
    """The chunks in the order of the file; None where there is no index, or it does not cover the file without gap."""
    if not summary_start:
        return None
    raw.seek(summary_start)
    found: list[tuple[Chunk, int]] = []  # each with where it ends, its message indices included
    while len(head := raw.read(HEAD.size)) == HEAD.size:
        kind, length = HEAD.unpack(head)
        if kind == _FOOTER or length > _LARGEST:
            break
        content = raw.read(length)
        if kind != _CHUNK_INDEX:
            continue
        try:
            first_ns, last_ns, start, size, offsets = _TIMES.unpack_from(content)
            at = _TIMES.size + offsets
            index_bytes, named = struct.unpack_from("<QI", content, at)
            _, unpacked = struct.unpack_from("<QQ", content, at + 12 + named)
        except struct.error:
            return None
        found.append((Chunk(first_ns, last_ns, start, unpacked), start + size + index_bytes))
    found.sort(key=lambda entry: entry[0].start)
    if not found or found[0][0].start < _FIRST or found[-1][1] > summary_start:
        return None
    for (_, end), (following, _) in pairwise(found):
        if following.start != end:
            return None
    return [chunk for chunk, _ in found] if _begins_with(raw, found[0][0].start) else None


def _begins_with(raw: BinaryIO, first_chunk: int) -> bool:
    """Whether there is no message before the first chunk."""
    at = _FIRST
    while at < first_chunk:
        raw.seek(at)
        head = raw.read(HEAD.size)
        if len(head) < HEAD.size:
            return False
        kind, length = HEAD.unpack(head)
        if kind == _MESSAGE:
            return False
        at += HEAD.size + length
    return at == first_chunk
