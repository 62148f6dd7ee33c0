"""`maskact bringup` and `maskact demo` as a user runs them: they start all, stop all, and say which process ended."""

import json
import os
import shutil
import signal
import time
from dataclasses import replace

import av
import cv2
import pytest
from support.bringup_processes import MASKACT, NODES, node_pids, untrained
from support.node_bench import NAMESPACE, state_of
from support.soundness import assert_ends_at_rest, assert_sound
from support.stand_ins import Arm, Witness

from maskact_ros.core.checkpoint import WEIGHTS, CheckpointInfo, PolicySpec, write_checkpoint
from maskact_ros.core.outputs import MARK
from maskact_ros.tools.bringup import consequence

ENDED_S = 6.0  # half of that on an idle machine; other processes may take the other half


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture
def moving(bench, policy, tmp_path):
    """A bringup with the simulated robot, its arm in motion; and the processes of its nodes."""
    witness = Witness(bench.probe)
    bringup = bench.run([*MASKACT, "bringup", *untrained(policy, tmp_path)])
    for name in NODES:
        bench.wait_until_active(name, bringup)
    bench.probe.wait(lambda: bench.probe.enable().success, "being enabled")
    witness.wait_for_rung("following")
    witness.wait_for_commands(50)
    pids = node_pids(bringup.pid)
    assert set(pids) == set(NODES)
    return bringup, witness, pids


def test_ctrl_c_brings_the_arm_to_rest_and_ends_all_processes_soon(moving, robot):
    bringup, witness, pids = moving
    began_s = time.monotonic()
    bringup.send(signal.SIGINT)
    assert bringup.wait() == 0
    assert time.monotonic() - began_s < ENDED_S
    assert all(is_gone(pid) for pid in pids.values())
    assert_sound(witness.commands, robot)
    assert_ends_at_rest(witness.commands)
    assert "Traceback" not in bringup.output


def test_when_a_node_dies_it_is_said_at_once_and_bringup_ends_after_the_arm_holds(moving, robot):
    bringup, witness, pids = moving
    os.kill(pids["inference"], signal.SIGKILL)
    assert bringup.wait(within_s=10.0) == 1
    assert all(is_gone(pid) for pid in pids.values())
    said = f"inference ended by itself (signal SIGKILL); {consequence('inference')}"
    assert said in bringup.output
    at_last = bringup.output.index("bringup ends because inference ended (signal SIGKILL); its last lines:")
    assert bringup.output.index(said) < at_last
    assert_sound(witness.commands, robot)
    assert_ends_at_rest(witness.commands)
    # By bringup, or on a busy machine before that by the publisher itself, which has lost its planner.
    assert state_of(witness.states[-1])["rung"] in ("disabled", "fault")
    assert "Traceback" not in bringup.output


@pytest.mark.extended
def test_when_the_action_publisher_dies_nobody_claims_that_the_arm_was_braked(moving):
    bringup, _, pids = moving
    os.kill(pids["action_publisher"], signal.SIGKILL)
    assert bringup.wait(within_s=10.0) == 1
    assert all(is_gone(pid) for pid in pids.values())
    assert "action_publisher ended by itself (signal SIGKILL); no more commands come" in bringup.output
    assert "brakes" not in bringup.output


@pytest.mark.extended
def test_in_simulated_time_the_arm_moves_just_as_well(bench, policy, robot, tmp_path):
    witness = Witness(bench.probe)
    command = [*MASKACT, "bringup", "--use-sim-time", *untrained(policy, tmp_path)]
    bringup = bench.run(command)
    for name in NODES:
        bench.wait_until_active(name, bringup)
    bench.probe.wait(lambda: bench.probe.enable().success, "being enabled")
    witness.wait_for_rung("following")
    witness.wait_for_commands(100)
    assert_sound(witness.commands, robot)
    bringup.send(signal.SIGINT)
    assert bringup.wait() == 0


def test_a_node_that_refuses_to_start_ends_the_bringup_with_its_sentence(bench, policy, tmp_path):
    params_file = tmp_path / "maskact.yaml"
    params_file.write_text("/**/camera_encoder:\n  ros__parameters:\n    stamp_source: sunrise\n")
    bringup = bench.run([*MASKACT, "bringup", "--sim", "--policy-path", str(policy), "--params-file", str(params_file)])
    assert bringup.wait(within_s=60.0) == 1
    at_last = bringup.output.index("bringup ends because camera_encoder ended (exit code 1); its last lines:")
    assert "stamp_source is 'sunrise'; allowed: header, receipt" in bringup.output[at_last:]
    assert "Traceback" not in bringup.output


@pytest.mark.extended
def test_ctrl_c_while_the_nodes_still_start_ends_them_without_a_stack_trace(bench, policy):
    bringup = bench.run([*MASKACT, "bringup", "--sim", "--policy-path", str(policy)])
    pids = bench.probe.wait(lambda: len(found := node_pids(bringup.pid)) == len(NODES) and found, "the processes")
    bringup.send(signal.SIGINT)
    assert bringup.wait(within_s=10.0) == 0
    assert all(is_gone(pid) for pid in pids.values())
    assert "Traceback" not in bringup.output


@pytest.mark.extended
def test_the_demonstration_with_the_expert_solves_its_task_and_writes_its_pictures(bench, tmp_path):
    out = tmp_path / "demo"
    cache = str(tmp_path / "cache")
    command = [*MASKACT, "demo", "--expert", "--episodes", "1", "--headless", "--json", "--out", str(out)]
    demo = bench.run(command, XDG_CACHE_HOME=cache)
    assert demo.wait(within_s=110.0) == 0, demo.output
    result = json.loads(demo.output.splitlines()[-1])
    assert list(result) == [
        "episodes",
        "successes",
        "image_rate_hz",
        "chunk_rate_hz",
        "command_rate_hz",
        "image_to_command_ms",
        "frames_dropped",
        "deadline_misses",
    ]
    assert set(result["image_to_command_ms"]) == {"p50", "p95", "p99"}
    assert (result["episodes"], result["successes"]) == (1, 1), demo.output
    assert result["command_rate_hz"] > 0
    assert "Traceback" not in demo.output

    with av.open(str(out / "overlay.mp4")) as video:
        frames = list(video.decode(video=0))
    assert len(frames) > 20
    assert (frames[0].width, frames[0].height) == (640, 480)
    overview = cv2.imread(str(out / "overview.png"))
    assert overview is not None
    assert overview.std() > 10
    assert (out / "log.txt").read_text()


@pytest.mark.extended
def test_a_demonstration_that_ends_before_anything_moved_says_so_and_keeps_earlier_pictures(bench, tmp_path):
    out = tmp_path / "demo"
    out.mkdir()
    earlier = f"of an earlier one, {MARK}"
    (out / "overview.png").write_text(earlier)
    demo = bench.run([*MASKACT, "demo", "--headless", "--out", str(out)], XDG_CACHE_HOME=str(tmp_path / "cache"))
    bench.probe.wait(lambda: (out / "log.txt").exists(), "the log")
    demo.send(signal.SIGINT)
    assert demo.wait(within_s=30.0) == 0, demo.output
    assert "no pictures, as nothing was seen yet" in demo.output
    assert (out / "overview.png").read_text() == earlier
    assert "Traceback" not in demo.output


@pytest.mark.extended
@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--shift", "lite", "lite"),
        ("--seed", "-1", "--seed is -1; allowed: an integer >= 0"),
        ("--episodes", "0", "--episodes is 0; allowed: an integer >= 1"),
        ("--seconds", "nan", "--seconds is nan; allowed: a number > 0"),
        ("--policy-path", "/nowhere", "/nowhere"),
    ],
)
def test_a_demonstration_that_cannot_be_had_is_refused_before_anything_is_written(
    bench, tmp_path, option, value, sentence
):
    out = tmp_path / "demo"
    demo = bench.run([*MASKACT, "demo", "--headless", "--out", str(out), option, value])
    assert demo.wait(within_s=60.0) == 1
    assert sentence in demo.output
    assert "Traceback" not in demo.output
    assert not out.exists()


def test_the_command_line_enables_and_disables(bench, robot):
    arm = Arm(bench.probe, robot)
    bench.start_active("action_publisher")
    arm.wait_for_measurements(5)
    switch = bench.run([*MASKACT, "enable", "--namespace", NAMESPACE])
    assert switch.wait() == 0, switch.output
    assert "enabled; engaging" in switch.output
    assert "nothing publishes /maskact/action_chunk yet" in switch.output
    arm.wait_for_rung("engaging")
    assert bench.run([*MASKACT, "disable", "--namespace", NAMESPACE]).wait() == 0
    arm.wait_for_rung("idle")


def test_a_switch_without_anybody_to_answer_says_where_it_looked(bench):
    switch = bench.run([*MASKACT, "enable", "--namespace", "/nobody"])
    assert switch.wait() == 1
    assert "there is no /nobody/action_publisher/enable within 5 s" in switch.output
    assert "Traceback" not in switch.output


@pytest.mark.extended
def test_the_simulated_robot_is_not_driven_by_another_robots_policy(bench, policy, robot, tmp_path):
    info = CheckpointInfo.read(policy)
    values = {name: getattr(info, name) for name in PolicySpec.__dataclass_fields__}
    faster = tmp_path / "faster"
    other = replace(robot, policy_rate_hz=50.0)
    write_checkpoint(faster, PolicySpec(**values | {"robot": other}), lambda path: shutil.copy(policy / WEIGHTS, path))
    bringup = bench.run([*MASKACT, "bringup", "--sim", "--policy-path", str(faster)])
    assert bringup.wait(within_s=30.0) == 1
    assert "is for another robot: policy_rate_hz: the simulated one has 30, checkpoint 50" in bringup.output
