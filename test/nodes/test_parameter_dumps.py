"""`ros2 param dump` and `ros2 param load`: what a node tells of its parameters it takes back, and nothing changes."""

import math

import pytest
import yaml
from rcl_interfaces.msg import ParameterEvent
from rclpy.parameter import parameter_dict_from_yaml_file
from std_msgs.msg import String
from support.asking import all_values, ask_one_by_one, ask_with, message
from support.node_bench import LATCHED, NAMESPACE

from maskact_ros.nodes.ros.policy_swap import Standing
from maskact_ros.tools.params_file import check_params_file

NODES = {"camera_encoder": "overlay_alpha", "inference": "n_action_steps", "action_publisher": "blend_s"}
CHANGES = {"overlay_alpha": 0.125, "n_action_steps": 7, "blend_s": 0.375}


@pytest.fixture(scope="module")
def programs(module_bench):
    # Numbers that Python writes with an exponent are the ones that `ros2 param load` sends as texts.
    own = {"camera_encoder": {"max_image_age_s": 0.3}, "inference": {"n_action_steps": 9}}
    started = {node: module_bench.start(node, optimizer_lr=3e-5, **own.get(node, {})) for node in NODES}
    for node, program in started.items():
        module_bench.wait_until_active(node, program)
    return started


@pytest.fixture(scope="module")
def heard(module_bench, programs):
    """What the nodes announce: changes of parameters, and of the policy."""
    events = module_bench.probe.hear(ParameterEvent, "/parameter_events")
    standings = module_bench.probe.hear(String, "policy", LATCHED)
    module_bench.probe.wait(lambda: len(standings) == 2, "what both nodes say of their policy")
    return events, standings


def dump(values: dict, full_name: str) -> str:
    """The text that `ros2 param dump` prints."""
    nested: dict = {}
    for name, value in values.items():
        *groups, key = name.split(".")
        level = nested
        for group in groups:
            level = level.setdefault(group, {})
        level[key] = value
    return yaml.dump({full_name: {"ros__parameters": nested}}, default_flow_style=False)


def loaded(file, full_name: str) -> list:
    """What `ros2 param load` makes of a file."""
    return list(parameter_dict_from_yaml_file(str(file), target_nodes=[full_name]).values())


def changed_by(events: list, node: str) -> list[str]:
    of_node = [heard.message for heard in events if heard.message.node == f"{NAMESPACE}/{node}"]
    return [p.name for e in of_node for p in (*e.new_parameters, *e.changed_parameters, *e.deleted_parameters)]


@pytest.mark.parametrize("node", NODES)
def test_a_dump_that_is_loaded_changes_nothing(module_bench, programs, heard, tmp_path, node):
    probe, (events, standings) = module_bench.probe, heard
    before, position = all_values(probe, node), len(programs[node].output)
    file = tmp_path / "dump.yaml"
    file.write_text(dump(before, f"{NAMESPACE}/{node}"))
    told = [message(name, value) for name, value in before.items()]
    from_file = loaded(file, f"{NAMESPACE}/{node}")
    assert {m.name: m.value.string_value for m in from_file}["optimizer_lr"] == "3e-05"
    for messages in (from_file, told):
        assert {m.name for m in messages} == set(before)
        refusals = [result.reason for result in ask_one_by_one(probe, node, *messages) if not result.successful]
        assert refusals == []
        together = ask_with(probe, node, *messages)
        assert together.successful, together.reason
    assert all_values(probe, node) == before
    # What would have been announced has come once this has.
    marker, other = NODES[node], math.nextafter(CHANGES[NODES[node]], 0) if node != "inference" else 5
    assert ask_with(probe, node, message(marker, other)).successful
    probe.wait(lambda: changed_by(events, node) == [marker], "just the one change to be announced")
    assert ask_with(probe, node, message(marker, before[marker])).successful
    probe.wait(lambda: changed_by(events, node) == [marker] * 2, "the change back")
    assert all(Standing.from_message(heard.message).swap == "" for heard in standings), "a policy was loaded anew"
    assert "loading the policy" not in programs[node].output[position:]


@pytest.mark.parametrize("node", NODES)
def test_of_a_loaded_dump_only_what_differs_is_applied(module_bench, programs, heard, tmp_path, node):
    probe, (events, standings) = module_bench.probe, heard
    before, known, name = all_values(probe, node), len(changed_by(heard[0], node)), NODES[node]
    file = tmp_path / "dump.yaml"
    file.write_text(dump(before | {name: CHANGES[name]}, f"{NAMESPACE}/{node}"))
    together = ask_with(probe, node, *loaded(file, f"{NAMESPACE}/{node}"))
    assert together.successful, together.reason
    probe.wait(lambda: changed_by(events, node)[known:] == [name], f"the change of {name} alone")
    assert all_values(probe, node) == before | {name: CHANGES[name]}
    assert ask_with(probe, node, message(name, before[name])).successful
    assert all(Standing.from_message(heard.message).swap == "" for heard in standings), "a policy was loaded anew"


def test_what_does_not_hold_is_refused_as_before_and_so_is_all_that_comes_with_it(module_bench, programs):
    probe, node = module_bench.probe, "action_publisher"
    before = all_values(probe, node)
    held = message("command_interface", before["command_interface"])
    for wrong, sentence in (
        (message("dry_run", True), "dry_run cannot change now"),
        (message("control_rate_hz", 100), "control_rate_hz is 100; allowed: a number with a decimal point"),
        (message("control_rate_hz", "100"), "control_rate_hz is '100'; allowed: a number with a decimal point"),
        (message("autostart", 1), "autostart cannot change now"),
        (held, "command_interface is set twice in one request"),
    ):
        refusal = ask_with(probe, node, held, message("blend_s", 0.3), wrong)
        assert not refusal.successful
        assert refusal.reason.startswith(sentence)
    assert all_values(probe, node) == before


@pytest.mark.extended
@pytest.mark.parametrize("node", NODES)
def test_a_node_that_starts_with_a_dump_has_the_same_parameters(module_bench, programs, tmp_path, node):
    full_name = f"{NAMESPACE}/again_{node}"
    before = all_values(module_bench.probe, node)
    file = tmp_path / "dump.yaml"
    file.write_text(dump(before, full_name))
    check_params_file(file, NAMESPACE, [f"again_{node}"])
    again = module_bench.start_active(node, name=f"again_{node}", params_file=file, policy_path=before["policy_path"])
    assert all_values(module_bench.probe, f"again_{node}") == before
    again.kill()
