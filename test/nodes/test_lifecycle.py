"""A managed node's life: walked up and down by its services, asked for other parameters, ended by a signal."""

import json
import signal
import sys
import time
from dataclasses import replace

import pytest
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from std_msgs.msg import Empty
from std_srvs.srv import SetBool
from support.node_bench import LATCHED, SHARED_MEMORY, state_of
from support.soundness import assert_ends_at_rest, assert_sound
from support.stand_ins import Arm, Planner

from benchmarks.usage import Usage

# The stand-in arm is a thread of a busy process.
PATIENT = {"joint_states_timeout_s": 5.0, "following_tolerance_s": 0.0}


def change(probe, node: str, transition: int) -> bool:
    request = ChangeState.Request(transition=Transition(id=transition))
    return probe.call(ChangeState, f"{node}/change_state", request).success


def state_id(probe, node: str) -> int:
    return probe.call(GetState, f"{node}/get_state", GetState.Request()).current_state.id


def start_moving(bench, robot, **parameters):
    """An action publisher that swings a stand-in arm for the next ten seconds."""
    arm, planner = Arm(bench.probe, robot), Planner(bench.probe, robot)
    program = bench.start_active("action_publisher", **PATIENT, **parameters)
    move(bench, arm, planner)
    return program, arm, planner


def move(bench, arm, planner) -> None:
    arm.wait_for_measurements(20)
    bench.probe.wait(lambda: bench.probe.enable().success, "being enabled")
    arm.wait_for_rung("engaging")
    planner.send(planner.swing(10.0))
    arm.wait_for_rung("following")
    arm.wait_for_commands(30)


def test_without_autostart_it_waits_and_is_walked_up_and_down_by_its_services(bench, robot):
    probe = bench.probe
    arm, planner = Arm(probe, robot), Planner(probe, robot)
    program = bench.start("action_publisher", autostart=False, **PATIENT)
    node = "action_publisher"
    probe.wait_for_report(node, lambda report: report.values["state"] == "unconfigured", "unconfigured")
    assert state_id(probe, node) == State.PRIMARY_STATE_UNCONFIGURED
    assert not probe.node.count_publishers("command")

    for _ in range(2):  # up, moving, down; and again
        assert change(probe, node, Transition.TRANSITION_CONFIGURE)
        assert state_id(probe, node) == State.PRIMARY_STATE_INACTIVE
        response = probe.enable()
        assert not response.success
        assert response.message == "the node is not active"
        assert change(probe, node, Transition.TRANSITION_ACTIVATE)
        assert state_id(probe, node) == State.PRIMARY_STATE_ACTIVE
        began = len(arm.commands)
        move(bench, arm, planner)
        assert change(probe, node, Transition.TRANSITION_DEACTIVATE)
        assert_sound(arm.commands[began:], robot)
        assert_ends_at_rest(arm.commands[began:])
        assert change(probe, node, Transition.TRANSITION_CLEANUP)
        assert state_id(probe, node) == State.PRIMARY_STATE_UNCONFIGURED
        probe.wait(lambda: not probe.node.count_publishers("command"), "the command's publisher to go")
    assert program.running
    assert "Traceback" not in program.output


@pytest.mark.extended
@pytest.mark.parametrize("executable", ["camera_encoder", "inference", "sim_robot"])
def test_the_other_nodes_can_be_configured_activated_and_cleaned_up_twice(bench, executable):
    program = bench.start(executable, autostart=False)
    for _ in range(2):
        for step in (
            Transition.TRANSITION_CONFIGURE,
            Transition.TRANSITION_ACTIVATE,
            Transition.TRANSITION_DEACTIVATE,
            Transition.TRANSITION_CLEANUP,
        ):
            assert change(bench.probe, executable, step), program.output
    assert change(bench.probe, executable, Transition.TRANSITION_CONFIGURE)
    program.send(signal.SIGINT)
    assert program.wait() == 0
    assert "Traceback" not in program.output


def test_a_refused_configure_leaves_it_unconfigured_and_says_why(bench, tmp_path):
    program = bench.start("action_publisher", autostart=False, policy_path=str(tmp_path / "nowhere"))
    for _ in range(2):
        assert not change(bench.probe, "action_publisher", Transition.TRANSITION_CONFIGURE)
        assert state_id(bench.probe, "action_publisher") == State.PRIMARY_STATE_UNCONFIGURED
    assert program.running
    assert program.output.count("there is no such folder") == 2
    bench.probe.wait_for_problem("action_publisher", "there is no such folder")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_brakes_a_moving_arm_within_limits_and_ends_the_node_with_code_0_soon(bench, robot, number):
    program, arm, _ = start_moving(bench, robot)
    began_s = time.monotonic()
    program.send(number)
    assert program.wait() == 0
    assert time.monotonic() - began_s < 6.0  # half of that on an idle machine; other processes may take the other half
    assert_sound(arm.commands, robot)
    assert_ends_at_rest(arm.commands)
    assert state_of(arm.states[-1])["reason"] == "the node is leaving"
    assert "Traceback" not in program.output


def test_deactivated_it_cannot_be_enabled_until_it_is_active_again(bench, robot):
    _, arm, planner = start_moving(bench, robot)
    assert change(bench.probe, "action_publisher", Transition.TRANSITION_DEACTIVATE)
    response = bench.probe.call(SetBool, "action_publisher/enable", SetBool.Request(data=True))
    assert (response.success, response.message) == (False, "the node is not active")
    assert change(bench.probe, "action_publisher", Transition.TRANSITION_ACTIVATE)
    assert state_of(arm.wait_for_rung("idle"))["reason"] == "not enabled yet"
    move(bench, arm, planner)


def test_a_read_only_parameter_is_refused_with_the_reason_and_a_wrong_one_with_what_is_allowed(bench):
    bench.start_active("action_publisher")

    def set_to(name: str, **value) -> tuple[bool, str]:
        request = SetParameters.Request(parameters=[Parameter(name=name, value=ParameterValue(**value))])
        result = bench.probe.call(SetParameters, "action_publisher/set_parameters", request).results[0]
        return result.successful, result.reason

    number = {"type": ParameterType.PARAMETER_DOUBLE, "double_value": 50.0}
    assert set_to("control_rate_hz", **number) == (True, "")
    successful, reason = set_to("dry_run", type=ParameterType.PARAMETER_BOOL, bool_value=True)
    assert not successful
    assert "dry_run cannot change now" in reason
    assert "restart the node with another value" in reason
    successful, reason = set_to("chunk_size", type=ParameterType.PARAMETER_INTEGER, integer_value=5)
    assert not successful
    assert "fixed by the checkpoint's weights" in reason
    successful, reason = set_to("contrl_rate_hz", **number)
    assert not successful
    assert "unknown parameter contrl_rate_hz (value 50.0); did you mean control_rate_hz?" in reason


BROKEN_PUBLISHER = """
from std_msgs.msg import Empty

from maskact_ros.nodes.action_publisher import ActionPublisher
from maskact_ros.nodes.ros.node_process import main


class BrokenPublisher(ActionPublisher):
    def configure(self):
        super().configure()
        self._break = self.create_subscription(Empty, "break", self._receive_break, 1)

    def _receive_break(self, message):
        raise RuntimeError("a bug in a callback")


main(BrokenPublisher)
"""


def test_what_breaks_a_callback_ends_the_node_only_after_the_arm_was_brought_to_rest(bench, robot, policy, tmp_path):
    script = tmp_path / "broken_publisher.py"
    script.write_text(BROKEN_PUBLISHER)
    arm, planner = Arm(bench.probe, robot), Planner(bench.probe, robot)
    arguments = ["-r", "__ns:=/maskact", "-p", f"policy_path:={policy}"]
    arguments += [text for name, value in PATIENT.items() for text in ("-p", f"{name}:={value}")]
    program = bench.run([sys.executable, str(script), "--ros-args", *arguments])
    bench.wait_until_active("action_publisher", program)
    move(bench, arm, planner)
    bench.probe.publisher(Empty, "break", LATCHED).publish(Empty())
    assert program.wait() == 1
    assert "a bug in maskact_ros ends the node" in program.output
    assert "a bug in a callback" in program.output
    assert_sound(arm.commands, robot)
    assert_ends_at_rest(arm.commands)


@pytest.mark.extended
def test_an_arm_that_needs_long_to_stop_is_given_that_time(bench, robot, tmp_path):
    sluggish = replace(robot, joints=tuple(replace(j, acceleration=j.velocity / 4.0) for j in robot.joints))
    robot_file = tmp_path / "robot.yaml"
    robot_file.write_text(json.dumps(sluggish.to_dict()))  # JSON is YAML
    program, arm, _ = start_moving(bench, robot, robot_file=str(robot_file))
    arm.wait_for_commands(250)
    program.send(signal.SIGINT)
    assert program.wait() == 0
    assert_sound(arm.commands, sluggish)
    assert_ends_at_rest(arm.commands)
    assert "still moving" not in program.output


def test_released_on_disabling_the_publisher_goes_silent_once_the_arm_rests(bench, robot):
    _, arm, _ = start_moving(bench, robot, release_on_disable=True)
    assert bench.probe.enable(False).success
    idle = arm.wait_for_rung("idle")
    assert "released" in state_of(idle)["reason"]
    bench.probe.wait_for_report("action_publisher", lambda report: report.values["commands_hz"] == "0.00", "silence")
    assert_sound(arm.commands, robot)
    assert arm.commands[-1].sent_ns < idle.sent_ns


@pytest.mark.extended
@pytest.mark.parametrize("node", ["camera_encoder", "inference", "action_publisher", "sim_robot"])
def test_told_to_end_it_leaves_no_segment_of_shared_memory(bench, node):
    before = set(SHARED_MEMORY.iterdir())
    program = bench.start_active(node)
    mapped = {SHARED_MEMORY / name for name in Usage.of(program.pid).shm_entries}
    segments = {
        file for file in mapped - before if "fast" in file.name and "_port" not in file.name
    }  # ports are shared
    assert segments
    program.send(signal.SIGTERM)
    assert program.wait() == 0, program.output
    assert not [file.name for file in segments if file.exists()]


@pytest.mark.extended
@pytest.mark.parametrize("node", ["action_publisher", "sim_robot"])
def test_a_hail_of_signals_ends_it_as_one_does(bench, node):
    program = bench.start_active(node)
    until_s = time.monotonic() + 10.0
    while program.running and time.monotonic() < until_s:
        program.send(signal.SIGTERM)
        program.send(signal.SIGINT)
    assert program.wait(1.0) == 0


def test_shut_down_by_its_service_the_process_ends(bench, robot):
    program, arm, _ = start_moving(bench, robot)
    change(bench.probe, "action_publisher", Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert program.wait() == 0
    assert_sound(arm.commands, robot)
    assert "Traceback" not in program.output
