"""What a node says of itself: exact sums from many threads, windows of time, and a log that no fault can flood."""

import re
import threading
import time
from itertools import pairwise

import pytest
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from support.node_bench import Probe

from maskact_ros.nodes.ros.diagnostics import Diagnostics, _Window
from maskact_ros.tools.isolation import IsolatedDomain


class Speaker:
    """A node with diagnostics, and a probe that hears what it publishes."""

    def __init__(self, domain_id: int, period_s: float):
        self.probe = Probe(domain_id)
        self.node = Node("speaker", context=self.probe.context)
        self.diagnostics = Diagnostics(self.node, period_s=period_s)
        self._executor = SingleThreadedExecutor(context=self.probe.context)
        self._executor.add_node(self.node)

    def report(self, condition=lambda report: True):
        """The first report of those to come for which the condition holds; the node's timer runs meanwhile."""
        known = len(self.probe.reports("speaker"))

        def heard():
            self._executor.spin_once(timeout_sec=0.02)
            return next(filter(condition, self.probe.reports("speaker")[known:]), None)

        return self.probe.wait(heard, "a report")

    def spin(self, until, within_s: float = 30.0) -> None:
        deadline_s = time.monotonic() + within_s
        while not until():
            assert time.monotonic() < deadline_s, f"waited {within_s:g} s in vain"
            self._executor.spin_once(timeout_sec=0.02)

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        self.probe.close()


@pytest.fixture
def domain():
    domain = IsolatedDomain()
    yield domain
    domain.close()


@pytest.fixture
def speaker(domain):
    speaker = Speaker(domain.id, period_s=0.1)
    yield speaker
    speaker.close()


def log_lines(captured: str, *words: str) -> list[str]:
    return [line for line in captured.splitlines() if any(word in line for word in words)]


def test_percentiles_forget_what_is_older_than_the_window():
    window = _Window()
    window.queue.extend([1000.0] * 50)
    assert window.move(now_s=0.0, window_s=10.0) == 50
    window.queue.extend([1.0] * 50)
    assert window.move(now_s=9.0, window_s=10.0) == 50
    assert window.numbers().max() == 1000.0
    assert window.move(now_s=11.0, window_s=10.0) == 0
    assert window.numbers().tolist() == [1.0] * 50


def test_what_is_recorded_while_nobody_publishes_stays_bounded():
    window = _Window()
    for _ in range(3):
        window.queue.extend(range(100_000))
    assert window.move(now_s=0.0, window_s=10.0) == 100_000


def test_no_record_of_many_threads_is_lost(speaker):
    def record():
        for i in range(5000):
            speaker.diagnostics.event("commands")
            speaker.diagnostics.duration("plan", float(i))
            speaker.diagnostics.count("drops", 2)

    threads = [threading.Thread(target=record) for _ in range(4)]
    for thread in threads:
        thread.start()
    speaker.spin(lambda: not any(thread.is_alive() for thread in threads))
    values = speaker.report(lambda report: report.values.get("drops") == "40000").values
    assert values["commands_total"] == values["plan_total"] == "20000"
    assert float(values["commands_hz"]) > 0
    assert float(values["plan_ms_p50"]) == pytest.approx(2499.5, abs=1)
    assert float(values["plan_ms_p99"]) == pytest.approx(4949, abs=2)


def test_recording_waits_for_nobody(speaker):
    def record():
        speaker.diagnostics.event("commands")
        speaker.diagnostics.duration("plan", 1.0)
        speaker.diagnostics.count("drops")
        speaker.diagnostics.value("state", "active")
        speaker.diagnostics.solved("never wrong")

    with speaker.diagnostics._lock:  # as if another thread were kept from running at the worst moment
        thread = threading.Thread(target=record, daemon=True)
        thread.start()
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_numbers_that_are_none_and_texts_that_are_no_utf8_are_reported(speaker):
    for value in (float("nan"), float("inf"), float("-inf"), 3.0):
        speaker.diagnostics.duration("plan", value)
    speaker.diagnostics.duration("stuck", float("nan"))
    speaker.diagnostics.value("confidence", float("nan"))
    speaker.diagnostics.value("file", "weights\ud800.safetensors")
    speaker.diagnostics.problem("weights", "no \ud800 and no \0 in here")
    report = speaker.report(lambda report: "confidence" in report.values)
    assert report.message == "no ? and no ? in here"
    assert report.values["plan_ms_p99"] == "3.00"
    assert report.values["plan_total"] == "4"
    assert report.values["stuck_total"] == "1"
    assert "stuck_ms_p50" not in report.values
    assert report.values["confidence"] == "nan"
    assert report.values["file"] == "weights?.safetensors"


def test_a_problem_whose_number_changes_is_logged_once(speaker, capfd):
    for number in (0.1, 25, -3.0, 1e-07, 1e308, float("nan"), float("inf"), float("-inf")):
        speaker.diagnostics.problem("stamp", f"the stamp is {number} s ahead")
        speaker.report(lambda report: "ahead" in report.message)
    assert len(log_lines(capfd.readouterr().err, "ahead")) == 1


def test_a_problem_that_flaps_between_texts_is_logged_once_a_second(speaker, capfd):
    began_s = time.monotonic()

    def flap():
        for text in ("too dark", "too bright"):
            speaker.diagnostics.problem("image", f"the image is {text}")
        return time.monotonic() > began_s + 3.2

    speaker.spin(flap)
    speaker.diagnostics.problem("other", "another topic waits for nothing")
    log = capfd.readouterr().err
    assert "another topic waits for nothing" in log
    stamps = [float(stamp) for stamp in re.findall(r"\[(\d+\.\d+)\].*the image is", log)]
    assert len(stamps) >= 3
    assert all(later - earlier > 0.95 for earlier, later in pairwise(stamps))


def test_a_problem_that_had_to_wait_for_its_line_gets_it_though_nobody_repeats_it(speaker, capfd):
    speaker.diagnostics.problem("image", "the image is too dark")
    speaker.diagnostics.problem("image", "the image is too bright")
    heard = []

    def said():
        heard.append(capfd.readouterr().err)
        return "too bright" in "".join(heard)

    speaker.spin(said)
    assert log_lines("".join(heard), "too dark")


def test_a_problem_that_is_over_is_taken_back_once(speaker, capfd):
    speaker.diagnostics.problem("image", "the image is too dark", Diagnostics.WARN)
    assert speaker.report(lambda report: report.level == Diagnostics.WARN).message == "the image is too dark"
    speaker.diagnostics.solved("image")
    assert speaker.report(lambda report: report.level == Diagnostics.OK).message == "ok"
    assert len(log_lines(capfd.readouterr().err, "solved: the image is too dark")) == 1
