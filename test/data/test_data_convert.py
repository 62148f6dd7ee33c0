"""Bags become datasets: what is in a row, what ends an episode, and what a user is told."""

import json

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from support import bags

from maskact_ros.core.errors import MaskACTError
from maskact_ros.data.bags.contract import Contract
from maskact_ros.data.bags.convert import convert
from maskact_ros.data.datasets.dataset import Dataset


@pytest.fixture
def made(tmp_path):
    """Converts messages, or a bag; returns the dataset."""

    def make(messages, *, pictures="png", **changes):
        bag = bags.write(tmp_path / "bag", messages) if isinstance(messages, list) else messages
        contract = Contract.from_yaml(bags.contract(tmp_path / "setup", **changes))
        convert([bag], contract, tmp_path / "dataset", pictures=pictures)
        return Dataset.open(tmp_path / "dataset")

    return make


def report(dataset):
    return json.loads((dataset.folder / "meta/maskact/report.json").read_text())


def lengths(dataset):
    return [episode.length for episode in dataset.episodes]


def without(messages, topic, indices):
    """The recording without some messages of a topic, by their number among those."""
    of_topic = [message for message in messages if message[0] == topic]
    gone = [id(of_topic[i]) for i in indices]
    return [message for message in messages if id(message) not in gone]


def test_a_row_is_a_picture_the_state_at_its_stamp_and_the_command_a_period_later(made):
    dataset = made(bags.recording(12))
    n = np.arange(12)
    np.testing.assert_array_equal(dataset.states, np.stack([n, -n], 1).astype(np.float32))
    np.testing.assert_array_equal(dataset.actions, np.stack([n + 1.5, np.full(12, 0.5)], 1).astype(np.float32))
    np.testing.assert_array_equal(dataset.stamps_ns, bags.START_NS + n * bags.PERIOD_NS)
    for i, frame in enumerate(dataset.frames(0)):
        np.testing.assert_array_equal(frame.rgb, bags.picture(i))
        np.testing.assert_array_equal(frame.mask, bags.mask(i))


def test_a_video_holds_the_same_pictures_nearly_and_the_same_masks_exactly(made):
    dataset = made(bags.recording(25), pictures="video")
    frames = list(dataset.frames(0))
    assert len(frames) == 25
    for i, frame in enumerate(frames):
        assert np.abs(frame.rgb.astype(int) - bags.picture(i)).max() <= 6
        np.testing.assert_array_equal(frame.mask, bags.mask(i))


def test_a_video_may_begin_with_an_episode_of_a_single_picture(made):
    dataset = made(without(bags.recording(6), "/arm/image", [1]), pictures="video", shortest_episode_s=0)
    assert lengths(dataset) == [1, 4]
    assert len(list(dataset.frames(0))) == 1


def test_pictures_missing_end_the_episode_and_are_not_made_up(made):
    dataset = made(without(bags.recording(20), "/arm/image", range(8, 11)))
    assert lengths(dataset) == [8, 9]
    assert dataset.states[8, 0] == 11
    (gap,) = report(dataset)["bags"][0]["gaps"]
    assert gap["seconds"] == pytest.approx(0.4)
    assert gap["reason"] == "no picture"


@pytest.mark.parametrize(
    ("topic", "gone", "reason"),
    [
        ("/arm/mask", [5], "no mask"),
        ("/arm/joints", range(9, 16), "joint state"),
        ("/arm/command", range(9, 16), "command"),
    ],
)
def test_what_is_missing_beside_a_picture_ends_the_episode(made, topic, gone, reason):
    dataset = made(without(bags.recording(20), topic, gone))
    assert len(dataset.episodes) == 2
    assert sum(lengths(dataset)) < 20
    assert reason in report(dataset)["episodes"][0]["ended_by"]


def test_a_camera_twice_as_fast_as_the_policy_gives_every_other_picture(made):
    extra = []
    for n in range(12):
        at = bags.START_NS + n * bags.PERIOD_NS + bags.PERIOD_NS // 2
        extra.append(("/arm/image", at + 30_000_000, bags.image_message(at, bags.picture(200))))
    dataset = made(sorted(bags.recording(12) + extra, key=lambda m: m[1]))
    assert lengths(dataset) == [12]
    assert set(np.diff(dataset.stamps_ns)) == {bags.PERIOD_NS}


def filmed(at_s):
    """A recording whose pictures, and masks, were taken at other moments, in seconds from its start."""
    messages = bags.recording(round(at_s[-1] * 10) + 1, without=["/arm/image", "/arm/mask"])
    for n, s in enumerate(at_s):
        at = bags.START_NS + round(s * 1e9)
        messages.append(("/arm/image", at + 30_000_000, bags.image_message(at, bags.picture(n))))
        messages.append(("/arm/mask", at + 30_001_000, bags.image_message(at, bags.mask(n), "mono8")))
    return sorted(messages, key=lambda m: m[1])


@pytest.mark.parametrize("rate_hz", [4, 8.33, 9, 11, 12, 14])
def test_a_camera_whose_rate_is_not_the_policys_gives_nothing_and_is_told_why(made, rate_hz):
    with pytest.raises(MaskACTError) as caught:
        made(filmed(np.arange(80) / rate_hz), shortest_episode_s=1.0)
    assert f"the camera's rate is not the policy's: {rate_hz:.1f} instead of 10 Hz" in str(caught.value)


@pytest.mark.parametrize("rate_hz", [9.75, 9.99, 10.25])
def test_a_camera_whose_clock_is_a_little_off_is_followed(made, rate_hz):
    assert lengths(made(filmed(np.arange(300) / rate_hz))) == [300]


@pytest.mark.parametrize("faster", [1.8, 2, 2.02, 2.5, 3, 5, 10])
def test_a_faster_camera_gives_rows_at_the_policys_mean_rate(made, faster):
    dataset = made(filmed(np.arange(round(120 * faster)) / (10 * faster)))
    assert len(dataset.episodes) == 1
    assert dataset.episodes[0].length == pytest.approx(120, abs=2)
    assert np.abs(np.diff(dataset.stamps_ns) / bags.PERIOD_NS - 1).max() < 0.5


def test_a_camera_one_and_a_half_times_as_fast_gives_no_row_at_the_wrong_speed(made):
    with pytest.raises(MaskACTError, match=r"not the policy's: 15\.0 instead of 10 Hz"):
        made(filmed(np.arange(90) / 15), shortest_episode_s=1.0)


@pytest.mark.parametrize("first", [0, 1])
def test_jitter_of_single_pictures_ends_no_episode(made, first):
    at_s = np.arange(60) / 10
    at_s[first::12] += 0.025
    at_s[first + 6 :: 12] -= 0.025
    assert lengths(made(filmed(at_s))) == [60]


def test_a_picture_lost_by_a_camera_twice_as_fast_ends_the_episode_only_where_a_row_was_due(made):
    dataset = made(filmed(np.delete(np.arange(80) / 20, [21, 40])))
    assert lengths(dataset) == [20, 20]
    assert report(dataset)["bags"][0]["gaps"][0]["reason"] == "no picture"


def test_a_camera_that_finds_its_rate_again_begins_another_episode(made):
    at_s = np.concatenate([np.arange(40) / 10, 4 + np.arange(60) / 7, 13 + np.arange(60) / 10])
    dataset = made(filmed(at_s), shortest_episode_s=1.0)
    assert [length > 30 for length in lengths(dataset)] == [True, True]
    assert np.median(np.diff(dataset.stamps_ns)) == bags.PERIOD_NS
    assert report(dataset)["bags"][0]["dropped"]["the camera's rate is not the policy's: 7.0 instead of 10 Hz"] > 10


def test_masks_that_no_picture_wants_are_let_go_and_counted(made):
    messages = bags.recording(120)
    for n in range(120):  # by a clock that is an hour ahead
        at = bags.START_NS + n * bags.PERIOD_NS
        message = bags.image_message(at + 3600 * 10**9, bags.mask(n), "mono8")
        messages.append(("/arm/mask", at + 50_000_000, message))
    ignored = report(made(sorted(messages, key=lambda m: m[1])))["bags"][0]["ignored"]
    assert ignored == {"/arm/mask: a mask for which no picture waited": pytest.approx(80, abs=5)}


def test_a_mask_that_comes_before_its_picture_is_used(made):
    messages = [(t, at - 80_000_000 if t == "/arm/mask" else at, m) for t, at, m in bags.recording(20)]
    assert lengths(made(sorted(messages, key=lambda m: m[1]))) == [20]


def restamped(messages, topic, indices, stamp_ns):
    """The recording with other stamps in the headers of some messages of a topic."""
    of_topic = [message for named, _, message in messages if named == topic]
    for i in indices:
        of_topic[i].header.stamp = bags.header(stamp_ns).stamp
    return messages


@pytest.mark.parametrize("stamp_ns", [0, bags.START_NS + 3600 * 10**9])
@pytest.mark.parametrize("index", [0, 20])
def test_an_odd_stamp_of_a_joint_state_is_ignored_and_counted(made, index, stamp_ns):
    dataset = made(restamped(bags.recording(20), "/arm/joints", [index], stamp_ns))
    assert sum(lengths(dataset)) >= 19
    assert report(dataset)["bags"][0]["ignored"] == {"/arm/joints: its header's stamp is far from its receipt": 1}


def test_an_odd_stamp_of_a_picture_costs_that_picture_only(made):
    dataset = made(restamped(bags.recording(20), "/arm/image", [8], 0))
    assert lengths(dataset) == [8, 11]
    assert report(dataset)["bags"][0]["ignored"] == {"/arm/image: its header's stamp is far from its receipt": 1}


@pytest.mark.parametrize("stamp_ns", [0, bags.START_NS + 3600 * 10**9])
@pytest.mark.parametrize("index", [20, 21])
def test_an_odd_stamp_is_ignored_and_counted_also_where_nothing_goes_by_receipt(made, index, stamp_ns):
    messages = restamped(bags.recording(20, without=["/arm/command"]), "/arm/joints", [index], stamp_ns)
    dataset = made(messages, action={"source": "future_state"})
    assert lengths(dataset) == [20]
    assert report(dataset)["bags"][0]["ignored"] == {"/arm/joints: its header's stamp is far from its receipt": 1}


def test_headers_by_a_clock_that_is_set_anew_cost_one_message_of_a_stream(made):
    messages = bags.recording(40, without=["/arm/command"])
    for _, at, message in messages:
        if at >= bags.START_NS + 2 * 10**9 - 20_000_000:
            stamp = message.header.stamp
            stamp.sec -= 1_600_000_000
    dataset = made(messages, action={"source": "future_state"})
    assert sum(lengths(dataset)) >= 37
    assert report(dataset)["bags"][0]["ignored"] == {
        f"{topic}: its header's stamp is far from its receipt": 1 for topic in ("/arm/image", "/arm/joints")
    }


@pytest.mark.parametrize("topic", ["/arm/joints", "/arm/image"])
@pytest.mark.parametrize("rows", [20, 60])
def test_a_stream_by_another_clock_is_one_sentence_with_its_remedy(made, topic, rows):
    recorded = bags.recording(rows)
    every = range(sum(t == topic for t, _, _ in recorded))
    with pytest.raises(
        MaskACTError, match=rf"bag: {topic}: its header says 5.000 s, .* stamp: receipt for every stream$"
    ):
        made(restamped(recorded, topic, every, 5 * 10**9))


def test_a_short_piece_between_two_gaps_is_not_kept_and_is_counted(made):
    dataset = made(without(bags.recording(20), "/arm/image", [8, 10]), shortest_episode_s=0.5)
    assert lengths(dataset) == [8, 9]
    assert report(dataset)["bags"][0]["dropped"]["in an episode that is too short"] == 1


def test_joints_are_matched_by_name(made):
    messages = [
        (topic, at, bags.joints_message(at, (7, *message.position[::-1]), ("other", *bags.JOINTS[::-1])))
        if topic == "/arm/joints"
        else (topic, at, message)
        for topic, at, message in bags.recording(6)
    ]
    np.testing.assert_array_equal(made(messages).states[:, 0], np.arange(6))


def test_the_values_of_a_command_are_in_the_order_that_the_contract_says(made):
    dataset = made(bags.recording(6), action={"joints": ["grip", "lift"]})
    np.testing.assert_array_equal(dataset.actions, np.stack([np.full(6, 0.5), np.arange(6) + 1.5], 1))


def test_without_commands_the_action_is_where_the_joints_went(made):
    dataset = made(bags.recording(6, without=["/arm/command"]), action={"source": "future_state"})
    np.testing.assert_array_equal(dataset.actions[:, 0], np.arange(6) + 1)


def test_a_trajectory_commands_where_it_wants_the_joints_at_that_moment(made):
    messages = bags.recording(6, without=["/arm/command"])
    for n in range(8):
        at = bags.START_NS + n * bags.PERIOD_NS - 20_000_000
        path = [(0.0, (0.0, n)), (0.1, (1.0, n))]
        messages.append(("/arm/trajectory", at + 1, bags.trajectory_message(at, path)))
    messages.sort(key=lambda m: m[1])
    dataset = made(messages, action={"topic": "trajectory", "stamp": "header"})
    np.testing.assert_allclose(dataset.actions, np.stack([np.full(6, 0.2), np.arange(6) + 1], 1), atol=1e-6)


@pytest.mark.parametrize(("due_s", "commanded"), [(0.8, 1.9), (0.08, 9.0)])
def test_until_a_trajectorys_first_point_is_due_its_joints_are_on_their_way_there(made, due_s, commanded):
    messages = []
    for topic, at, message in bags.recording(6, without=["/arm/command"]):
        messages.append((topic, at, bags.joints_message(at, (1.0, 2.0)) if topic == "/arm/joints" else message))
    for n in range(8):
        at = bags.START_NS + n * bags.PERIOD_NS + 10_000_000
        messages.append(("/arm/trajectory", at, bags.trajectory_message(at, [(due_s, (9.0, 2.0))])))
    messages.sort(key=lambda m: m[1])
    dataset = made(messages, action={"topic": "trajectory", "stamp": "header"})
    # A row's command is 0.09 s old: 0.09 of 0.8 s on the way from 1 to 9, or there.
    np.testing.assert_allclose(dataset.actions, np.tile([commanded, 2.0], (6, 1)), atol=1e-6)


def test_stamps_of_receipt_are_taken_where_the_contract_says_so(made):
    dataset = made(bags.recording(6), images={"stamp": "receipt"})
    assert dataset.stamps_ns[0] == bags.START_NS + 30_000_000


def test_masks_come_from_a_folder_of_files_named_by_stamp(made, tmp_path):
    (tmp_path / "masks").mkdir()
    for n in range(6):
        stamp_ns = bags.START_NS + n * bags.PERIOD_NS
        cv2.imwrite(str(tmp_path / f"masks/{stamp_ns}.png"), bags.mask(n))
    masks = {"folder": str(tmp_path / "masks"), "classes": ["background", "thing"]}
    dataset = made(bags.recording(8, without=["/arm/mask"]), masks=masks)
    assert lengths(dataset) == [6]
    assert all((frame.mask == bags.mask(i)).all() for i, frame in enumerate(dataset.frames(0)))


@pytest.mark.parametrize("kind", ["bgr8 with padded rows", "compressed"])
def test_pictures_may_be_of_any_encoding(made, kind):
    messages = []
    for topic, at, message in bags.recording(5):
        if topic != "/arm/image":
            messages.append((topic, at, message))
            continue
        stamp_ns = at - 30_000_000
        bgr = np.ascontiguousarray(message.data.reshape(*bags.SIZE, 3)[:, :, ::-1])
        if kind == "compressed":
            content = cv2.imencode(".png", bgr)[1].tobytes()
            messages.append(("/arm/image/compressed", at, bags.compressed_message(stamp_ns, content, "bgr8; png")))
        else:
            messages.append((topic, at, bags.image_message(stamp_ns, bgr, "bgr8", padding=8)))
    dataset = made(messages, images={"topics": ["image", "image/compressed"]})
    assert all((frame.rgb == bags.picture(i)).all() for i, frame in enumerate(dataset.frames(0)))


def compressed_by(named, encoded):
    """A recording whose pictures come compressed, with this format; `encoded` gives the suffix and the samples."""
    messages = []
    for topic, at, message in bags.recording(12):
        if topic == "/arm/image":
            stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
            suffix, samples = encoded(message.data.reshape(*bags.SIZE, 3))
            content = cv2.imencode(suffix, samples)[1].tobytes()
            topic, message = "/arm/image/compressed", bags.compressed_message(stamp_ns, content, named)
        messages.append((topic, at, message))
    return messages


@pytest.mark.parametrize(
    ("named", "encoded", "told"),
    [
        (
            "16UC1; png compressed ",
            lambda rgb: (".png", rgb[..., 0].astype(np.uint16) * 9),
            "bytes of format '16UC1; png compressed ' carry depth; allowed: pictures in colour, or grey by "
            "mono8 or mono16 (12 times)",
        ),
        (
            "yuv422; jpeg compressed mono8",
            lambda rgb: (".jpg", rgb[..., 0]),
            "bytes of format 'yuv422; jpeg compressed mono8' are grey, while the camera's own pictures are "
            "yuv422: the colour was lost when they were compressed; allowed: the colour that the raw pictures have (12",
        ),
    ],
)
def test_compressed_pictures_that_are_depth_or_have_lost_their_colour_make_no_dataset_and_are_named(
    made, named, encoded, told
):
    with pytest.raises(MaskACTError) as caught:
        made(compressed_by(named, encoded), images={"topics": ["image/compressed"]})
    assert told in " ".join(str(caught.value).split())


def test_compressed_pictures_of_a_grey_camera_still_make_a_dataset(made):
    dataset = made(
        compressed_by("mono8; png compressed ", lambda rgb: (".png", rgb[..., 0])),
        images={"topics": ["image/compressed"]},
    )
    assert lengths(dataset) == [12]


def test_the_report_tells_how_old_each_stream_was(made):
    (episode,) = report(made(bags.recording(10)))["episodes"]
    assert episode["age_ms"]["state"] == {"p50": 5.0, "p95": 5.0, "max": 5.0}
    assert episode["age_ms"]["action"]["max"] == 10.0
    assert episode["rate_hz"] == pytest.approx(10)


def test_several_bags_become_one_dataset_with_running_numbers(tmp_path):
    for name, rows in (("a", 5), ("b", 7)):
        bags.write(tmp_path / "bags" / name, bags.recording(rows))
    contract = Contract.from_yaml(bags.contract(tmp_path))
    convert([tmp_path / "bags"], contract, tmp_path / "out", pictures="video")
    dataset = Dataset.open(tmp_path / "out")
    assert lengths(dataset) == [5, 7]
    assert [len(list(dataset.frames(i))) for i in (0, 1)] == [5, 7]
    files = sorted((tmp_path / "out/data").rglob("*.parquet"))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert [row["index"] for row in rows] == list(range(12))
    assert [row["episode_index"] for row in rows] == [0] * 5 + [1] * 7
    stats = json.loads((tmp_path / "out/meta/stats.json").read_text())
    assert stats["index"]["max"] == [11]
    np.testing.assert_allclose(stats["action"]["mean"], dataset.actions.mean(0), rtol=1e-6)
    np.testing.assert_allclose(stats["action"]["std"], dataset.actions.std(0), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("messages", "changes", "told"),
    [
        (bags.recording(3, without=["/arm/image"]), {}, "has no /arm/image (nearest: /arm/mask)"),
        (bags.recording(3, without=["/arm/command"]), {}, "has no /arm/command"),
        (bags.recording(3), {"masks": None, "state": {"topic": "mask"}}, "allowed: sensor_msgs/msg/JointState"),
        (bags.recording(3), {"masks": {"topic": "mask", "classes": ["background"]}}, "has class id 1; allowed: 0 to 0"),
    ],
)
def test_a_bag_that_does_not_fit_the_contract_is_one_sentence(made, tmp_path, messages, changes, told):
    with pytest.raises(MaskACTError) as caught:
        made(messages, **changes)
    assert told in str(caught.value)
    assert not (tmp_path / "dataset").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"task": None}, "task is missing"),
        ({"image": {"stamp": "header"}}, "'image' is unknown"),
        ({"state": {"stamp": "clock"}}, "state: stamp is 'clock'; allowed: header or receipt"),
        ({"action": {"tolerance_s": 0}}, "action: tolerance_s is 0; allowed: a number >= 0.001"),
        ({"action": {"joints": ["lift"]}}, "action: joints is ['lift']; allowed: each of lift, grip once"),
        ({"state": {"topic": "command"}}, "topic /arm/command is named twice"),
        ({"masks": {"classes": ["a"]}}, "either a topic or a folder"),
    ],
)
def test_a_contract_that_says_something_wrong_is_one_sentence(tmp_path, changes, told):
    path = bags.contract(tmp_path, **changes)
    with pytest.raises(MaskACTError) as caught:
        Contract.from_yaml(path)
    assert told in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_datasets_own_copy_of_the_contract_says_the_same(tmp_path):
    contract = Contract.from_yaml(bags.contract(tmp_path))
    (tmp_path / "contract.yaml").write_text(contract.to_yaml())
    assert Contract.from_yaml(tmp_path / "contract.yaml") == contract
