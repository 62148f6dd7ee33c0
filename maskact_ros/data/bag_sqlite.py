"""SQLite bag files (.db3) from front to back, whole or torn, also with what a kill leaves beside them.

That is a write-ahead log with what is not in the file yet, or a journal that takes back what is in it by half.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa

from maskact_ros.data.messages import PIECE_BYTES, BagError, Message, plain

_ROWS = "SELECT id, topic_id, timestamp, data FROM messages ORDER BY id"
_JOURNAL = "-journal"


class SqliteFile:
    """One .db3 file, or .db3.zstd; raises BagError when it is none."""

    def __init__(self, path: Path):
        self.losses: list[str] = []
        self.progress = 0.0
        self._path = path

    def topics(self) -> dict[str, str]:
        """The table of topics."""
        with tempfile.TemporaryDirectory() as folder, closing(self._open(Path(folder))) as database:
            return dict(self._topics(database).values())

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        """All that can be read; `losses` says what cannot."""
        with tempfile.TemporaryDirectory() as folder, closing(self._open(Path(folder))) as database:
            wanted = {key: entry for key, entry in self._topics(database).items() if entry[0] in topics}
            last = self._last(database)
            at = 0
            if any(log.name.endswith(_JOURNAL) for log in self._beside()):
                self.losses.append(f"{self._path.name}: was not closed properly; the last moments may be missing")
            try:
                for at, key, received_ns, data in self._rows(database, Path(folder)):
                    self.progress = at / last if last else 1.0
                    if key in wanted and isinstance(data, bytes):
                        yield Message(received_ns, *wanted[key], plain(memoryview(data)))
            except sqlite3.DatabaseError as error:
                self.losses.append(f"{self._path.name}: torn; what came after message {at} is lost ({error})")
        self.progress = 1.0

    def _rows(self, database: sqlite3.Connection, folder: Path) -> Iterator[tuple[int, int, int, bytes]]:
        """The table of messages, by id and not by time: for that, an index would have to be whole.

        SQLite reads what was cut off as zeros, without a word. So a torn file is read twice, the second time with
        other bytes in that place: what is the same both times was not cut off.
        """
        rows = database.execute(_ROWS)
        path = Path(database.execute("PRAGMA database_list").fetchone()[2])
        (page,) = database.execute("PRAGMA page_size").fetchone()
        with path.open("rb") as file:
            file.seek(28)  # the number of pages in the file's header
            missing = int.from_bytes(file.read(4), "big") * page - path.stat().st_size
        if missing <= 0 or path.with_name(f"{path.name}-wal").exists():
            yield from rows
            return
        filled = folder / "filled.db3"
        shutil.copy(path, filled)
        with filled.open("ab") as file:
            for _ in range(0, missing, page):
                file.write(b"\xff" * page)
        with closing(_connect(f"{filled.as_uri()}?immutable=1")) as other:
            for row, again in zip(rows, other.execute(_ROWS), strict=False):
                if row != again:
                    break
                yield row
        raise sqlite3.DatabaseError(f"{missing} bytes are missing")

    def _open(self, folder: Path) -> sqlite3.Connection:
        path = self._path
        if path.suffix == ".zstd":
            path = folder / path.stem
            self._unpack(path)
        beside = self._beside()
        if beside:  # read from a copy: opening it beside the bag would write there
            for part in (path, *beside):
                shutil.copyfile(part, folder / part.name)
            path = folder / path.name
            uri = f"{path.as_uri()}"
        else:
            uri = f"{path.as_uri()}?immutable=1"
        return _connect(uri)

    def _beside(self) -> list[Path]:
        """The logs that belong to the file and are not empty."""
        logs = [self._path.with_name(f"{self._path.name}{ending}") for ending in ("-wal", _JOURNAL)]
        return [log for log in logs if log.exists() and log.stat().st_size]

    def _unpack(self, path: Path) -> None:
        with path.open("wb") as file:
            try:
                with pa.input_stream(str(self._path), compression="zstd") as stream:
                    while piece := stream.read(PIECE_BYTES):
                        file.write(piece)
            except OSError:
                self.losses.append(f"{self._path.name}: torn; {file.tell() / 1e6:.1f} MB could be unpacked")

    def _topics(self, database: sqlite3.Connection) -> dict[int, tuple[str, str]]:
        try:
            rows = database.execute("SELECT id, name, type FROM topics").fetchall()
        except sqlite3.DatabaseError as error:
            raise BagError(f"{self._path}: not a bag, or its beginning is damaged ({error})") from None
        return {key: (topic, kind) for key, topic, kind in rows}

    def _last(self, database: sqlite3.Connection) -> int:
        try:
            return int(database.execute("SELECT MAX(id) FROM messages").fetchone()[0] or 0)
        except sqlite3.DatabaseError:
            return 0


def _connect(uri: str) -> sqlite3.Connection:
    database = sqlite3.connect(uri, uri=True)
    database.execute("PRAGMA writable_schema=ON")  # only so does SQLite read a file that was cut off
    return database
