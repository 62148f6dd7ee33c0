"""Messages come in the order of their receipt, each once, however their files were written."""

import struct

import pytest
from rosbags.rosbag2 import storage_mcap
from support import bags

from maskact_ros.data.bags import log_order
from maskact_ros.data.bags.bag import Bag, bags_in
from maskact_ros.data.bags.contract import Contract
from maskact_ros.data.bags.convert import convert
from maskact_ros.data.bags.recorded_message import BagError

TOPICS = ("/arm/image", "/arm/mask", "/arm/joints", "/arm/command")
ROWS = 30


def read(bag):
    opened = Bag(bag)
    assert set(opened.topics()) <= set(TOPICS)
    found = [(m.received_ns, m.topic, bytes(m.data)) for m in opened.messages(TOPICS)]
    assert opened.progress == 1.0
    return found, opened


@pytest.fixture
def expected(tmp_path):
    return read(bags.write(tmp_path / "plain", bags.recording(ROWS)))[0]


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of a few pictures, so that a bag has many."""
    write = storage_mcap.McapWriter.write

    def wrapped(self, *arguments):
        write(self, *arguments)
        if self.chunk.bio.tell() > 4000:
            self.close_chunk()

    monkeypatch.setattr(storage_mcap.McapWriter, "write", wrapped)


def by_topic(messages):
    """One topic after the other, as converters of other formats write them; the latest stamps first."""
    return sorted(messages, key=lambda message: (message[0], message[1]))


def without_index(bag):
    file = bags.data_file(bag)
    content = file.read_bytes()
    file.write_bytes(content[: int.from_bytes(content[-37 + 9 : -37 + 17], "little")])
    return bag


def unchunked(bag, messages):
    """The same messages as a recorder without chunks writes them."""

    def text(value):
        return struct.pack("<I", len(value)) + value.encode()

    def record(kind, content):
        return struct.pack("<BQ", kind, len(content)) + content

    content, topics = record(1, text("ros2") + text("")), {}
    for topic, at, message in messages:
        kind = bags._KINDS[topic]
        if topic not in topics:
            key = topics[topic] = len(topics) + 1
            content += record(3, struct.pack("<H", key) + text(kind) + text("ros2msg") + text(""))
            content += record(4, struct.pack("<HH", key, key) + text(topic) + text("cdr") + struct.pack("<I", 0))
        head = struct.pack("<HIQQ", topics[topic], 0, at, at)
        content += record(5, head + bytes(bags.STORE.serialize_cdr(message, kind)))
    content += record(15, bytes(4)) + record(2, bytes(20))
    bag.mkdir()
    (bag / "bag.mcap").write_bytes(b"\x89MCAP0\r\n" + content + b"\x89MCAP0\r\n")
    return bag


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    "write",
    [
        lambda bag, messages: bags.write(bag, messages),
        lambda bag, messages: bags.write(bag, messages, compress="STORAGE"),
        lambda bag, messages: without_index(bags.write(bag, messages)),
        lambda bag, messages: bags.write(bag, messages, storage="sqlite3"),
        lambda bag, messages: bags.write(bag, messages, storage="sqlite3", compress="FILE"),
        unchunked,
    ],
    ids=["mcap", "compressed", "no index", "sqlite3", "packed sqlite3", "no chunks"],
)
def test_a_bag_written_topic_by_topic_is_read_in_the_order_of_receipt(tmp_path, expected, write):
    found, bag = read(write(tmp_path / "bag", by_topic(bags.recording(ROWS))))
    assert [at for at, *_ in found] == sorted(at for at, *_ in found)
    assert sorted(found) == sorted(expected)
    assert bag.losses == []
    assert any("was read in that order" in note for note in bag.notes)


def test_a_chunk_that_holds_all_topics_one_after_the_other_is_put_into_order(tmp_path, expected):
    found, _ = read(bags.write(tmp_path / "bag", by_topic(bags.recording(ROWS))))
    assert sorted(found) == sorted(expected)
    assert [at for at, *_ in found] == sorted(at for at, *_ in found)


def test_a_bag_written_topic_by_topic_gives_all_its_rows(tmp_path, small_chunks):
    bag = bags.write(tmp_path / "bag", by_topic(bags.recording(ROWS)))
    done = convert([bag], Contract.from_yaml(bags.contract(tmp_path)), tmp_path / "out", pictures="png")
    assert (done.episodes, done.frames) == (1, ROWS)


@pytest.mark.usefixtures("small_chunks")
def test_memory_holds_a_chunk_of_each_topic_and_not_the_bag(tmp_path, monkeypatch):
    bag = bags.write(tmp_path / "bag", by_topic(bags.recording(200)))
    monkeypatch.setattr(log_order, "_MOST_OPEN_BYTES", 40_000)  # of 500 kB
    assert bags.data_file(bag).stat().st_size > 400_000
    assert len(read(bag)[0]) == 200 * 2 + 202 * 4


@pytest.mark.usefixtures("small_chunks")
def test_a_bag_whose_order_does_not_fit_memory_is_one_sentence(tmp_path, monkeypatch):
    messages = bags.recording(60)
    bag = bags.write(tmp_path / "bag", [message for i in range(20) for message in messages[i::20]])
    monkeypatch.setattr(log_order, "_MOST_OPEN_BYTES", 20_000)
    monkeypatch.setattr("maskact_ros.data.bags.log_order.OrderSurvey.is_set_back", False)
    with pytest.raises(BagError, match=r"bag\.mcap: .* so far out of order .* mcap sort"):
        read(bag)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_files_of_two_recorders_in_one_folder_are_one_recording(tmp_path, expected, storage):
    messages = bags.recording(ROWS)
    camera = bags.write(tmp_path / "camera", [m for m in messages if "joints" not in m[0] and "command" not in m[0]])
    robot = bags.write(
        tmp_path / "robot", [m for m in messages if "joints" in m[0] or "command" in m[0]], storage=storage
    )
    folder = tmp_path / "bag"
    folder.mkdir()
    for bag in (camera, robot):
        file = bags.data_file(bag)
        (folder / file.name).write_bytes(file.read_bytes())
    assert read(folder)[0] == expected
    assert read(f"{camera}+{robot}")[0] == expected
    assert [str(bag) for bag in bags_in(f"{camera}+{robot}")] == [f"{camera}+{robot}"]
    done = convert([f"{camera}+{robot}"], Contract.from_yaml(bags.contract(tmp_path)), tmp_path / "out")
    assert (done.bags, done.episodes, done.frames) == (1, 1, ROWS)


def test_a_bag_that_is_not_there_is_named_among_several(tmp_path):
    bag = bags.write(tmp_path / "a", bags.recording(2))
    with pytest.raises(BagError, match=f"{tmp_path / 'b'}: there is no such bag"):
        bags_in(f"{bag}+{tmp_path / 'b'}")


@pytest.mark.parametrize("late_ns", [0, 300_000])
def test_what_two_files_both_have_is_used_once(tmp_path, expected, late_ns):
    bag = bags.write(tmp_path / "bag", bags.recording(ROWS))
    (bag / "metadata.yaml").unlink()
    again = [(topic, at + late_ns, message) for topic, at, message in bags.recording(ROWS)[: 3 * ROWS]]
    copy = bags.data_file(bags.write(tmp_path / "copy", again))
    (bag / "bag_recovered.mcap").write_bytes(copy.read_bytes())
    found, opened = read(bag)
    assert found == expected
    assert sum(int(note.split()[0]) for note in opened.notes) == 3 * ROWS
    done = convert([bag], Contract.from_yaml(bags.contract(tmp_path)), tmp_path / "out", pictures="png")
    assert (done.episodes, done.frames) == (1, ROWS)


def test_equal_commands_that_follow_each_other_are_all_kept(tmp_path):
    messages = [("/arm/command", bags.START_NS + n * 10_000_000, bags.command_message((1, 1))) for n in range(50)]
    bag = bags.write(tmp_path / "bag", messages)
    (bag / "bag_copy.mcap").write_bytes(bags.data_file(bag).read_bytes())
    (bag / "metadata.yaml").unlink()
    assert len(read(bag)[0]) == 50


def test_files_of_two_recordings_in_one_folder_are_not_mixed(tmp_path):
    bag = bags.write(tmp_path / "bag", bags.recording(ROWS))
    (bag / "metadata.yaml").unlink()
    other = [
        (topic, at + 2_000_000, bags.joints_message(at, (5, 5)) if topic == "/arm/joints" else message)
        for topic, at, message in bags.recording(ROWS)
    ]
    (bag / "other.mcap").write_bytes(bags.data_file(bags.write(tmp_path / "other", other)).read_bytes())
    with pytest.raises(BagError, match=r"bag\.mcap, other\.mcap: have different messages of /arm/joints"):
        read(bag)


def test_what_metadata_lists_is_read_and_the_rest_is_named(tmp_path, expected):
    bag = bags.write(tmp_path / "bag", bags.recording(ROWS))
    (bag / "bag_recovered.mcap").write_bytes(bags.data_file(bag).read_bytes())
    found, opened = read(bag)
    assert found == expected
    assert opened.notes == ["bag_recovered.mcap: metadata.yaml does not list it, so it is left out"]


@pytest.mark.parametrize("content", ["nonsense: [", "rosbag2_bagfile_information: {relative_file_paths: [gone.mcap]}"])
def test_metadata_that_lists_nothing_that_is_there_is_not_followed(tmp_path, expected, content):
    bag = bags.write(tmp_path / "bag", bags.recording(ROWS))
    (bag / "metadata.yaml").write_text(content)
    assert read(bag)[0] == expected


def test_the_last_file_of_a_recorder_that_was_killed_is_read_though_metadata_does_not_list_it_yet(tmp_path):
    messages = bags.recording(ROWS)
    first, last = bags.write(tmp_path / "bag_0", messages[:60]), bags.write(tmp_path / "bag_1", messages[60:])
    (first / "bag_1.mcap").write_bytes((last / "bag_1.mcap").read_bytes())
    found, opened = read(first)
    assert len(found) == len(messages)
    assert opened.notes == []


def test_a_recording_of_many_files_is_one_recording(tmp_path):
    messages = bags.recording(90)
    folder = tmp_path / "split"
    folder.mkdir()
    for number in range(30):
        part = messages[number * len(messages) // 30 : (number + 1) * len(messages) // 30]
        file = bags.data_file(bags.write(tmp_path / f"part_{number}", part))
        (folder / f"split_{number}.mcap").write_bytes(file.read_bytes())
    found, opened = read(folder)
    assert [(at, topic) for at, topic, _ in found] == [(at, topic) for topic, at, _ in messages]
    assert opened.notes == []


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_clock_that_was_set_back_while_recording_mixes_nothing(tmp_path, storage, small_chunks):
    messages = bags.recording(ROWS)
    half = len(messages) // 2
    shifted = [(topic, at - 1_200_000_000, message) for topic, at, message in messages[half:]]
    found, _ = read(bags.write(tmp_path / "bag", messages[:half] + shifted, storage=storage))
    assert [topic for _, topic, _ in found] == [topic for topic, *_ in messages]
