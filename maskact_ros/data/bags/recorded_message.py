"""A recorded message as it lies in a bag, and what is common to the kinds of bag files."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import pyarrow as pa

from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.foreign_file import DEFLATE_TIMES, likely_bytes

ZSTD = b"\x28\xb5\x2f\xfd"
OUT_OF_ORDER_NS = 500_000_000  # recorders write nearly in order; so much is put right
PIECE_BYTES = 2**16  # of a torn stream, the piece with the tear is lost
_LARGE_PIECE_BYTES = 2**22


class BagError(MaskACTError):
    """A bag that cannot be used: the text names it, what it has and what was expected."""


class UnreadableError(BagError):
    """A file in which nothing can be read; others of the same bag may be whole."""


class Message(NamedTuple):
    """One message: still serialised."""

    received_ns: int
    topic: str
    kind: str  # such as sensor_msgs/msg/Image
    data: memoryview


def in_order(messages: Iterator[Message]) -> Iterator[Message]:
    """The same messages, in the order of their receipt."""
    waiting: list[tuple[int, int, Message]] = []
    newest_ns = 0
    for count, message in enumerate(messages):
        if message.received_ns < newest_ns - OUT_OF_ORDER_NS:  # the clock went back: what was before it comes first
            while waiting:
                yield heapq.heappop(waiting)[2]
            newest_ns = 0
        newest_ns = max(newest_ns, message.received_ns)
        heapq.heappush(waiting, (message.received_ns, count, message))
        while waiting and waiting[0][0] <= newest_ns - OUT_OF_ORDER_NS:
            yield heapq.heappop(waiting)[2]
    while waiting:
        yield heapq.heappop(waiting)[2]


def most_unpacked(packed: int) -> int:
    """How many bytes so many compressed ones may make: pictures of one colour become very small."""
    return likely_bytes(packed, DEFLATE_TIMES)


def decompressed(content: bytes | memoryview, codec: str, most: int) -> tuple[bytes, bool]:
    """What can be had of compressed content, up to `most` bytes, and whether that is all of it."""
    pieces: list[bytes] = []
    for piece_bytes in (_LARGE_PIECE_BYTES, PIECE_BYTES):
        pieces, held = [], 0
        with suppress(OSError), pa.CompressedInputStream(pa.BufferReader(pa.py_buffer(content)), codec) as stream:
            while held <= most and (piece := stream.read(piece_bytes)):
                pieces.append(piece)
                held += len(piece)
            return b"".join(pieces)[:most], held <= most
    return b"".join(pieces)[:most], False


def plain(data: memoryview) -> memoryview:
    """A message's own bytes, where the recorder compressed each message by itself."""
    return memoryview(decompressed(data, "zstd", most_unpacked(len(data)))[0]) if data[:4] == ZSTD else data
