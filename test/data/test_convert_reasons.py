"""What a user is told: the first cause with its numbers, which bag was left out, and what was kept of what."""

import json

import numpy as np
import pytest
from support import bags

from maskact_ros.cli import main
from maskact_ros.core.errors import MaskACTError
from maskact_ros.data.bags.contract import Contract
from maskact_ros.data.bags.convert import convert
from maskact_ros.data.bags.reasons import Reasons, first_cause


@pytest.fixture
def refusal(tmp_path):
    """Converts messages that give no dataset; returns the sentence."""

    def of(messages, **changes):
        bag = bags.write(tmp_path / "bag", messages)
        contract = Contract.from_yaml(bags.contract(tmp_path / "setup", **changes))
        with pytest.raises(MaskACTError) as caught:
            convert([bag], contract, tmp_path / "dataset", pictures="png")
        assert not (tmp_path / "dataset").exists()
        return str(caught.value)

    return of


def test_equal_reasons_are_counted_and_one_of_them_stands_whole():
    reasons = Reasons()
    for age_s in (0.31, 0.17, 0.17):
        reasons.add(f"the state is {age_s} s old; allowed: rgb8, 16UC3 and 0.1 s")
    reasons.add("no mask")
    assert reasons.examples(20) == {"the state is 0.17 s old; allowed: rgb8, 16UC3 and 0.1 s": 3, "no mask": 1}


def test_sentences_that_differ_in_their_numbers_only_take_no_memory_each():
    reasons = Reasons()
    for stamp in range(5000):
        reasons.add(f"odd at {stamp}")
    assert reasons.examples(20) == {"odd at 0": 5000}
    assert sum(len(texts) for texts in reasons._texts.values()) <= 100


@pytest.mark.parametrize(
    ("dropped", "ignored", "cause"),
    [
        ({"in an episode that is too short": 60, "the state is 0.2 s old": 30}, {}, ("the state is 0.2 s old", 30)),
        (
            {"no joint state from before has arrived": 90},
            {"/j: a joint is missing": 40},
            ("/j: a joint is missing", 40),
        ),
        (
            {"no joint state from before has arrived": 90},
            {"/c: odd": 40},
            ("no joint state from before has arrived", 90),
        ),
        ({"in an episode that is too short": 5}, {}, ("in an episode that is too short", 5)),
        ({}, {"/i: encoding is '16UC1'": 7}, ("/i: encoding is '16UC1'", 7)),
        ({}, {}, None),
    ],
)
def test_the_first_cause_is_told_and_not_its_consequence(dropped, ignored, cause):
    assert first_cause(dropped, ignored, {"picture": "/i", "state": "/j", "command": "/c", "mask": ""}) == cause


def test_joint_states_that_come_too_seldom_are_the_reason_and_not_the_short_pieces(refusal):
    messages = bags.recording(40)
    states = [message for message in messages if message[0] == "/arm/joints"][::6]
    messages = [m for m in messages if m[0] != "/arm/joints" or any(m is state for state in states)]
    told = refusal(messages, shortest_episode_s=1.5)
    assert "the joint state before the image is 0.105 s older than it; allowed: 0.1 s" in told


def test_a_stream_that_cannot_be_read_is_the_reason_and_not_its_absence(refusal):
    messages = [
        (topic, at, bags.joints_message(at, (1.0,), ("lift",)) if topic == "/arm/joints" else message)
        for topic, at, message in bags.recording(10)
    ]
    assert "/arm/joints: the joints grip are missing; the message has lift (24 times)" in refusal(messages)


def test_messages_in_xcdr2_are_named(refusal, tmp_path, monkeypatch):
    monkeypatch.setattr(bags, "STORE", _Xcdr2(bags.STORE))
    assert "are serialised as XCDR2; allowed: XCDR1" in refusal(bags.recording(5))


class _Xcdr2:
    """Serialises with the header of XCDR2."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)

    def serialize_cdr(self, message, kind):
        return b"\x00\x07\x00\x00" + bytes(self._store.serialize_cdr(message, kind))[4:]


def test_a_bag_of_ros_1_is_told_how_it_becomes_one_of_ros_2(tmp_path):
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    contract = Contract.from_yaml(bags.contract(tmp_path))
    with pytest.raises(MaskACTError, match=r"ROS 1; rosbags-convert --src old\.bag --dst old makes"):
        convert([tmp_path / "old.bag"], contract, tmp_path / "out")


def test_messages_that_were_received_at_time_0_are_left_out_and_counted(tmp_path):
    messages = bags.recording(12)
    early = [(topic, 0, message) for topic, _, message in messages[:9]]
    bag = bags.write(tmp_path / "bag", early + messages)
    done = convert([bag], Contract.from_yaml(bags.contract(tmp_path)), tmp_path / "out", pictures="png")
    assert done.frames == 12
    assert any("messages were not used: /arm/joints: received at time 0" in note for note in done.notes)
    assert done.recorded_s == pytest.approx(1.36, abs=0.02)
    ignored = json.loads((tmp_path / "out/meta/maskact/report.json").read_text())["bags"][0]["ignored"]
    assert sum(times for reason, times in ignored.items() if "received at time 0" in reason) == 9


def four_bags(folder, *, odd):
    """Three bags that fit, and in the place of the second one that `odd` writes."""
    for name in ("a", "b", "c", "d"):
        if name == "b":
            odd(folder / name)
        else:
            bags.write(folder / name, bags.recording(7))


def of_another_size(folder):
    larger = np.zeros((20, 30, 3), np.uint8)
    messages = [
        (t, at, bags.image_message(at - 30_000_000, larger) if t == "/arm/image" else m)
        for t, at, m in bags.recording(7)
    ]
    bags.write(folder, messages)


def without_commands(folder):
    bags.write(folder, bags.recording(7, without=["/arm/command"]))


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        (of_another_size, "is 30x20; allowed, as the robot says of camera top: 24x16"),
        (without_commands, "has no /arm/command"),
        (lambda folder: bags.write(folder, bags.recording(3)[:1]), "has no"),
    ],
)
def test_one_bad_bag_is_named_and_the_others_are_converted(tmp_path, capsys, odd, told):
    four_bags(tmp_path / "bags", odd=odd)
    path = bags.contract(tmp_path, masks=None)
    command = ["convert", str(tmp_path / "bags"), "--contract", str(path), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as exit_code:
        main([*command, "--images", "png"])
    assert exit_code.value.code == 3
    printed = " ".join(capsys.readouterr().out.split())
    assert f"left out: {tmp_path / 'bags/b'}: " in printed
    assert told in printed
    report = json.loads((tmp_path / "out/meta/maskact/report.json").read_text())
    assert [bag["rows"] for bag in report["bags"]] == [7, 0, 7, 7]


def test_all_bags_are_checked_before_the_first_is_read_and_all_offenders_are_listed(tmp_path, monkeypatch):
    for name in ("a", "b"):
        without_commands(tmp_path / "bags" / name)
    bags.write(tmp_path / "bags/c", bags.recording(4, without=["/arm/image"]), compress="FILE")  # metadata.yaml tells
    monkeypatch.setattr("maskact_ros.data.bags.bag.Bag.messages", None)
    with pytest.raises(MaskACTError) as caught:
        convert([tmp_path / "bags"], Contract.from_yaml(bags.contract(tmp_path)), tmp_path / "out")
    first, *lines = str(caught.value).splitlines()
    assert first == "none of 3 bags gives an episode"
    assert not list(tmp_path.glob(".out*"))
    assert [line.split("bags/")[1][:1] for line in lines] == ["a", "b", "c"]
    assert "has no /arm/image" in lines[2]


def test_the_summary_says_of_each_bag_how_many_pictures_became_rows_and_why(tmp_path, capsys):
    messages = bags.recording(20)
    pictures = [message for message in messages if message[0] == "/arm/image"]
    bags.write(tmp_path / "bags/whole", messages)
    bags.write(tmp_path / "bags/gappy", [m for m in messages if not any(m is pictures[i] for i in (4, 6, 9))])
    path = bags.contract(tmp_path, shortest_episode_s=0.4)
    with pytest.raises(SystemExit) as exit_code:
        main(["convert", str(tmp_path / "bags"), "--contract", str(path), "--out", str(tmp_path / "out")])
    assert exit_code.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "34 of 37" in printed.replace(" │ ", " ")
    assert "gappy: 14 of 17 pictures became rows; 3: in an episode that is too short; 3 gaps: no picture" in printed
    assert "whole: " not in printed
