"""Nodes killed, stopped and continued, restarted: noticed at once, and nothing resumes by itself."""

import os
import re
import signal
import time

import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage
from support.bringup_processes import MASKACT, NODES, node_pids, untrained
from support.chain import FOLLOWED_S, Chain
from support.node_bench import BEST_EFFORT, Program, set_points, state_of
from support.soundness import Pulse, assert_sound, story
from support.stand_ins import Witness

from maskact_ros.nodes.ros.messages import stamp_to_ns
from maskact_ros.nodes.ros.peers import LASTING_S

pytestmark = pytest.mark.extended

NOTICED_S = 0.11
BUSY_S = 0.15  # more, where other processes have the cores; the plan, which decides about the arm, lasts longer
HOLD_TIMEOUT_S = 3.0  # the chain's
PLANNERS = ("camera_encoder", "inference")


@pytest.fixture(scope="module")
def running(tmp_path_factory, policy, robot):
    with Chain.start(tmp_path_factory.mktemp("chain"), policy, robot) as opened:
        yield opened


@pytest.fixture
def chain(running):
    running.revive()
    running.probe.wait_for_ok("inference")
    running.move()
    running.probe.wait_for_ok("action_publisher")  # a problem that was there a moment ago is not said again
    yield running
    running.settle()


def said(chain: Chain, program: Program, since: int, *texts: str) -> float:
    """When a node said in its log, from a position on, a line with these texts, by its own (system) clock."""

    def stamp() -> float | None:
        lines = program.output[since:].splitlines()
        stamps = [re.search(r"\[(\d+\.\d+)\]", line) for line in lines if all(text in line for text in texts)]
        return next((float(found[1]) for found in stamps if found), None)

    return chain.probe.wait(stamp, f"{texts} in:\n{program.output[since:]}", within_s=5.0)


def strike(chain: Chain, victim: Program, number: int) -> tuple[float, float]:
    """Send a signal; gives its moment on the system's clock and on the steady one."""
    at_s = time.time(), time.monotonic()
    victim.send(number)
    return at_s


def assert_noticed(chain: Chain, noticed_s: float, struck_s: tuple[float, float], who: str) -> None:
    allowed_s = NOTICED_S + BUSY_S + chain.vision.pulse.worst_s(struck_s[1])
    assert noticed_s - struck_s[0] < allowed_s, (
        f"{who} noticed after {noticed_s - struck_s[0]:.3f} s, allowed {allowed_s:.3f}"
    )


@pytest.mark.parametrize("victim", PLANNERS)
def test_a_killed_planner_is_noticed_at_once_and_its_restart_moves_nothing(chain, phase, victim):
    phase.let_it_move()
    known, position = len(chain.arm.states), len(chain.publisher.output)
    struck_s = strike(chain, chain.vision.programs[victim], signal.SIGKILL)
    assert_noticed(chain, said(chain, chain.publisher, position, victim, "[WARN]"), struck_s, "the publisher")
    chain.wait_for_the_ladder(known)
    lasting_s = said(chain, chain.publisher, position, victim, "[ERROR]", "killed, stopped, or hung") - struck_s[0]
    assert lasting_s > LASTING_S - 0.15, f"an error after {lasting_s:.2f} s already"
    assert victim in state_of(chain.arm.wait_for_rung("fault"))["reason"]
    rungs = chain.rungs_since(known)
    assert rungs[-1] == "fault"
    assert "following" not in rungs
    chain.vision.start_node(victim)
    chain.vision.wait_for_chunks(3)
    chain.arm.assert_still(50)
    assert chain.rung == "fault"
    chain.engage()


@pytest.mark.parametrize("victim", PLANNERS)
def test_a_stopped_planner_that_goes_on_makes_no_burst_and_moves_nothing(chain, phase, victim):
    features = chain.probe.hear(CompressedImage, "features", BEST_EFFORT)
    phase.let_it_move()
    known, position = len(chain.arm.states), len(chain.publisher.output)
    struck_s = strike(chain, chain.vision.programs[victim], signal.SIGSTOP)
    assert_noticed(chain, said(chain, chain.publisher, position, victim), struck_s, "the publisher")
    stopped_s = phase.random.uniform(0.2, 2.0)
    time.sleep(max(0.0, stopped_s - (time.monotonic() - struck_s[1])))
    chunks, seen = len(chain.vision.chunks), len(features)
    chain.vision.programs[victim].send(signal.SIGCONT)
    time.sleep(0.2)
    # It may plan anew for each that it hears of again, but from no image twice, and from none that waited.
    stamps = [stamp_to_ns(heard.message.header.stamp) for heard in chain.vision.chunks[chunks:]]
    assert stamps == sorted(set(stamps))
    assert len(stamps) <= 0.2 * 30 + 3, "a burst of chunks"
    assert len(features) - seen <= 0.2 * 30 + 3, "a burst of features"
    chain.arm.wait_for_commands(100)
    rungs = chain.rungs_since(known)
    if stopped_s < FOLLOWED_S + 0.1 and "decelerating" not in rungs and "fault" not in rungs:
        return  # it was back before the plan was used up: the arm never stopped, so nothing resumed
    assert victim in state_of(chain.arm.wait_for_rung("fault"))["reason"]
    rungs = chain.rungs_since(known)
    assert "following" not in rungs, story(chain.arm.states[known:])
    chain.vision.wait_for_chunks(3)
    chain.arm.assert_still(50)
    assert chain.rung == "fault"
    chain.engage()


def test_a_killed_publisher_is_noticed_and_restarted_it_is_silent_until_it_engages_where_the_arm_is(chain, phase):
    phase.let_it_move()
    inference = chain.vision.programs["inference"]
    position = len(inference.output)
    struck_s = strike(chain, chain.publisher, signal.SIGKILL)
    assert_noticed(chain, said(chain, inference, position, "action_publisher"), struck_s, "inference")
    states = len(chain.arm.states)
    chain.publisher = chain.start_publisher(chain.vision.bench)
    chain.probe.wait(lambda: len(chain.arm.states) > states, "the new publisher's state")
    assert state_of(chain.arm.states[-1])["rung"] == "idle"
    chain.vision.wait_for_chunks(3)
    assert chain.arm.commands[-1].sent_ns < struck_s[0] * 1e9 + 10e6, "commands after its death, not enabled"
    pose = set_points(chain.arm.commands[-1:])[0]
    count = len(chain.arm.commands)
    chain.engage()
    assert np.abs(set_points(chain.arm.commands[count:])[0] - pose).max() < 5e-3


def test_a_stopped_publisher_that_goes_on_makes_no_burst_and_begins_from_rest(chain, phase):
    phase.let_it_move()
    known, count = len(chain.arm.states), len(chain.arm.commands)
    chain.publisher.send(signal.SIGSTOP)
    time.sleep(phase.random.uniform(0.15, 2.0))
    chain.publisher.send(signal.SIGCONT)
    chain.probe.wait(lambda: len(chain.arm.states) > known, "the publisher to notice")
    chain.arm.wait_for_commands(30)
    count -= 1  # the last before it, if it was stopped at once
    sent_s = np.array([heard.sent_ns for heard in chain.arm.commands[count:]]) / 1e9
    at = int(np.argmax(np.diff(sent_s))) + 1  # the first after it
    soon = (sent_s[at:] < sent_s[at] + 0.1).sum()
    assert soon <= 0.1 * 100 + 2, f"a burst of {soon} commands"
    step = np.diff(set_points(chain.arm.commands[count + at - 3 : count + at + 3]), axis=0)
    assert np.abs(step[2]).max() < 5e-3, f"it does not begin where the arm stopped; the steps about it: {step.tolist()}"


def test_a_publisher_that_stood_still_for_longer_than_it_would_hold_is_silent_until_it_is_enabled_again(chain, phase):
    phase.let_it_move()
    chain.publisher.send(signal.SIGSTOP)
    time.sleep(HOLD_TIMEOUT_S + phase.random.uniform(0.2, 2.0))
    count = len(chain.arm.commands)
    chain.publisher.send(signal.SIGCONT)
    reason = state_of(chain.arm.wait_for_rung("idle"))["reason"]
    assert re.fullmatch(r"the command loop stood still for \d\.\d s; enable it again", reason)
    chain.vision.wait_for_chunks(3)
    assert len(chain.arm.commands) <= count + 1, "commands, beside one that was on its way when it was stopped"
    assert chain.rung == "idle"
    chain.engage()


def test_a_bringup_whose_publisher_is_killed_says_so_at_once_and_ends(bench, policy, robot, phase, tmp_path):
    witness = Witness(bench.probe)
    bringup = bench.run([*MASKACT, "bringup", *untrained(policy, tmp_path)])
    for name in NODES:
        bench.wait_until_active(name, bringup)
    bench.probe.wait(lambda: bench.probe.enable().success, "being enabled")
    witness.wait_for_rung("following")
    phase.let_it_move()
    pulse = Pulse(bench.probe)
    publisher = node_pids(bringup.pid)["action_publisher"]
    struck_s = time.monotonic()
    os.kill(publisher, signal.SIGKILL)
    sentence = "action_publisher ended by itself (signal SIGKILL); no more commands come"
    while sentence not in bringup.output:  # a bringup's own lines have no stamps
        assert time.monotonic() - struck_s < 5.0, bringup.output
        time.sleep(0.002)
    took_s, allowed_s = time.monotonic() - struck_s, NOTICED_S + pulse.worst_s(struck_s)
    pulse.close()
    assert took_s < allowed_s, f"bringup noticed after {took_s:.3f} s, allowed {allowed_s:.3f}"
    assert bringup.wait(within_s=10.0) == 1
    assert_sound(witness.commands, robot)
