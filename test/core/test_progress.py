"""Long work without a terminal says now and then how much is done, and how long the rest will take."""

import pytest

from maskact_ros.core import progress
from maskact_ros.core.progress import Progress


@pytest.fixture
def wait(monkeypatch):
    """Lets seconds pass."""
    now_s = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now_s[0])

    def pass_by(seconds):
        now_s[0] += seconds

    return pass_by


@pytest.mark.parametrize(
    ("steps", "left"), [(3, "40 s"), (7, "2 min"), (60, "20 min"), (1000, "5 h 33 min")], ids=lambda value: str(value)
)
def test_a_line_says_how_long_the_rest_will_take(capsys, wait, steps, left):
    with Progress("stage1", steps) as shown:
        wait(20)
        shown.advance(1, "loss 0.5")
    assert capsys.readouterr().err == f"stage1: 1 of {steps}, about {left} left, loss 0.5\n"


def test_a_resumed_run_counts_only_its_own_steps(capsys, wait):
    with Progress("stage1", 100, done=90) as shown:
        wait(20)
        shown.advance(1)
    assert capsys.readouterr().err == "stage1: 91 of 100, about 3 min left\n"


def test_work_of_unknown_length_says_only_what_is_done(capsys, wait):
    with Progress("pictures", None) as shown:
        wait(20)
        shown.advance(7)
    assert capsys.readouterr().err == "pictures: 7\n"


def test_lines_come_now_and_then(capsys, wait):
    with Progress("stage1", 100) as shown:
        for _ in range(100):
            wait(1)
            shown.advance(1)
    assert len(capsys.readouterr().err.splitlines()) == 6
