"""A camera that stops, freezes, drops, delays, reorders, duplicates: no plan of old images, and the ladder in time."""

import time

import pytest
from support.chain import PLANNING_S, Chain
from support.proxy import delayed, dropped, duplicated, frozen, lossy, reordered
from support.soundness import story
from support.vision import MAX_IMAGE_AGE_S

pytestmark = pytest.mark.extended

BUSY_S = 0.05


@pytest.fixture(scope="module")
def running(tmp_path_factory, policy, robot):
    with Chain.start(tmp_path_factory.mktemp("chain"), policy, robot) as opened:
        yield opened


@pytest.fixture
def chain(running):
    running.move()
    yield running
    running.settle()


@pytest.mark.parametrize("kind", ["stops", "delays by more than an image may be old"])
def test_without_fresh_images_what_remains_is_followed_and_then_the_arm_stops_in_time(chain, phase, kind):
    phase.let_it_move()
    known = len(chain.arm.states)
    chain.vision.images.fault = dropped if kind == "stops" else delayed(MAX_IMAGE_AGE_S + PLANNING_S + 0.2)
    chain.wait_for_the_ladder(known)
    chain.arm.wait_for_rung("holding")
    assert chain.rungs_since(known) == ["remaining", "decelerating", "holding"]
    chain.arm.assert_still(30)
    chain.vision.heal()
    chain.arm.wait_for_rung("following")


def test_a_frozen_camera_is_found_out_and_not_planned_from(chain, phase):
    phase.let_it_move()
    known = len(chain.arm.states)
    chain.vision.images.fault = frozen()
    chain.arm.wait_for_rung("holding")
    assert set(chain.rungs_since(known)) == {"remaining", "decelerating", "holding"}
    chain.probe.wait(
        lambda: any("same picture" in p.output or "frozen" in p.output for p in chain.vision.programs.values()),
        "the encoder to say so",
    )
    chain.arm.assert_still(30)
    chain.vision.heal()
    chain.arm.wait_for_rung("following")


@pytest.mark.parametrize("kind", ["drops 30 %", "delays a little", "reorders", "duplicates"])
def test_a_camera_that_is_only_bad_does_not_stop_the_arm(chain, phase, kind):
    phase.let_it_move()
    known, began_s = len(chain.arm.states), time.monotonic()
    chain.vision.images.fault = {
        "drops 30 %": lossy(0.3, phase.random),
        "delays a little": delayed(0.08),
        "reorders": reordered(0.08, phase.random),
        "duplicates": duplicated,
    }[kind]
    chain.arm.wait_for_commands(250)
    # Where the machine itself stood still, so may stand-ins and nodes; that the motion was sound is held in any case.
    if chain.vision.pulse.worst_s(began_s) < BUSY_S:
        assert set(chain.rungs_since(known)) <= {"remaining", "following"}, story(chain.arm.states[known:])
