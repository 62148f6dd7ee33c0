"""Losses of several peers: none is overwritten by another, and none is forgotten because another one is found."""

import itertools

import pytest

from maskact_ros.control.lost_peers import LostPeers, gone

MS = 1_000_000
PATIENCE_NS = 400 * MS


def test_of_two_that_are_lost_each_is_due_in_its_own_time():
    lost = LostPeers()
    lost.note("camera_encoder", 1000 * MS)
    lost.note("inference", 1300 * MS)
    assert lost.due(1400 * MS, PATIENCE_NS) == []
    assert lost.due(1401 * MS, PATIENCE_NS) == ["camera_encoder"]
    assert lost.due(1700 * MS, PATIENCE_NS) == []
    assert lost.due(1750 * MS, PATIENCE_NS) == ["inference"]
    assert lost.due(9999 * MS, PATIENCE_NS) == []


@pytest.mark.parametrize(("back", "away"), [*itertools.permutations(["camera_encoder", "inference"])])
def test_one_that_is_found_does_not_bring_the_other_back(back, away):
    for order in itertools.permutations([back, away]):
        lost = LostPeers()
        for at, name in enumerate(order):
            lost.note(name, at * 50 * MS)
        lost.found(back)
        assert lost.due(500 * MS, PATIENCE_NS) == [away]


def test_a_loss_that_is_noted_again_is_as_old_as_the_first():
    lost = LostPeers()
    for at_ns in range(0, 400 * MS, 90 * MS):
        lost.note("inference", at_ns)
    assert lost.due(401 * MS, PATIENCE_NS) == ["inference"]


def test_who_is_found_in_time_and_lost_again_gets_the_whole_patience_again():
    lost = LostPeers()
    lost.note("inference", 0)
    lost.found("inference")
    assert lost.due(9999 * MS, PATIENCE_NS) == []
    lost.note("inference", 10_000 * MS)
    assert lost.due(10_300 * MS, PATIENCE_NS) == []
    assert lost.due(10_300 * MS, 100 * MS) == ["inference"]  # an arm that does not move waits less


def test_both_are_named_when_both_are_gone():
    lost = LostPeers()
    lost.note("inference", 0)
    lost.note("camera_encoder", 0)
    assert gone(lost.due(500 * MS, PATIENCE_NS)) == ("camera_encoder and inference are gone; reset and enable to go on")
    assert gone(["inference"]) == "inference is gone; reset and enable to go on"
