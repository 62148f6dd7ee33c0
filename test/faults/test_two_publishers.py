"""Two action publishers for one robot: both say so, the second does not engage, the first goes on."""

import signal

import pytest
from support.fault_rig import REMAPPINGS, Rig
from support.node_bench import Probe
from support.soundness import story

pytestmark = pytest.mark.extended

OTHER = "another_publisher"


@pytest.fixture(scope="module")
def running(module_bench, robot):
    rig = Rig.start(module_bench, robot)
    yield rig
    rig.close()


@pytest.fixture
def rig(running):
    running.move()
    yield running
    running.settle()
    running.probe.wait_for_ok("action_publisher")


def told(probe: Probe, node: str) -> bool:
    return bool(probe.reports(node)) and "another action publisher" in probe.reports(node)[-1].message


def test_a_second_publisher_is_reported_by_both_and_not_enabled(rig, phase):
    bench, probe = rig.bench, rig.probe
    phase.let_it_move()
    known = len(rig.arm.states)
    said = len(rig.publisher.output)
    second = bench.start_active("action_publisher", name=OTHER, remappings=REMAPPINGS | {"state": "another_state"})
    try:
        probe.wait(lambda: told(probe, OTHER) and told(probe, "action_publisher"), "both to say so on /diagnostics")
        response = probe.enable(node=OTHER)
        assert not response.success
        assert "another action publisher" in response.message, response.message
        rig.wait_for_line("another action publisher", said)
        rig.arm.wait_for_commands(100)
        assert rig.rungs_since(known) == [], story(rig.arm.states[known:])
    finally:
        second.send(signal.SIGKILL)
