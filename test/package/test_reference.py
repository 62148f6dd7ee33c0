"""The generated files and `--help` of the nodes say what the code declares."""

import importlib

import pytest
import yaml
from support.source_tree import ROOT

from maskact_ros.nodes.ros.common_parameters import AUTOSTART, SET_BY_BRINGUP
from reference.__main__ import GENERATED

NODES = ("camera_encoder", "inference", "action_publisher", "sim_robot", "expert")


def declared(node: str):
    return importlib.import_module(f"maskact_ros.nodes.{node}").PARAMETERS


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_file_is_as_the_declarations_say(name):
    assert (ROOT / name).read_text(encoding="utf-8") == GENERATED[name](), f"{name} is out of date: make reference"


@pytest.mark.parametrize("node", ["camera_encoder", "inference", "action_publisher"])
def test_the_parameter_file_holds_each_default_in_its_type(node):
    values = yaml.safe_load((ROOT / "config/maskact.yaml").read_text(encoding="utf-8"))[f"/**/{node}"][
        "ros__parameters"
    ]
    own = {parameter.name: parameter.default for parameter in declared(node) if parameter.name not in SET_BY_BRINGUP}
    assert values == own
    assert {name: type(value) for name, value in values.items()} == {name: type(value) for name, value in own.items()}


@pytest.mark.parametrize("node", NODES)
def test_a_parameter_says_what_it_is(node):
    for parameter in declared(node):
        assert parameter.description.endswith("."), parameter.name
        assert not parameter.name.endswith("_s") or parameter.unit == "s", parameter.name
        assert not parameter.name.endswith("_hz") or parameter.unit == "Hz", parameter.name
        assert not parameter.choices or parameter.default in parameter.choices, parameter.name
        assert not (parameter.choices and parameter.changeable), (
            parameter.name
        )  # only a descriptor's range is checked then


@pytest.mark.parametrize("node", NODES)
def test_help_explains_each_parameter_without_starting_ros(node, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", [node, "--help", "--ros-args", "-p", "autostart:=false"])
    monkeypatch.setattr("rclpy.init", lambda **_: pytest.fail("ROS was started"))
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # what the nodes set for themselves goes with this test
    module = importlib.import_module(f"maskact_ros.nodes.{node}")
    module.run()
    shown = capsys.readouterr().out
    assert module.__doc__.splitlines()[0] in shown
    words = " ".join(shown.split())
    for parameter in (AUTOSTART, *module.PARAMETERS):
        default = parameter.shown_default or "empty"
        assert f"\n  {parameter.name} (default: {default}" in shown
        assert parameter.range in words
        assert " ".join(parameter.description.split()) in words
