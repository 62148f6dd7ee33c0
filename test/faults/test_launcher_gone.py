"""The launcher is killed while the arm moves: the arm comes to rest first, then all nodes end; none is left behind."""

import json
import os
import signal
import sys
import time

import pytest
from support.bringup_processes import MASKACT, NODES, node_pids, untrained
from support.node_bench import Bench, Program
from support.soundness import Pulse, assert_ends_at_rest, assert_sound, periods_to_stop, rest_index
from support.stand_ins import Witness

from maskact_ros.tools.bringup import BringupArguments, processes

pytestmark = pytest.mark.extended

NOTICED_S = 0.2  # until a node has heard that its launcher is gone, and looked
ENDED_S = 3.0  # from when the arm rests until the last node has ended
# As `ros2 launch` does it: children of its main thread, in its session, with a terminal of their own to write to.
LAUNCH = """
import json, os, pty, select, subprocess, sys
from maskact_ros.nodes.ros.launcher import launcher_variable
masters = []
for command in json.loads(sys.argv[1]):
    master, slave = pty.openpty()
    environment = os.environ | launcher_variable()
    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    masters.append(master)
while True:
    for master in select.select(masters, [], [])[0]:
        os.write(1, os.read(master, 4096))
"""


def launch_of(bench: Bench, folder, policy) -> Program:
    described = processes(
        BringupArguments(policy_path=str(policy), sim=True, params_file=untrained(policy, folder)[-1])
    )
    return bench.run([sys.executable, "-c", LAUNCH, json.dumps([process.command(folder) for process in described])])


def bringup_of(bench: Bench, folder, policy) -> Program:
    return bench.run([*MASKACT, "bringup", *untrained(policy, folder)])


def lives(pid: int) -> bool:
    """Whether a process runs; one whose parent is gone may stay as a zombie where nobody asks for it."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("start", "signals"),
    [(launch_of, (signal.SIGTERM, signal.SIGKILL, signal.SIGHUP)), (bringup_of, (signal.SIGKILL,))],
    ids=["launch", "bringup"],
)
def test_the_arm_comes_to_rest_and_then_no_node_is_left(bench, policy, robot, phase, tmp_path, start, signals):
    witness = Witness(bench.probe)
    launcher = start(bench, tmp_path, policy)
    for name in NODES:
        bench.wait_until_active(name, launcher)
    pids = node_pids(launcher.pid)
    assert set(pids) == set(NODES)
    try:
        bench.probe.wait(lambda: bench.probe.enable().success, "being enabled")
        witness.wait_for_rung("following")
        witness.wait_for_commands(30)
        phase.let_it_move()
        pulse = Pulse(bench.probe)
        struck_s = time.monotonic()
        launcher.send(phase.pick(signals))
        ended_s = ends(pids, struck_s + 15.0)
        late_s = pulse.worst_s(struck_s)
        pulse.close()
    finally:
        for pid in filter(lives, pids.values()):
            os.kill(pid, signal.SIGKILL)
    assert set(ended_s) == set(NODES), f"left behind: {set(NODES) - set(ended_s)}"
    offset_s = time.time() - time.monotonic()
    began = next(i for i, heard in enumerate(witness.commands) if heard.sent_ns / 1e9 - offset_s > struck_s)
    rest = rest_index(witness.commands, began)
    assert rest is not None, "the arm was still moving when its commands ended"
    rest_s = witness.commands[rest].sent_ns / 1e9 - offset_s
    allowed_s = NOTICED_S + periods_to_stop(robot) / 100 + late_s
    assert rest_s - struck_s < allowed_s, f"the arm rested after {rest_s - struck_s:.2f} s, allowed {allowed_s:.2f}"
    assert rest_s < min(ended_s.values()), f"not the arm first: {ended_s}, at rest {rest_s}"
    took_s, allowed_s = max(ended_s.values()) - rest_s, ENDED_S + late_s
    assert took_s < allowed_s, f"the last node ended {took_s:.2f} s after the arm, allowed {allowed_s:.2f}"
    assert_sound(witness.commands, robot)
    assert_ends_at_rest(witness.commands)
    assert "Traceback" not in launcher.output


def ends(pids: dict[str, int], until_s: float) -> dict[str, float]:
    """When each node ended, by the steady clock; without those that have not by then."""
    ended_s: dict[str, float] = {}
    while len(ended_s) < len(pids) and time.monotonic() < until_s:
        gone = [name for name, pid in pids.items() if name not in ended_s and not lives(pid)]
        ended_s |= dict.fromkeys(gone, time.monotonic())
        time.sleep(0.005)
    return ended_s
