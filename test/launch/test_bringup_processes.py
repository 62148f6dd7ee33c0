"""What bringup starts: launch arguments in, processes with their parameters and remappings out."""

import ast
import xml.etree.ElementTree as ET
from dataclasses import fields

import pytest
import rclpy
import yaml
from rclpy.context import Context

from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.paths import shared
from maskact_ros.tools.bringup import (
    DESCRIPTIONS,
    PROFILE_VARIABLES,
    BringupArguments,
    Process,
    environment,
    how_ended,
    processes,
)
from maskact_ros.tools.isolation import IsolatedDomain
from maskact_ros.tools.supervisor import run_bringup


@pytest.fixture
def start(policy):
    """A function: the processes by executable, in their order, with launch arguments changed."""

    def described(**changes) -> dict[str, Process]:
        listed = processes(BringupArguments(**{"policy_path": str(policy)} | changes))
        return {process.executable: process for process in listed}

    return described


@pytest.fixture
def other_robot(tmp_path):
    """A function: a robot.yaml like the simulated robot's, with entries changed."""

    def write(**changes):
        entries = yaml.safe_load(shared("config/robot.yaml").read_text(encoding="utf-8"))
        path = tmp_path / "robot.yaml"
        path.write_text(yaml.safe_dump(entries | changes), encoding="utf-8")
        return str(path)

    return write


# -- what runs


def test_the_three_nodes_run_and_nothing_else(start):
    assert list(start()) == ["camera_encoder", "inference", "action_publisher"]


def test_sim_starts_the_simulated_robot_first(start):
    assert next(iter(start(sim=True))) == "sim_robot"


def test_the_expert_replaces_inference(start):
    assert list(start(sim=True, expert=True)) == ["sim_robot", "camera_encoder", "expert", "action_publisher"]


def test_rviz_moves_the_model_of_the_simulated_robot(start):
    started = start(sim=True, rviz=True)
    assert list(started)[-2:] == ["robot_state_publisher", "rviz2"]
    assert started["robot_state_publisher"].parameters["robot_description"].startswith("<?xml")


def test_rviz_shows_a_real_robot_by_its_own_description(start):
    started = start(rviz=True)
    assert "robot_state_publisher" not in started
    assert started["rviz2"].remappings["robot_description"] == "/robot_description"


# -- parameters


def test_all_three_nodes_get_policy_and_robot(start, other_robot, policy):
    robot_file = other_robot(name="twin")
    for process in start(robot_file=robot_file).values():
        assert process.parameters == {"policy_path": str(policy), "robot_file": robot_file}


def test_the_simulated_robot_takes_robot_file_too(start, other_robot):
    robot_file = other_robot(name="twin")
    assert start(robot_file=robot_file, sim=True)["sim_robot"].parameters["robot_file"] == robot_file


def test_relative_paths_are_made_absolute(start, policy, monkeypatch):
    monkeypatch.chdir(policy.parent)
    assert start(policy_path=policy.name)["inference"].parameters["policy_path"] == str(policy)


def test_switches_left_alone_leave_their_say_to_params_file(start):
    assert start()["action_publisher"].parameters.keys() == {"policy_path"}


def test_switches_turned_reach_the_nodes(start):
    parameters = start(autostart=False, use_sim_time=True)["inference"].parameters
    assert parameters["autostart"] is False
    assert parameters["use_sim_time"] is True


def test_the_simulated_robot_makes_the_time_that_the_others_take(start):
    parameters = start(sim=True, use_sim_time=True)["sim_robot"].parameters
    assert parameters["publish_clock"] is True
    assert parameters["use_sim_time"] is False


def test_the_users_params_file_takes_the_place_of_the_packages(start, tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.touch()
    assert {process.params_file for process in start().values()} == {str(shared("config/maskact.yaml"))}
    assert {process.params_file for process in start(params_file=str(mine)).values()} == {str(mine)}


# -- the environment


@pytest.fixture
def no_profile(monkeypatch):
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_the_processes_get_shared_memory_that_holds_images(no_profile):
    (variable,) = environment().keys() & set(PROFILE_VARIABLES)
    profile = ET.parse(environment()[variable]).getroot()  # noqa: S314 - our own file
    (size,) = (int(entry.text) for entry in profile.iter() if entry.tag.endswith("segment_size"))
    assert size > 8 * 640 * 480 * 3


def test_without_shared_memory_they_do_not(no_profile):
    assert not environment(shared_memory=False).keys() & set(PROFILE_VARIABLES)


@pytest.mark.parametrize("variable", PROFILE_VARIABLES)
def test_a_profile_that_the_user_has_given_stays(no_profile, monkeypatch, variable):
    monkeypatch.setenv(variable, "/mine.xml")
    assert not environment().keys() & set(PROFILE_VARIABLES)


# -- topics and namespace


def test_topics_are_remapped_where_the_robot_says_so(start, other_robot):
    robot_file = other_robot(joint_states_topic="/joint_states", command_topic="/arm/commands")
    remappings = {"joint_states": "/joint_states", "command": "/arm/commands"}
    started = start(robot_file=robot_file)
    described = {"robot_description": "/robot_description"}  # where robot_state_publisher is, by custom
    assert started.pop("action_publisher").remappings == remappings | described
    assert all(process.remappings == remappings for process in started.values())


def test_launch_arguments_override_the_robots_topics(start, other_robot):
    robot_file = other_robot(command_topic="/arm/commands")
    started = start(robot_file=robot_file, command_topic="/other", image_topic="/camera/color", sim=True, rviz=True)
    for process in started.values():
        assert process.remappings["command"] == "/other"
        assert process.remappings["image_raw"] == "/camera/color"


def test_all_processes_share_the_namespace(start):
    assert {process.namespace for process in start(sim=True, rviz=True, namespace="/left").values()} == {"/left"}


@pytest.mark.parametrize(("given", "absolute"), [("left", "/left"), ("/a/b/", "/a/b"), ("", "/"), ("/", "/")])
def test_a_namespace_is_made_absolute(start, given, absolute):
    assert start(namespace=given)["inference"].namespace == absolute


# -- what is refused


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"expert": True}, "the expert drives the simulated robot only; start it with sim"),
        ({"params_file": "/nowhere.yaml"}, "params_file is /nowhere.yaml; allowed: a file that exists"),
        ({"policy_path": "/nowhere"}, "checkpoint /nowhere: there is no such folder"),
        ({"robot_file": "/nowhere.yaml"}, "/nowhere.yaml: cannot be read"),
        ({"image_topic": "a b"}, "image_topic is 'a b'; allowed: words"),
        ({"command_topic": "/arm/"}, "command_topic is '/arm/'; allowed: words"),
        ({"namespace": "left-arm"}, "namespace is 'left-arm'; allowed: words"),
    ],
)
def test_what_cannot_work_is_one_sentence(start, changes, sentence):
    with pytest.raises(MaskACTError, match="^" + sentence) as raised:
        start(**changes)
    assert "\n" not in str(raised.value)


def test_a_missing_policy_is_named_also_when_the_robot_is_given(start, other_robot):
    with pytest.raises(MaskACTError, match="/nowhere"):
        start(policy_path="/nowhere", robot_file=other_robot())


def test_without_ros2_launch_there_is_no_rviz():
    with pytest.raises(MaskACTError, match=r"^rviz is true; allowed: false here"):
        run_bringup(BringupArguments(rviz=True))


# -- texts, as ros2 launch has them


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("True", True), ("1", True), ("false", False), ("0", False)]
)
def test_switches_are_read_as_people_write_them(text, value):
    assert BringupArguments.from_texts({"sim": text}).sim is value


@pytest.mark.parametrize("text", ["yes", "", "2"])
def test_another_text_for_a_switch_is_refused(text):
    with pytest.raises(MaskACTError, match=f"^rviz is '{text}'; allowed: true or false$"):
        BringupArguments.from_texts({"rviz": text})


def test_a_name_that_does_not_exist_is_refused_with_the_closest_that_does():
    with pytest.raises(MaskACTError, match=r"^unknown launch argument rvis:=true; did you mean rviz\?$"):
        BringupArguments.from_texts({"sim": "true", "rvis": "true"})


def test_texts_stay_texts():
    assert BringupArguments.from_texts({"policy_path": "1"}).policy_path == "1"


def test_the_launch_file_declares_what_is_described_and_nothing_else():
    tree = ast.parse(shared("launch/bringup.launch.py").read_text(encoding="utf-8"))
    declared = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "DeclareLaunchArgument"]
    loops = [n for n in ast.walk(tree) if isinstance(n, ast.ListComp) and n.elt in declared]
    assert len(declared) == len(loops) == 1
    assert ast.unparse(loops[0].generators[0].iter) == "DESCRIPTIONS.items()"
    assert DESCRIPTIONS.keys() == {f.name for f in fields(BringupArguments)} - {
        "expert",
        "sim_parameters",
        "publisher_parameters",
    }


# -- without ros2 launch


@pytest.mark.parametrize("text", ["plain", 'it\'s "quoted" \\ here', "ünï 🦾", "true", "1", "a: b # c", "~", ""])
def test_a_text_reaches_the_node_as_it_is(tmp_path, text):
    process = Process(
        executable="x", name="x", namespace="/here", parameters={"text": text, "flag": False, "rate": 1.0}
    )
    assert received(process, tmp_path) == {"text": text, "flag": False, "rate": 1.0}


@pytest.mark.parametrize("section", ["/**", "/**/x", "/here/x"])
def test_parameters_win_over_every_section_of_the_params_file(tmp_path, section):
    file = tmp_path / "p.yaml"
    file.write_text(f'"{section}":\n  ros__parameters: {{a: 1, b: 1}}\n')
    process = Process(executable="x", name="x", namespace="/here", params_file=str(file), parameters={"a": 3})
    assert received(process, tmp_path) == {"a": 3, "b": 1}


def test_a_topic_is_remapped_in_the_namespace(tmp_path):
    process = Process(executable="x", name="x", namespace="/here", remappings={"in": "near", "out": "/far"})
    assert received(process, tmp_path, resolve=["in", "out"]) == {"in": "/here/near", "out": "/far"}


def received(process, folder, resolve=()):
    """What a node started with the process's command knows: its parameters, or the topics that names stand for."""
    domain, context = IsolatedDomain(), Context()
    rclpy.init(args=[], context=context, domain_id=domain.id)
    arguments = process.command(folder)[3:]
    node = rclpy.create_node(
        "unnamed",
        context=context,
        cli_args=arguments,
        automatically_declare_parameters_from_overrides=True,
        enable_rosout=False,
        start_parameter_services=False,
    )
    try:
        assert node.get_fully_qualified_name() == f"{process.namespace}/{process.name}"
        if resolve:
            return {name: node.resolve_topic_name(name) for name in resolve}
        given = {name: parameter.value for name, parameter in node.get_parameters_by_prefix("").items()}
        return {
            name: value
            for name, value in given.items()
            if name not in ("use_sim_time", "start_type_description_service")
        }
    finally:
        node.destroy_node()
        context.try_shutdown()
        domain.close()


@pytest.mark.parametrize(("code", "words"), [(0, "exit code 0"), (2, "exit code 2"), (-9, "signal SIGKILL")])
def test_how_a_process_ended_is_said_in_words(code, words):
    assert how_ended(code) == words


# -- RViz


@pytest.fixture
def rviz():
    return yaml.safe_load(shared("config/maskact.rviz").read_text(encoding="utf-8"))["Visualization Manager"]


def topics(rviz):
    """Topic settings of each display that has any, by topic."""
    found = [d[key] for d in rviz["Displays"] for key in ("Topic", "Description Topic") if key in d]
    return {topic["Value"]: topic for topic in found}


def test_rviz_takes_relative_topics_that_the_namespace_moves(rviz):
    assert topics(rviz).keys() == {"image_raw", "mask_overlay", "robot_description"}


def test_rviz_never_holds_up_who_publishes_images(rviz):
    for name in ("image_raw", "mask_overlay"):
        assert topics(rviz)[name]["Reliability Policy"] == "Best Effort"


def test_rviz_sees_a_description_published_before_it_came(rviz):
    assert topics(rviz)["robot_description"]["Durability Policy"] == "Transient Local"


def test_rviz_stands_on_the_robots_base(rviz):
    urdf = ET.parse(shared("config/sim_arm.urdf")).getroot()  # noqa: S314 - our own file
    links = {link.get("name") for link in urdf.findall("link")}
    (root,) = links - {joint.find("child").get("link") for joint in urdf.findall("joint")}
    assert rviz["Global Options"]["Fixed Frame"] == root
