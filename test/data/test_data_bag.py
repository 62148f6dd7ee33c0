"""Bags of every kind are read, and damaged ones give up all that can be read."""

import os
import resource
import signal
import sqlite3
import tempfile
from contextlib import contextmanager

import pyarrow as pa
import pytest
from rosbags.rosbag2 import storage_mcap
from support import bags

from maskact_ros.data.bags.bag import Bag, bags_in
from maskact_ros.data.bags.bag_writer import STORAGES, BagWriter
from maskact_ros.data.bags.recorded_message import BagError

TOPICS = ("/arm/image", "/arm/mask", "/arm/joints", "/arm/command")


def read(bag):
    """The messages as (received_ns, topic, bytes), and what was lost."""
    opened = Bag(bag)
    found = [(m.received_ns, m.topic, bytes(m.data)) for m in opened.messages(TOPICS)]
    assert opened.progress == 1.0
    return found, opened.losses


@pytest.fixture
def expected(tmp_path):
    return read(bags.write(tmp_path / "plain", bags.recording(20)))[0]


def test_messages_come_lazily_and_in_the_order_of_their_receipt(expected):
    recorded = bags.recording(20)
    assert [(at, topic) for at, topic, _ in expected] == [(at, topic) for topic, at, _ in recorded]
    assert len(expected) == 20 * 2 + 22 * 4


@pytest.mark.parametrize(
    ("storage", "compress"),
    [  # SQLite compresses no storage
        *(("mcap", compress) for compress in (None, "MESSAGE", "FILE", "STORAGE")),
        *(("sqlite3", compress) for compress in (None, "MESSAGE", "FILE")),
    ],
)
def test_every_storage_and_compression_gives_the_same_messages(tmp_path, expected, storage, compress):
    found, losses = read(bags.write(tmp_path / "bag", bags.recording(20), storage=storage, compress=compress))
    assert found == expected
    assert losses == []


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_no_metadata_is_needed_and_a_single_file_is_a_bag(tmp_path, expected, storage):
    bag = bags.write(tmp_path / "bag", bags.recording(20), storage=storage)
    (bag / "metadata.yaml").unlink()
    assert read(bag)[0] == expected
    assert read(bags.data_file(bag))[0] == expected


def test_messages_that_were_written_out_of_order_are_put_right(tmp_path, expected):
    messages = bags.recording(20)
    swapped = [message for i in range(0, len(messages), 2) for message in messages[i : i + 2][::-1]]
    found = read(bags.write(tmp_path / "bag", swapped))[0]
    assert sorted(found) == sorted(expected)
    assert [at for at, *_ in found] == [at for at, *_ in expected]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("compress", [None, "FILE"])
def test_a_torn_bag_gives_its_beginning_and_says_what_is_lost(tmp_path, storage, compress):
    bag = bags.write(tmp_path / "bag", bags.recording(200), storage=storage, compress=compress)
    expected, _ = read(bag)
    file = bags.data_file(bag)
    os.truncate(file, round(file.stat().st_size * 0.7))
    found, losses = read(bag)
    assert found == expected[: len(found)]
    assert len(found) > 0.3 * len(expected)
    assert any("torn" in loss for loss in losses)


def test_an_mcap_file_without_its_index_is_whole(tmp_path, expected):
    file = bags.data_file(bags.write(tmp_path / "bag", bags.recording(20)))
    content = file.read_bytes()
    start = int.from_bytes(content[-37 + 9 : -37 + 17], "little")
    file.write_bytes(content[:start])  # what a recorder leaves that was killed after its last message
    opened = Bag(file)
    assert set(opened.topics()) == set(TOPICS)
    found, losses = read(file)
    assert found == expected
    assert losses == []


def test_a_damaged_chunk_does_not_take_the_others_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(storage_mcap.McapWriter, "write", small_chunks(storage_mcap.McapWriter.write))
    bag = bags.write(tmp_path / "bag", bags.recording(20), compress="STORAGE")
    expected, _ = read(bag)
    file = bags.data_file(bag)
    content = bytearray(file.read_bytes())
    at = [i for i in range(len(content) - 4) if content[i : i + 4] == b"\x28\xb5\x2f\xfd"]
    assert len(at) > 5
    content[at[2] + 8 : at[2] + 40] = bytes(32)
    file.write_bytes(content)
    found, losses = read(bag)
    assert 0.5 * len(expected) < len(found) < len(expected)
    assert set(found) <= set(expected)
    assert any("damaged chunk" in loss for loss in losses)


def test_equal_losses_are_one_sentence_with_their_number(tmp_path):
    file = bags.data_file(bags.write(tmp_path / "bag", bags.recording(20)))
    content = file.read_bytes()
    start = int.from_bytes(content[-37 + 9 : -37 + 17], "little")
    no_channel = b"\x05" + (22).to_bytes(8, "little") + (99).to_bytes(2, "little") + bytes(20)
    file.write_bytes(content[: start - 13] + no_channel * 5000 + content[start - 13 : start])  # before the data's end
    assert read(file)[1] == ["bag.mcap: a damaged record (5000 times)"]


def small_chunks(write):
    def wrapped(self, *arguments):
        write(self, *arguments)
        if self.chunk.bio.tell() > 8000:
            self.close_chunk()

    return wrapped


def test_what_is_in_a_write_ahead_log_only_is_read_too(tmp_path):
    bag = bags.write(tmp_path / "bag", bags.recording(5), storage="sqlite3")
    file = bags.data_file(bag)
    database = sqlite3.connect(file)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA wal_autocheckpoint=0")
    database.execute(
        "INSERT INTO messages (topic_id, timestamp, data) SELECT topic_id, timestamp + 1, data FROM messages"
    )
    database.commit()
    killed = tmp_path / "killed"
    killed.mkdir()
    for part in (file, file.with_name(f"{file.name}-wal")):
        (killed / part.name).write_bytes(part.read_bytes())
    before = sorted(killed.iterdir())
    database.close()
    assert len(read(killed)[0]) == 2 * (5 * 2 + 7 * 4)
    assert sorted(killed.iterdir()) == before


TICK_NS = 100_000_000


def record_ticks(folder, storage, count, then=lambda: None):
    """A recording, in which something happens at last."""
    with BagWriter(folder, storage=storage) as writer:
        writer.add_topic("/arm/command", "std_msgs/msg/Float64MultiArray")
        for i in range(count):
            writer.write("/arm/command", bags.START_NS + i * TICK_NS, i.to_bytes(4, "little") + bytes(996))
        then()


def ticks(bag):
    """The numbers that `record_ticks` wrote, and what was lost."""
    found, losses = read(bag)
    return [int.from_bytes(data[:4], "little") for *_, data in found], losses


@contextmanager
def files_of_at_most(size):
    """The whole process can write no file larger than that, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("storage", STORAGES)
def test_a_kill_takes_the_last_second_of_a_recording_at_most(tmp_path, storage):
    bag = tmp_path / "bag"
    child = os.fork()
    if not child:
        try:
            record_ticks(bag, storage, 48, lambda: os.kill(os.getpid(), signal.SIGKILL))
        finally:
            os._exit(1)  # never back into the tests
    os.waitpid(child, 0)
    before = sorted((file.name, file.read_bytes()) for file in bag.iterdir())
    found, losses = ticks(bag)
    assert found == list(range(len(found)))
    assert len(found) >= 48 - 10
    if storage == "sqlite3":
        assert losses == ["bag.db3: was not closed properly; the last moments may be missing"]
    assert sorted((file.name, file.read_bytes()) for file in bag.iterdir()) == before


@pytest.mark.parametrize("storage", STORAGES)
def test_an_exception_takes_no_message_of_a_recording(tmp_path, storage):
    with pytest.raises(ZeroDivisionError):
        record_ticks(tmp_path / "bag", storage, 48, lambda: 1 / 0)
    assert ticks(tmp_path / "bag")[0] == list(range(48))


@pytest.mark.parametrize("storage", STORAGES)
def test_an_exception_before_the_first_message_leaves_nothing(tmp_path, storage):
    with pytest.raises(ZeroDivisionError):
        record_ticks(tmp_path / "bag", storage, 0, lambda: 1 / 0)
    assert not list(tmp_path.iterdir())


def test_a_bag_that_cannot_be_opened_leaves_nothing(tmp_path):
    with files_of_at_most(4000), pytest.raises(BagError, match="cannot be written"):
        record_ticks(tmp_path / "bag", "sqlite3", 1)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_appeared_in_the_meantime_is_left_alone(tmp_path):
    writer = BagWriter(tmp_path / "bag")
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "kept").touch()
    with pytest.raises(BagError, match="exists already"):
        writer.__enter__()
    assert (tmp_path / "bag" / "kept").exists()


@pytest.mark.parametrize("storage", STORAGES)
def test_a_full_disk_is_one_sentence_and_takes_the_last_second_at_most(tmp_path, storage):
    with files_of_at_most(200_000), pytest.raises(BagError, match=r"bag: cannot be written \(.*\)$"):
        record_ticks(tmp_path / "bag", storage, 1000)
    found, _ = ticks(tmp_path / "bag")
    assert found == list(range(len(found)))
    assert len(found) > 150


@pytest.mark.parametrize("ending", ["mcap", "db3", "mcap.zstd", "db3.zstd"])
@pytest.mark.parametrize("content", [b"", bytes(5000)])
def test_a_file_that_is_empty_after_a_power_cut_does_not_take_the_others_with_it(tmp_path, expected, ending, content):
    storage = "mcap" if "mcap" in ending else "sqlite3"
    bag = bags.write(tmp_path / "bag", bags.recording(20), storage=storage)
    whole = bags.data_file(bag)
    whole = whole.rename(bag / f"bag_1{whole.suffix}")
    for number in (0, 2):  # before and after the whole one
        (bag / f"bag_{number}.{ending}").write_bytes(content)
    assert Bag(bag).first_of(TOPICS) == TOPICS[0]
    found, losses = read(bag)
    assert found == expected
    assert losses[:2] == [f"bag_{number}.{ending}: cannot be read, all of it is lost" for number in (0, 2)]
    whole.unlink()
    with pytest.raises(BagError, match=f"bag_2.{ending}: not a"):
        Bag(bag).topics()


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The temporary folder of this process, empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_packed_file_is_unpacked_once_and_what_was_unpacked_goes_with_the_bag(tmp_path, temporary, monkeypatch):
    bag = Bag(bags.write(tmp_path / "bag", bags.recording(20), storage="sqlite3", compress="FILE"))
    unpackings = []
    unpack = pa.input_stream
    monkeypatch.setattr(pa, "input_stream", lambda *args, **kw: unpackings.append(args) or unpack(*args, **kw))
    for topic in TOPICS:
        assert bag.first_of([topic]) == topic
    assert len(list(bag.messages(TOPICS))) == 20 * 2 + 22 * 4
    assert len(unpackings) == 1
    assert len(list(temporary.iterdir())) == 1
    del bag
    assert not list(temporary.iterdir())


def test_a_full_temporary_disk_is_no_torn_bag_but_one_sentence_that_names_it(tmp_path, temporary):
    bag = Bag(bags.write(tmp_path / "bag", bags.recording(20), storage="sqlite3", compress="FILE"))
    with files_of_at_most(20_000), pytest.raises(BagError, match=f"temporary folder {temporary} .*TMPDIR"):
        list(bag.messages(TOPICS))
    assert bag.losses == []


def test_a_folder_of_bags_is_each_of_them(tmp_path):
    for name in ("b", "a"):
        bags.write(tmp_path / name, bags.recording(1))
    assert [bag.name for bag in bags_in(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: None, "there is no such bag"),
        (lambda path: path.mkdir(), "holds no bag"),
        (lambda path: path.write_text("x"), "not a bag; allowed"),
    ],
)
def test_what_is_no_bag_is_one_sentence(tmp_path, make, told):
    make(tmp_path / "bag")
    with pytest.raises(BagError, match=told):
        bags_in(tmp_path / "bag") and Bag(tmp_path / "bag")


@pytest.mark.parametrize("name", ["bag.mcap", "bag.db3", "bag.mcap.zstd", "bag.db3.zstd"])
@pytest.mark.parametrize("content", [b"", b"nonsense" * 100])
def test_a_file_that_is_no_bag_inside_is_one_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BagError, match=name):
        list(Bag(tmp_path / name).messages(TOPICS))
