"""The launch file under ROS 2's launch system, with stand-ins for the nodes that tell how they were started."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise

import pytest

from maskact_ros.core.paths import shared
from maskact_ros.nodes.ros.launcher import LAUNCHER
from maskact_ros.tools.bringup import DESCRIPTIONS, consequence

try:
    import launch_ros  # noqa: F401
    from launch import LaunchDescription  # noqa: F401 - another program has this module's name, but not this class
except ImportError:
    pytest.skip("ROS 2's launch is not installed: it comes with a ROS distribution only", allow_module_level=True)

# What `ros2 launch` does with a launch file and its arguments.
RUN = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import AnyLaunchDescriptionSource
file, *arguments = sys.argv[1:]
given = [tuple(argument.split(":=", 1)) for argument in arguments]
service = LaunchService(noninteractive=True)
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(AnyLaunchDescriptionSource(file), launch_arguments=given)])
)
sys.exit(service.run())
"""
STAND_IN = """#!{python}
import json, os, pathlib, signal, sys, yaml
signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
here = pathlib.Path({folder!r})
arguments = sys.argv[1:]
files = [yaml.safe_load(open(value)) for key, value in zip(arguments, arguments[1:]) if key == "--params-file"]
said = {{"pid": os.getpid(), "arguments": arguments, "files": files, "environment": dict(os.environ)}}
(here / "new").write_text(json.dumps(said))
(here / "new").rename(here / "started")
print("stand-in is up", flush=True)
while True:
    signal.pause()
"""
PARENT = """
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
def generate_launch_description():
    ours = IncludeLaunchDescription({file!r}, launch_arguments=[("namespace", "cell")])
    return LaunchDescription([DeclareLaunchArgument("robot_ip"), ours])
"""
PACKAGES = {
    "maskact_ros": ["sim_robot", "camera_encoder", "inference", "action_publisher"],
    "robot_state_publisher": ["robot_state_publisher"],
    "rviz2": ["rviz2"],
}


class Launched:
    """A launch that runs; `started` waits until one of its nodes does, and returns how it was started."""

    def __init__(self, folder, policy, *arguments, missing="", file=None):
        self._folder = folder
        for package, executables in PACKAGES.items():
            if package == missing:
                continue
            index = folder / "share" / "ament_index" / "resource_index" / "packages"
            index.mkdir(parents=True, exist_ok=True)
            (index / package).touch()
            for executable in executables:
                (folder / executable).mkdir()
                script = folder / "lib" / package / executable
                script.parent.mkdir(parents=True, exist_ok=True)
                script.write_text(STAND_IN.format(python=sys.executable, folder=str(folder / executable)))
                script.chmod(0o755)
        paths = [str(shared("launch").parent), *sys.path]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FASTDDS_", "FASTRTPS_"))}
        environment = {
            **kept,
            "AMENT_PREFIX_PATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("AMENT_PREFIX_PATH")])]),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "ROS_LOG_DIR": str(folder / "log"),
        }
        self._log = (folder / "output").open("w")
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                RUN,
                file or shared("launch/bringup.launch.py"),
                f"policy_path:={policy}",
                *arguments,
            ],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def started(self, executable):
        report = self._folder / executable / "started"
        self._wait(report.exists)
        return json.loads(report.read_text())

    def says(self, text):
        """Wait until the launch has printed the text."""
        self._wait(lambda: text in self.output)

    def _wait(self, condition):
        until_s = time.monotonic() + 60
        while not condition():
            assert self.process.poll() is None, self.output
            assert time.monotonic() < until_s, self.output
            time.sleep(0.02)

    def end(self):
        """Wait for the launch to end; returns its exit code."""
        return self.process.wait(timeout=60)

    @property
    def output(self):
        return (self._folder / "output").read_text()

    def close(self):
        self.process.kill()
        self.process.wait()
        for report in self._folder.glob("*/started"):
            try:
                os.kill(json.loads(report.read_text())["pid"], signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._log.close()


@pytest.fixture
def start(tmp_path, policy):
    launched = []

    def run(*arguments, **options):
        launched.append(Launched(tmp_path, policy, *arguments, **options))
        return launched[-1]

    yield run
    for launch in launched:
        launch.close()


def remappings(arguments):
    rules = [rule for key, rule in pairwise(arguments) if key == "-r"]
    return dict(rule.split(":=", 1) for rule in rules)


def test_nodes_start_with_the_parameters_and_topics_of_bringup(start, policy):
    launch = start("sim:=true", "namespace:=left", "image_topic:=/camera/color", "autostart:=false")
    for name in ("camera_encoder", "inference", "action_publisher"):
        said = launch.started(name)
        rules = remappings(said["arguments"])
        assert rules == {"__node": name, "__ns": "/left", "image_raw": "/camera/color"}
        common, own = said["files"]
        assert "/**" in common
        assert own == {f"/left/{name}": {"ros__parameters": {"policy_path": str(policy), "autostart": False}}}
    assert "sim_robot" in launch.started("sim_robot")["arguments"][2]


def test_every_node_has_the_fast_dds_profile(start):
    launch = start()
    for name in ("camera_encoder", "inference", "action_publisher"):
        assert str(shared("config/fastdds.xml")) in launch.started(name)["environment"].values()


def test_our_nodes_know_who_launched_them_and_others_are_not_told(start):
    launch = start("rviz:=true")
    for name in ("camera_encoder", "inference", "action_publisher"):
        assert launch.started(name)["environment"][LAUNCHER] == str(launch.process.pid)
    assert LAUNCHER not in launch.started("rviz2")["environment"]


def test_the_fast_dds_profile_is_left_out_by_argument(start):
    launch = start("shared_memory:=false")
    assert str(shared("config/fastdds.xml")) not in launch.started("camera_encoder")["environment"].values()


def test_rviz_and_the_robots_state_publisher_start_in_the_namespace(start):
    launch = start("sim:=true", "rviz:=true", "joint_states_topic:=/js")
    assert remappings(launch.started("rviz2")["arguments"])["__ns"] == "/maskact"
    state_publisher = launch.started("robot_state_publisher")
    assert remappings(state_publisher["arguments"])["joint_states"] == "/js"
    (parameters,) = state_publisher["files"]
    urdf = parameters["/maskact/robot_state_publisher"]["ros__parameters"]["robot_description"]
    assert urdf == shared("config/sim_arm.urdf").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["camera_encoder", "inference", "action_publisher"])
def test_a_node_that_ends_is_named_and_ends_the_launch_with_an_error(start, name):
    launch = start()
    pids = {other: launch.started(other)["pid"] for other in ("camera_encoder", "inference", "action_publisher")}
    os.kill(pids[name], signal.SIGKILL)
    assert launch.end() == 1
    assert f"{name} ended by itself (signal SIGKILL); {consequence(name)}" in launch.output
    assert launch.output.count("ended by itself") == 1
    assert launch.output.count("process has finished cleanly") == 2


def test_rviz_may_be_closed(start):
    launch = start("rviz:=true")
    os.kill(launch.started("rviz2")["pid"], signal.SIGINT)
    launch.started("action_publisher")
    launch.says("[rviz2-4]: process has finished cleanly")
    launch.process.send_signal(signal.SIGINT)
    assert launch.end() == 0
    assert "ended by itself" not in launch.output


def test_ctrl_c_ends_all_nodes_and_is_no_error(start):
    launch = start()
    for name in ("camera_encoder", "inference", "action_publisher"):
        launch.started(name)
    launch.process.send_signal(signal.SIGINT)
    assert launch.end() == 0
    assert launch.output.count("process has finished cleanly") == 3
    assert "ended by itself" not in launch.output


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("policy_path:=/nowhere", "checkpoint /nowhere: there is no such folder"),
        ("sim:=maybe", "sim is 'maybe'; allowed: true or false"),
        ("params_file:=/nowhere.yaml", "params_file is /nowhere.yaml; allowed: a file that exists"),
        ("simm:=true", "unknown launch argument simm:=true; did you mean sim?"),
        ("paramsfile:=x.yaml", "unknown launch argument paramsfile:=x.yaml; did you mean params_file?"),
    ],
)
def test_a_wrong_argument_is_one_sentence_and_starts_nothing(start, argument, sentence):
    launch = start(argument)
    assert launch.end() == 1
    (said,) = [line for line in launch.output.splitlines() if "[INFO]" not in line]
    assert said.endswith(sentence)


def test_a_section_of_the_params_file_that_matches_no_node_starts_nothing(start, tmp_path):
    (tmp_path / "mine.yaml").write_text("action_publisher:\n  ros__parameters: {release_on_disable: true}\n")
    launch = start(f"params_file:={tmp_path / 'mine.yaml'}", "namespace:=right")
    assert launch.end() == 1
    assert "write /**/action_publisher or /right/action_publisher" in launch.output
    assert "process started" not in launch.output


def test_a_launch_file_that_includes_ours_keeps_its_own_arguments(start, tmp_path):
    parent = tmp_path / "cell.launch.py"
    parent.write_text(PARENT.format(file=str(shared("launch/bringup.launch.py"))))
    launch = start("robot_ip:=192.168.0.7", "nmespace:=left", file=parent)
    said = launch.started("action_publisher")
    assert remappings(said["arguments"])["__ns"] == "/cell"
    launch.says("nmespace is no argument of bringup.launch.py; did you mean namespace?")
    assert "robot_ip is" not in launch.output


def test_no_node_is_left_behind_where_rviz_is_not_installed(start, tmp_path):
    launch = start("rviz:=true", missing="rviz2")
    assert launch.end() == 1
    (said,) = [line for line in launch.output.splitlines() if "[INFO]" not in line]
    assert "package 'rviz2' not found" in said
    assert "process started" not in launch.output
    assert not list(tmp_path.glob("*/started"))


def test_every_argument_is_declared_with_its_description(start):
    from launch import LaunchContext
    from launch.actions import DeclareLaunchArgument
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    description = PythonLaunchDescriptionSource(str(shared("launch/bringup.launch.py"))).get_launch_description(
        LaunchContext()
    )
    declared = [entity for entity in description.entities if isinstance(entity, DeclareLaunchArgument)]
    assert {argument.name: argument.description for argument in declared} == DESCRIPTIONS
