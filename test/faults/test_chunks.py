"""Chunks that are late, overlapping, empty, out of order, from the past or from the future: as the ladder says."""

import numpy as np
import pytest
from support.fault_rig import EVERY_S, Rig
from support.proxy import altered, delayed, duplicated, reordered, restamped


@pytest.fixture(scope="module")
def running(module_bench, robot):
    rig = Rig.start(module_bench, robot, hold_timeout_s=0.5)
    yield rig
    rig.close()


@pytest.fixture
def rig(running):
    running.move()
    yield running
    running.settle()
    running.assert_never_an_older_plan()


def _emptied(message) -> None:
    message.points = []


@pytest.mark.parametrize("kind", ["empty", "from the past", "from the future"])
def test_chunks_that_cannot_be_followed_lead_down_the_ladder(rig, phase, kind):
    fault = {
        "empty": altered(_emptied),
        "from the past": restamped(-5.0),
        "from the future": restamped(+5.0),
    }[kind]
    phase.let_it_move()
    known = len(rig.arm.states)
    rig.chunks.fault = fault
    rig.arm.wait_for_rung("fault")
    assert rig.rungs_since(known) == ["remaining", "decelerating", "holding", "fault"]
    rig.heal()
    rig.arm.assert_still(30)  # good chunks come again, and nothing resumes by itself


@pytest.mark.extended
@pytest.mark.parametrize("kind", ["overlapping", "out of order"])
def test_the_newest_plan_is_followed(rig, phase, kind):
    phase.let_it_move()
    known = len(rig.arm.states)
    rig.chunks.fault = duplicated if kind == "overlapping" else reordered(3 * EVERY_S, phase.random)
    rig.arm.wait_for_commands(200)
    assert set(rig.rungs_since(known)) <= {"following", "remaining"}
    rig.heal()
    rig.arm.wait_for_rung("following")


@pytest.mark.extended
def test_late_chunks_are_followed_as_long_as_they_are_fresh_enough(rig, phase):
    times = phase.pick((1, 10, 2, 9))
    phase.let_it_move()
    rig.chunks.fault = delayed(times * EVERY_S)
    rig.arm.wait_for_commands(350)
    rungs = {rig.rung}
    for _ in range(20):
        rig.arm.wait_for_commands(5)
        rungs.add(rig.rung)
    assert rungs <= ({"following", "remaining"} if times <= 2 else {"decelerating", "holding", "fault"}), rungs
    rig.heal()
    if "fault" not in rungs and rig.rung != "fault":
        rig.arm.wait_for_rung("following")
    assert np.isfinite(rig.pose).all()
