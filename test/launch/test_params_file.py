"""A parameter file that ROS would ignore, in part or as a whole, is refused before anything starts."""

import pytest
import rclpy
import yaml
from rclpy.context import Context

from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.paths import shared
from maskact_ros.tools.bringup import NODES, BringupArguments, processes
from maskact_ros.tools.isolation import IsolatedDomain
from maskact_ros.tools.params_file import check_params_file


@pytest.fixture
def write(tmp_path):
    """A function: a parameter file with this text."""

    def written(text: str):
        file = tmp_path / "mine.yaml"
        file.write_text(text, encoding="utf-8")
        return file

    return written


def section(key: str) -> str:
    return yaml.safe_dump({key: {"ros__parameters": {"plan_timeout_s": 0.75}}})


def refusal(file, namespace: str) -> str:
    with pytest.raises(MaskACTError) as caught:
        check_params_file(file, namespace, NODES)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- sections


SECTIONS = [
    ("/**", "/cell/left", True),
    ("**", "/cell/left", True),
    ("/**/action_publisher", "/cell/left", True),
    ("/cell/**/action_publisher", "/cell/left", True),
    ("/cell/*/action_publisher", "/cell/left", True),
    ("/cell/left/*", "/cell/left", True),
    ("/*/*/*", "/cell/left", True),
    ("cell/left/action_publisher", "/cell/left", True),
    ("/cell/left/action_publisher", "/cell/left", True),
    ("/action_publisher", "/", True),
    ("action_publisher", "/", True),
    ("/*", "/", True),
    ("/**/action_publisher", "/", True),
    ("action_publisher", "/cell/left", False),
    ("/action_publisher", "/cell", False),
    ("/*", "/cell", False),
    ("/*/action_publisher", "/cell/left", False),
    ("/cell/action_publisher", "/cell/left", False),
    ("/cell/right/action_publisher", "/cell/left", False),
    ("/**/action_publishers", "/cell/left", False),
    ("/**/my_action_publisher", "/cell/left", False),
    ("/cell/left", "/cell/left", False),
]


@pytest.mark.parametrize(("key", "namespace", "matches"), SECTIONS)
def test_a_section_is_taken_if_and_only_if_ros_gives_it_to_the_node(write, key, namespace, matches):
    file = write(section(key))
    assert bool(given_by_ros(file, namespace)) == matches
    if matches:
        check_params_file(file, namespace, ["action_publisher"])
    else:
        with pytest.raises(MaskACTError, match="matches no node in " + namespace):
            check_params_file(file, namespace, ["action_publisher"])


def given_by_ros(file, namespace: str) -> dict:
    """What rclpy gives to the action publisher of a file."""
    domain, context = IsolatedDomain(), Context()
    rclpy.init(args=["--ros-args", "--params-file", str(file)], context=context, domain_id=domain.id)
    options = {"enable_rosout": False, "start_parameter_services": False}
    node = rclpy.create_node("action_publisher", namespace=namespace, context=context, **options)
    try:
        return dict(node._parameter_overrides)
    finally:
        node.destroy_node()
        context.try_shutdown()
        domain.close()


@pytest.mark.parametrize(
    ("key", "namespace", "instead"),
    [
        ("camera_encoder", "/left", "write /**/camera_encoder or /left/camera_encoder"),
        ("/maskact/inference", "/cell/left", "write /**/inference or /cell/left/inference"),
        ("/**/action_publischer", "/maskact", "write /**/action_publisher or /maskact/action_publisher"),
        ("/maskact/simrobot", "/", "write /**/sim_robot or /sim_robot"),
        ("/other/**", "/maskact", "write /** or /maskact/**"),
        ("/**/rviz2", "/maskact", "its nodes are sim_robot, camera_encoder, inference, expert, action_publisher"),
    ],
)
def test_a_section_that_matches_no_node_is_named_with_the_key_that_would(write, key, namespace, instead):
    said = refusal(write(section("/**") + section(key)), namespace)
    assert f"the section {key} matches no node in {namespace}, so that ROS would ignore it; {instead}" in said


def test_nested_keys_are_joined_as_ros_joins_them(write):
    file = write("cell:\n  left:\n    action_publisher:\n      ros__parameters: {limits: {elbow: {velocity: 0.2}}}\n")
    assert given_by_ros(file, "/cell/left").keys() == {"limits.elbow.velocity"}
    check_params_file(file, "/cell/left", NODES)
    assert "the section cell/left/action_publisher matches no node in /cell/right" in refusal(file, "/cell/right")


def test_the_packages_own_file_fits_any_namespace():
    for namespace in ("/maskact", "/", "/cell/left"):
        check_params_file(shared("config/maskact.yaml"), namespace, NODES)


def test_sections_of_nodes_that_are_not_started_this_time_are_no_fault(write, policy):
    file = write("".join(section(f"/**/{name}") for name in NODES))
    started = processes(BringupArguments(policy_path=str(policy), params_file=str(file)))
    assert {process.name for process in started} < set(NODES)


def test_every_node_that_reads_the_file_may_have_a_section(policy):
    for expert in (False, True):
        started = processes(BringupArguments(policy_path=str(policy), sim=True, expert=expert, rviz=True))
        assert {process.name for process in started if process.params_file} <= set(NODES)


def test_bringup_refuses_the_file_for_the_namespace_that_it_is_started_in(write, policy):
    arguments = {"policy_path": str(policy), "params_file": str(write(section("/maskact/action_publisher")))}
    processes(BringupArguments(**arguments))
    with pytest.raises(MaskACTError, match="matches no node in /right"):
        processes(BringupArguments(**arguments, namespace="right"))


# -- what is no section


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "release_on_disable: true\n",
            "release_on_disable (value True) stands outside of any ros__parameters; allowed:",
        ),
        ("ros__parameters: {cpu: 1}\n", "ros__parameters stands in no section; allowed: sections such as /**/"),
        ("/**:\n  cpu: 1\n", "cpu (value 1) stands outside of any ros__parameters of /**;"),
        ("/**:\n  ros__parameters: {cpu: 1}\n  blend_s: 1.0\n", "blend_s (value 1.0) stands outside of any"),
        (
            "/**/inference:\n  ros_parameters: {num_threads: 1}\n",
            "/**/inference has ros_parameters; did you mean ros__",
        ),
        ("/**/inference:\n", "the section /**/inference is empty; allowed: ros__parameters in it, or no section"),
        ("/**/inference:\n  ros__parameters:\n", "ros__parameters of /**/inference is empty; allowed: names with"),
        ("/**:\n  ros__parameters: [1]\n", "ros__parameters of /** is [1]; allowed: names with values"),
        ("/**:\n\tros__parameters: {cpu: 1}\n", "not YAML (while scanning for the next token found character '\\t'"),
        ("- cpu\n", "['cpu'] is no section; allowed: sections such as"),
        ("cpu\n", "'cpu' is no section; allowed: sections such as"),
        ("/**:\n  ros__parameters: {cpu: 1, cpu: 2}\n", "'cpu' is given 2 times; allowed: once"),
    ],
)
def test_what_is_no_parameter_file_is_one_sentence(write, text, sentence):
    file = write(text)
    assert refusal(file, "/maskact").startswith(f"{file}: {sentence}")


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "/**:\n  ros__parameters: {}\n"])
def test_a_file_without_parameters_leaves_all_as_it_is(write, text):
    check_params_file(write(text), "/maskact", NODES)
