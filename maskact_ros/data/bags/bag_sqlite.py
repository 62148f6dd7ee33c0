"""SQLite bag files (.db3) from front to back, whole or torn, also with what a kill leaves beside them.

That is a write-ahead log with what is not in the file yet, or a journal that takes back what is in it by half.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import weakref
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cached_property, partial
from pathlib import Path

import pyarrow as pa

from maskact_ros.data.bags.log_order import END_OF_TIME_NS, SORTED, OrderSurvey, Piece, Run
from maskact_ros.data.bags.recorded_message import (
    PIECE_BYTES,
    BagError,
    Message,
    UnreadableError,
    most_unpacked,
    plain,
)

_ROWS = "SELECT id, topic_id, timestamp, data FROM messages ORDER BY id"
_PART = "SELECT id, topic_id, timestamp, data FROM messages WHERE id BETWEEN ? AND ? ORDER BY id"
_ORDER = "SELECT id, topic_id, timestamp FROM messages ORDER BY id"
_JOURNAL = "-journal"
_LONGEST = 2**28  # bytes of a message
_TABLES = "SELECT name, type, sql FROM sqlite_master WHERE name IN ('topics', 'messages')"


class SqliteFile:
    """One .db3 file, or .db3.zstd; raises UnreadableError when it is none.

    What must be unpacked or copied to be read is so once, into a temporary folder that goes with this object.
    """

    def __init__(self, path: Path):
        self.path = path
        self.losses: list[str] = []
        self.notes: list[str] = []
        self.progress = 0.0
        self._path = path

    @property
    def is_indexed(self) -> bool:
        """Whether topics are known without reading all."""
        return self._path.suffix != ".zstd"

    def topics(self) -> dict[str, str]:
        """The table of topics."""
        with closing(self._open()) as database:
            return dict(self._topics(database).values())

    def pieces(self, topics: Collection[str]) -> Sequence[Piece]:
        """One, or one for each run of messages in a file that was not written in the order of receipt."""
        survey = self._survey(topics)
        if survey is None or not survey.runs:
            return [Piece(0, END_OF_TIME_NS, 0, partial(self.messages, topics))]
        if survey.is_set_back or len(survey.runs) == 1:
            return [Piece(survey.runs[0].first_ns, survey.last_ns, 0, partial(self.messages, topics))]
        self.notes.append(f"{self._path.name}: {SORTED}")
        return [Piece(run.first_ns, run.last_ns, 0, partial(self._run, topics, run)) for run in survey.runs]

    def _survey(self, topics: Collection[str]) -> OrderSurvey | None:
        """The order of the messages; None of a file that is torn, which is read from front to back."""
        survey = OrderSurvey(self._path.name)
        with closing(self._open()) as database:
            wanted = {key: topic for key, (topic, _) in self._topics(database).items() if topic in topics}
            try:
                for number, key, received_ns in database.execute(_ORDER):
                    if key in wanted:
                        survey.add(wanted[key], received_ns, number)
                return survey if self._missing(database)[1] <= 0 else None
            except (sqlite3.DatabaseError, TypeError):
                return None

    def _run(self, topics: Collection[str], run: Run) -> Iterator[Message]:
        with closing(self._open()) as database:
            wanted = {key: entry for key, entry in self._topics(database).items() if entry[0] in topics}
            last = self._last(database)
            for at, key, received_ns, data in database.execute(_PART, (run.start, run.end)):
                self.progress = max(self.progress, at / last) if last else 1.0
                if key in wanted and isinstance(data, bytes) and isinstance(received_ns, int):
                    yield Message(received_ns, *wanted[key], plain(memoryview(data)))

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        """All that can be read, from front to back; `losses` says what cannot."""
        with closing(self._open()) as database:
            wanted = {key: entry for key, entry in self._topics(database).items() if entry[0] in topics}
            last = self._last(database)
            at = 0
            if any(log.name.endswith(_JOURNAL) for log in _logs(self._path)):
                self.losses.append(f"{self._path.name}: was not closed properly; the last moments may be missing")
            try:
                for at, key, received_ns, data in self._rows(database):
                    self.progress = at / last if last else 1.0
                    if key in wanted and isinstance(data, bytes) and isinstance(received_ns, int):
                        yield Message(received_ns, *wanted[key], plain(memoryview(data)))
            except sqlite3.DatabaseError as error:
                self.losses.append(f"{self._path.name}: torn; what came after message {at} is lost ({error})")
        self.progress = 1.0

    def _rows(self, database: sqlite3.Connection) -> Iterator[tuple[int, int, int, bytes]]:
        """The table of messages, by id and not by time: for that, an index would have to be whole.

        SQLite reads what was cut off as zeros, without a word. So a torn file is read twice, the second time with
        other bytes in that place: what is the same both times was not cut off.
        """
        rows = database.execute(_ROWS)
        path, missing, page = self._missing(database)
        if missing <= 0 or _logs(path):
            yield from rows
            return
        if missing > most_unpacked(path.stat().st_size):
            raise sqlite3.DatabaseError(f"its header says that {missing} bytes are missing, which is not so")
        with self._temporary_folder() as folder:
            filled = folder / "filled.db3"
            shutil.copyfile(path, filled)
            with filled.open("ab") as file:
                for _ in range(0, missing, page):
                    file.write(b"\xff" * page)
        with closing(_connect(f"{filled.as_uri()}?immutable=1")) as other:
            for row, again in zip(rows, other.execute(_ROWS), strict=False):
                if row != again:
                    break
                yield row
        raise sqlite3.DatabaseError(f"{missing} bytes are missing")

    def _missing(self, database: sqlite3.Connection) -> tuple[Path, int, int]:
        """The database's file, how many bytes were cut off from it, and those of a page."""
        path = Path(database.execute("PRAGMA database_list").fetchone()[2])
        (page,) = database.execute("PRAGMA page_size").fetchone()
        with path.open("rb") as file:
            file.seek(28)  # the number of pages in the file's header
            return path, int.from_bytes(file.read(4), "big") * page - path.stat().st_size, page

    def _open(self) -> sqlite3.Connection:
        # Unless it is told that nobody writes to the file, SQLite would write beside it.
        immutable = "" if _logs(self._path) else "?immutable=1"
        return _connect(f"{self._readable.as_uri()}{immutable}")

    @cached_property
    def _readable(self) -> Path:
        """The database, unpacked and, where it has logs, with these in a copy, for SQLite merges them."""
        if self._path.suffix == ".zstd":
            return self._unpacked()
        logs = _logs(self._path)
        if not logs:
            return self._path
        with self._temporary_folder() as folder:
            for part in (self._path, *logs):
                shutil.copyfile(part, folder / part.name)
            return folder / self._path.name

    def _unpacked(self) -> Path:
        with pa.input_stream(str(self._path), compression="zstd") as stream, self._temporary_folder() as folder:
            most = most_unpacked(self._path.stat().st_size)
            with (folder / self._path.stem).open("wb") as file:
                while piece := self._piece(stream, file.tell()):
                    if file.tell() + len(piece) > most:
                        raise UnreadableError(f"{self._path}: unpacks to more than {most} bytes, too many for its size")
                    file.write(piece)
            return folder / self._path.stem

    def _piece(self, stream: pa.NativeFile, at: int) -> bytes:
        try:
            return bytes(stream.read(PIECE_BYTES))
        except OSError:
            self.losses.append(f"{self._path.name}: torn; {at / 1e6:.1f} MB could be unpacked")
            return b""

    @contextmanager
    def _temporary_folder(self) -> Iterator[Path]:
        """A folder as long as this object lives; raises BagError when what is written there finds no room."""
        try:
            yield self._folder
        except OSError as error:
            raise BagError(
                f"{self._path}: cannot be unpacked or copied into the temporary folder {tempfile.gettempdir()} "
                f"({error.strerror}); allowed: one with room for it, which TMPDIR names"
            ) from None

    @cached_property
    def _folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="maskact_bag_"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def _topics(self, database: sqlite3.Connection) -> dict[int, tuple[str, str]]:
        try:
            self._check_tables(database)
            rows = database.execute("SELECT id, name, type FROM topics").fetchall()
        except sqlite3.DatabaseError as error:
            raise UnreadableError(f"{self._path}: not a bag, or its beginning is damaged ({error})") from None
        return {key: (topic, kind) for key, topic, kind in rows if isinstance(topic, str) and isinstance(kind, str)}

    def _check_tables(self, database: sqlite3.Connection) -> None:
        """Refuse what only looks like a table: a view has no end, and a generated column computes what it likes."""
        for name, kind, sql in database.execute(_TABLES).fetchall():
            plain_table = kind == "table" and isinstance(sql, str) and sql.lstrip().upper().startswith("CREATE TABLE")
            if not plain_table or any(column[6] for column in database.execute(f"PRAGMA table_xinfo({name})")):
                raise UnreadableError(f"{self._path}: not a bag: its {name} are no plain table")

    def _last(self, database: sqlite3.Connection) -> int:
        try:
            return int(database.execute("SELECT MAX(id) FROM messages").fetchone()[0] or 0)
        except sqlite3.DatabaseError:
            return 0


def _logs(path: Path) -> list[Path]:
    """What SQLite left beside a database and has to merge with it, unless it is empty."""
    logs = [path.with_name(f"{path.name}{ending}") for ending in ("-wal", _JOURNAL)]
    return [log for log in logs if log.exists() and log.stat().st_size]


def _connect(uri: str) -> sqlite3.Connection:
    database = sqlite3.connect(uri, uri=True)
    database.execute("PRAGMA writable_schema=ON")  # only so does SQLite read a file that was cut off
    database.execute("PRAGMA trusted_schema=OFF")
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
    return database
