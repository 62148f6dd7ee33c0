"""Pictures, joint states and commands are stamped by one clock, or a user is told how far they are apart."""

import json

import pytest
from support import bags

from maskact_ros.core.errors import MaskACTError
from maskact_ros.data.bags.contract import Contract
from maskact_ros.data.bags.convert import convert
from maskact_ros.data.bags.latency import Latency
from maskact_ros.data.inspection.inspection import inspect
from maskact_ros.data.inspection.validate import validate

ROWS = 60
RECEIVED_LATE_S = 0.03  # as pictures of `bags.recording` are


def shifted(topic, shift_s, *, rows=ROWS):
    """A recording in which a topic's headers are off by `shift_s(n)` seconds, n counting its messages."""
    messages, number = [], 0
    for named, at, message in bags.recording(rows, without=["/arm/mask"]):
        if named == topic:
            stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
            message.header = bags.header(stamp_ns + round(shift_s(number) * 1e9))
            number += 1
        messages.append((named, at, message))
    return messages


@pytest.fixture
def converted(tmp_path):
    """Converts messages without masks; returns what its report says of the bag."""

    def of(messages, *, accept_latency=False, **changes):
        bag = bags.write(tmp_path / "bag", messages)
        contract = Contract.from_yaml(bags.contract(tmp_path / "setup", masks=None, **changes))
        convert([bag], contract, tmp_path / "out", pictures="png", accept_latency=accept_latency)
        return json.loads((tmp_path / "out/meta/maskact/report.json").read_text())["bags"][0]

    return of


@pytest.mark.parametrize(
    ("topic", "shift_s", "told"),
    [
        ("/arm/image", lambda n: -4.2, "its stamps are 4.23 s older than their receipt, while /arm/joints's are 0 ms"),
        ("/arm/image", lambda n: -0.3, "its stamps are 330 ms older than their receipt"),
        ("/arm/image", lambda n: 0.07, "its stamps are 40 ms later than their receipt, which is impossible with one"),
        ("/arm/joints", lambda n: 0.25, "/arm/joints: its stamps are 250 ms later than their receipt, which is imposs"),
        ("/arm/joints", lambda n: -0.6, "/arm/joints: its stamps are 600 ms older than their receipt"),
        ("/arm/image", lambda n: -0.02 * n * 0.1, "its stamps drift by about 20 ms a second"),
        ("/arm/image", lambda n: 0.7 * (n < 30) - 0.7, "its stamps jump, by up to 730 ms"),
    ],
)
def test_streams_by_two_clocks_are_told_with_size_and_remedy(converted, topic, shift_s, told):
    with pytest.raises(MaskACTError) as caught:
        converted(shifted(topic, shift_s))
    section = "images" if topic == "/arm/image" else "state"
    assert f"bag: {topic}: " in str(caught.value)
    assert told in str(caught.value)
    assert f"remedy is {section}: stamp: receipt; --accept-latency converts it" in str(caught.value)


@pytest.mark.parametrize("topic", ["/arm/image", "/arm/joints"])
def test_stamps_that_never_change_are_told_and_cannot_be_accepted(converted, topic):
    section = "images" if topic == "/arm/image" else "state"
    every_s = 0.1 if topic == "/arm/image" else 0.05
    with pytest.raises(
        MaskACTError, match=f"{topic}: its messages all carry the same stamp.*{section}: stamp: receipt"
    ):
        converted(shifted(topic, lambda n: -every_s * n, rows=40), accept_latency=True)


def test_what_the_contract_stamps_by_receipt_may_have_any_clock(converted):
    told = converted(shifted("/arm/image", lambda n: -5.0), images={"stamp": "receipt"})
    assert told["rows"] == ROWS
    assert "/arm/image" not in told["latency"]


@pytest.mark.parametrize(
    "shift_s", [lambda n: 0, lambda n: -0.05, lambda n: 0.02 * (n % 7 == 0), lambda n: -1.5 * (n == 9)]
)
def test_a_latency_within_the_tolerance_jitter_and_a_single_odd_stamp_are_no_two_clocks(converted, shift_s):
    told = converted(shifted("/arm/image", shift_s))
    assert "clocks_apart" not in told
    assert told["rows"] > 40


def test_headers_of_all_streams_by_another_clock_are_one_clock_where_nothing_goes_by_receipt(converted):
    messages = [message for message in shifted("/arm/image", lambda n: 77.0) if message[0] != "/arm/command"]
    for topic, _, message in messages:
        if topic == "/arm/joints":
            message.header.stamp.sec += 77
    assert converted(messages, action={"source": "future_state"})["rows"] == ROWS


def test_the_report_tells_each_streams_latency_and_drift(converted):
    told = converted(shifted("/arm/image", lambda n: -0.0001 * n))
    assert told["latency"]["/arm/joints"]["p50_ms"] == pytest.approx(0, abs=0.1)
    image = told["latency"]["/arm/image"]
    assert image["messages"] == ROWS
    assert image["p50_ms"] == pytest.approx(1e3 * RECEIVED_LATE_S + 3, abs=0.5)
    assert image["p95_ms"] == pytest.approx(1e3 * RECEIVED_LATE_S + 5.6, abs=0.5)
    assert image["drift_ms_per_s"] == pytest.approx(1, abs=0.05)


def test_what_was_accepted_is_said_by_validate_and_inspect(converted, tmp_path):
    assert converted(shifted("/arm/image", lambda n: -0.4), accept_latency=True)["rows"] > 0
    remarks = [str(item) for item in validate(tmp_path / "out") if not isinstance(item, int)]
    assert any("latency of /arm/image, from stamp to receipt, at most: p50 430.0 ms" in remark for remark in remarks)
    assert any("note: bag: /arm/image: its stamps are 430 ms older" in remark for remark in remarks)
    inspect(tmp_path / "out", tmp_path / "page.html", episodes=1)
    assert "its stamps are 430 ms older than their receipt" in (tmp_path / "page.html").read_text()


def test_memory_of_a_latency_does_not_grow_and_its_figures_stay(tmp_path):
    latency = Latency()
    for n in range(100_000):
        latency.add(n * 1_000_000, n * 1_000_000 - 7_000_000)
    assert len(latency._samples) < 5000
    assert latency.figures() == {"messages": 100_000, "p50_ms": 7.0, "p95_ms": 7.0, "drift_ms_per_s": 0.0}


def test_a_difference_is_told_before_the_whole_bag_is_read(converted, monkeypatch):
    read = []
    monkeypatch.setattr(
        "maskact_ros.data.bags.align_bag.rgb_from_message", lambda message: read.append(1) or bags.picture(0)
    )
    with pytest.raises(MaskACTError, match="250 ms later"):
        converted(shifted("/arm/joints", lambda n: 0.25, rows=400))
    assert len(read) < 150
