"""A bag of a stranger fills neither memory nor disk, and is read only where its tables are tables."""

import shutil
import sqlite3
import struct

import pyarrow as pa
import pytest
from support import bags

from maskact_ros.data.bags.bag import Bag
from maskact_ros.data.bags.recorded_message import BagError, decompressed, most_unpacked, plain

ROWS = 5


def read(bag):
    return list(bag.messages(list(bag.topics())))


@pytest.fixture
def db3(tmp_path):
    return bags.data_file(bags.write(tmp_path / "bag", bags.recording(ROWS), storage="sqlite3"))


def zeros_packed(count):
    return pa.Codec("zstd").compress(bytes(count), asbytes=True)


def test_a_message_that_unpacks_to_more_than_its_size_makes_likely_is_cut_off():
    packed = zeros_packed(300_000_000)
    assert len(packed) < 100_000
    assert len(plain(memoryview(packed))) == most_unpacked(len(packed))


def test_what_is_unpacked_is_whole_up_to_the_limit_and_not_beyond():
    packed = zeros_packed(9_000_000)
    assert decompressed(packed, "zstd", 9_000_000) == (bytes(9_000_000), True)
    assert decompressed(packed, "zstd", 8_999_999) == (bytes(8_999_999), False)


def test_a_database_that_unpacks_to_too_much_is_refused(tmp_path):
    packed = tmp_path / "bomb.db3.zstd"
    packed.write_bytes(zeros_packed(400_000_000))
    with pytest.raises(BagError, match=r"bomb\.db3\.zstd: unpacks to more than \d+ bytes, too many for its size"):
        read(Bag(packed))


@pytest.mark.parametrize("pages", [2**20, 2**32 - 1])
def test_a_header_that_claims_pages_without_end_is_a_loss_and_fills_no_disk(db3, monkeypatch, pages):
    monkeypatch.setattr(shutil, "copyfile", pytest.fail)
    content = bytearray(db3.read_bytes())
    content[28:32] = struct.pack(">I", pages)
    db3.write_bytes(content)
    bag = Bag(db3)
    assert read(bag) == []
    assert "bytes are missing, which is not so" in bag.losses[0]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW messages AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
        "SELECT i AS id, 1 AS topic_id, i AS timestamp, x'00' AS data FROM n",
        "CREATE TABLE messages (id INTEGER, topic_id INTEGER, timestamp INTEGER, "
        "data BLOB GENERATED ALWAYS AS (zeroblob(900000000)))",
    ],
    ids=["a view", "a generated column"],
)
def test_messages_that_are_no_plain_table_are_refused(db3, statement):
    with sqlite3.connect(db3) as database:
        database.execute("DROP TABLE messages")
        database.execute(statement)
    with pytest.raises(BagError, match="not a bag: its messages are no plain table"):
        read(Bag(db3))


def test_a_receipt_that_is_no_number_is_left_out(db3):
    with sqlite3.connect(db3) as database:
        count = database.execute("SELECT COUNT(*) FROM messages").fetchone()[0]
        database.execute("UPDATE messages SET timestamp = 'yesterday' WHERE id = 3")
    assert len(read(Bag(db3))) == count - 1
