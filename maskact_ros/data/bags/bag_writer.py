"""Writes a rosbag2 folder, as `ros2 bag record` leaves one, without ROS.

In: topics with their type and the QoS that was offered, then messages in CDR, as they travel. Out: one file of mcap or
sqlite3, and `metadata.yaml` beside it, which is written last.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, get_args

from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer, WriterError
from rosbags.rosbag2.storage_mcap import McapWriter
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Writer
from rosbags.typesys import Stores, get_typestore

from maskact_ros.data.bags.recorded_message import BagError

if TYPE_CHECKING:
    from rosbags.interfaces import Connection
    from rosbags.typesys.store import Typestore

Storage = Literal["mcap", "sqlite3"]
STORAGES: tuple[Storage, ...] = get_args(Storage)
SAVED_EVERY_NS = 1_000_000_000  # by the messages' times, so that equal messages give equal files


@cache
def typestore() -> Typestore:
    """The standard message types."""
    return get_typestore(Stores.ROS2_JAZZY)


def offered(*, reliable: bool = True, latched: bool = False, depth: int = 10) -> Qos:
    """What a publisher offers; all the rest is as ROS has it by default."""
    never = QosTime(9223372036, 854775807)
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=depth,
        reliability=QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=never,
        lifespan=never,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=never,
        avoid_ros_namespace_conventions=False,
    )


class BagWriter:
    """One bag; use it in a `with` block.

    An exception leaves a torn bag, whose messages can all be read nevertheless, or nothing when there was no message
    yet; a kill takes the last second at most.

    Raises:
        BagError: there is something at `folder` already, a type is none of the standard ones, or the disk refuses.
    """

    def __init__(
        self, folder: Path, *, storage: Storage = "mcap", compress: bool = False, notes: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.bytes = 0  # of messages, before compression
        self.counts: dict[str, int] = {}  # messages by topic
        self._connections: dict[str, Connection] = {}
        self._saved_ns: int | None = None  # the time of the message after which all was saved
        try:
            self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin[storage.upper()])
        except WriterError:
            raise self._exists() from None
        if compress:
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        for key, value in (notes or {}).items():
            self._writer.set_custom_data(key, value)

    def add_topic(self, topic: str, kind: str, qos: Sequence[Qos] = ()) -> None:
        """Declare a topic of a type such as sensor_msgs/msg/Image, before its first message."""
        if kind not in typestore().fielddefs:
            raise BagError(f"{topic} is of the type {kind}; allowed: those of ROS's common interfaces")
        try:
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=typestore(), offered_qos_profiles=qos
            )
        except (OSError, sqlite3.Error) as error:
            raise self._refused(error) from None
        self.counts[topic] = 0

    def write(self, topic: str, received_ns: int, message: bytes | memoryview) -> None:
        """Add a message in CDR."""
        try:
            self._writer.write(self._connections[topic], received_ns, message)
            if self._saved_ns is None or abs(received_ns - self._saved_ns) >= SAVED_EVERY_NS:
                self._save()
                self._saved_ns = received_ns
        except (OSError, sqlite3.Error) as error:
            raise self._refused(error) from None
        self.counts[topic] += 1
        self.bytes += len(message)

    def __enter__(self) -> BagWriter:
        try:
            self._writer.open()
        except WriterError:  # since this object was made
            raise self._exists() from None
        except (OSError, sqlite3.Error) as error:
            self._remove_if_empty()
            raise self._refused(error) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            with contextlib.suppress(OSError, sqlite3.Error):  # what ended the block is the thing to tell
                self._save()
        try:
            self._writer.__exit__(kind, error, trace)
        except (OSError, sqlite3.Error) as refusal:
            self._remove_if_empty()
            raise self._refused(refusal) from None
        if kind is not None:
            self._remove_if_empty()

    def _save(self) -> None:
        """Hand all messages so far to the system; rosbags would keep them in one transaction or in memory."""
        storage = self._writer.storage
        if isinstance(storage, Sqlite3Writer):
            storage.conn.commit()
        elif isinstance(storage, McapWriter):
            if storage.chunk.bio.tell():
                storage.close_chunk()
            storage.bio.flush()

    def _remove_if_empty(self) -> None:
        """So that the same command, once corrected, finds nothing at `folder`."""
        if not any(self.counts.values()):
            shutil.rmtree(self.folder, ignore_errors=True)

    def _exists(self) -> BagError:
        return BagError(f"{self.folder} exists already; allowed: a bag that does not exist yet")

    def _refused(self, error: OSError | sqlite3.Error) -> BagError:
        reason = error.strerror if isinstance(error, OSError) else error
        return BagError(f"{self.folder}: cannot be written ({reason})")
