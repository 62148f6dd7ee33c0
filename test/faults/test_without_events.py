"""On an RMW without liveliness events a killed or stopped node is noticed by its messages; the rest is the same.

No such RMW is on the package index: the nodes run on theirs, and rclpy is made to refuse each event as it does there.
"""

import re
import signal

import pytest
from support.chain import Chain
from support.node_bench import state_of
from support.stand_ins import without_events
from test_killed import said, strike

from maskact_ros.nodes.ros.peers import SILENT_TURNS, TURN_S

pytestmark = pytest.mark.extended

NOTICED_S = 0.8


@pytest.fixture(scope="module")
def running(tmp_path_factory, policy, robot):
    folder = tmp_path_factory.mktemp("no_events")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", without_events(folder))
        with Chain.start(folder, policy, robot) as opened:
            yield opened


@pytest.fixture
def chain(running):
    running.revive()
    running.probe.wait_for_ok("inference")
    running.move()
    running.probe.wait_for_ok("action_publisher")
    yield running
    running.settle()


def assert_noticed(chain: Chain, noticed_s: float, struck_s: tuple[float, float]) -> None:
    took_s, allowed_s = noticed_s - struck_s[0], NOTICED_S + chain.vision.pulse.worst_s(struck_s[1])
    assert took_s < allowed_s, f"noticed after {took_s:.3f} s, allowed {allowed_s:.3f}"
    assert took_s > (SILENT_TURNS - 2) * TURN_S, "that was an event"


def test_the_nodes_say_that_messages_tell_of_life(chain):
    for program in (chain.publisher, *chain.vision.programs.values()):
        assert program.output.count("liveliness by messages, as rmw_") == 1, program.output
    report = chain.probe.wait_for_ok("action_publisher")
    assert re.fullmatch(r"by messages: rmw_\w+ has no liveliness events", report.values["liveliness"])


@pytest.mark.parametrize(("victim", "number"), [("inference", signal.SIGKILL), ("camera_encoder", signal.SIGSTOP)])
def test_a_lost_planner_is_noticed_in_time_is_a_fault_and_is_found_again(chain, phase, victim, number):
    phase.let_it_move()
    position = len(chain.publisher.output)
    struck_s = strike(chain, chain.vision.programs[victim], number)
    noticed_s = said(chain, chain.publisher, position, victim, "[ERROR]", "killed, stopped, or hung")
    assert_noticed(chain, noticed_s, struck_s)
    assert victim in state_of(chain.arm.wait_for_rung("fault"))["reason"]
    assert not chain.probe.reset("action_publisher").success
    chain.revive()
    chain.vision.wait_for_chunks(3)
    chain.probe.wait(lambda: f"{victim} lives again" in chain.publisher.output[position:], "it to be found again")
    chain.arm.assert_still(50)
    assert chain.rung == "fault"
    chain.engage()


def test_a_killed_publisher_is_noticed_too_and_found_again(chain):
    inference = chain.vision.programs["inference"]
    position = len(inference.output)
    struck_s = strike(chain, chain.publisher, signal.SIGKILL)
    assert_noticed(chain, said(chain, inference, position, "action_publisher", "killed"), struck_s)
    chain.revive()
    chain.probe.wait(lambda: "action_publisher lives again" in inference.output[position:], "it to be found again")
