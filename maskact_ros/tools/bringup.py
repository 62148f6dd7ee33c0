"""The processes of a bringup, with their parameters and remappings, for `maskact` and for the launch file.

In: the launch arguments. Out: one `Process` for each node, and the environment that all of them share.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.core.config import unknown_key
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.paths import resolve_path, shared
from maskact_ros.core.robot import RobotSpec
from maskact_ros.nodes.command.leaving import leaving_s
from maskact_ros.tools.params_file import check_params_file

# Fast DDS 3 (since Kilted) reads the first and warns about the second; Jazzy's Fast DDS 2 knows only the second.
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
_ROS_NAME = re.compile(r"/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*", re.ASCII)
# The nodes that read the parameter file. It may have sections for all of them, even if they are not started.
NODES = ("sim_robot", "camera_encoder", "inference", "expert", "action_publisher")


class BringupError(MaskACTError):
    """Invalid launch arguments, alone or together."""


@dataclass(frozen=True, kw_only=True)
class BringupArguments:
    """The launch arguments; an empty string takes the value of `robot.yaml` or the package's default."""

    policy_path: str = ""
    params_file: str = ""
    robot_file: str = ""
    image_topic: str = ""
    joint_states_topic: str = ""
    command_topic: str = ""
    namespace: str = "/maskact"
    sim: bool = False
    rviz: bool = False
    autostart: bool = True
    use_sim_time: bool = False
    shared_memory: bool = True
    expert: bool = False  # the scripted expert in place of inference; needs sim
    sim_parameters: dict[str, Any] = field(default_factory=dict)
    publisher_parameters: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> BringupArguments:
        """From the `name:=text` of `ros2 launch`.

        Raises:
            BringupError: a name that does not exist, or a switch that is neither true nor false.
        """
        for name, text in texts.items():
            if name not in DESCRIPTIONS:
                raise BringupError(unknown_key(f"{name}:={text}", name, DESCRIPTIONS, kind="launch argument"))
        switches = {entry.name for entry in fields(cls) if entry.type == "bool"}
        given: dict[str, Any] = {n: _switch(n, text) if n in switches else text for n, text in texts.items()}
        return cls(**given)


DESCRIPTIONS = {
    "policy_path": "folder of the checkpoint to run; by default the package's demonstration policy",
    "params_file": "parameters of the nodes; by default the package's config/maskact.yaml",
    "robot_file": "the robot's description; by default the one in the checkpoint",
    "image_topic": "topic of the camera's images; by default as in the robot's description",
    "joint_states_topic": "topic of the joint states; by default as in the robot's description",
    "command_topic": "topic of the commands; by default as in the robot's description",
    "namespace": "namespace of all nodes and topics",
    "sim": "start the simulated robot, too",
    "rviz": "start RViz with the camera, the overlay and the robot, too (ros2 launch only)",
    "autostart": "let the nodes configure and activate themselves",
    "use_sim_time": "take the time from /clock",
    "shared_memory": "use config/fastdds.xml, with shared memory for images, unless you have set another profile",
}


@dataclass(frozen=True, kw_only=True)
class Process:
    """One node to start: an executable of a ROS package, its node name, parameters and remappings."""

    executable: str
    package: str = "maskact_ros"
    name: str = ""
    namespace: str
    params_file: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    remappings: dict[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    stops_within_s: float = 0.0  # how long an arm may need to come to rest before the process ends

    def command(self, folder: Path) -> list[str]:
        """The command that starts one of our executables without `ros2`, with this Python.

        The parameters go into a file in `folder`, as ros2 launch does it. Under the node's full name they override
        every section of `params_file`; the node's own section would override `-p`.
        """
        assert self.package == "maskact_ros"
        ros = ["-r", f"__node:={self.name}", "-r", f"__ns:={self.namespace}"]
        if self.params_file:
            ros += ["--params-file", self.params_file]
        if self.parameters:
            file = folder / f"{self.name}.yaml"
            content = {f"{self.namespace.rstrip('/')}/{self.name}": {"ros__parameters": self.parameters}}
            file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")  # JSON is YAML
            ros += ["--params-file", str(file)]
        for topic, target in self.remappings.items():
            ros += ["-r", f"{topic}:={target}"]
        return [sys.executable, "-m", f"maskact_ros.nodes.{self.executable}", *self.arguments, "--ros-args", *ros]


def processes(arguments: BringupArguments) -> list[Process]:
    """The processes to start, sim_robot first and action_publisher last; raises MaskACTError for wrong arguments."""
    if arguments.expert and not arguments.sim:
        raise BringupError("the expert drives the simulated robot only; start it with sim")
    policy = resolve_path(arguments.policy_path) if arguments.policy_path else demo_policy()
    robot_file = str(resolve_path(arguments.robot_file)) if arguments.robot_file else ""
    params_file = str(resolve_path(arguments.params_file)) if arguments.params_file else ""
    namespace = _namespace(arguments.namespace)
    if params_file:
        if not Path(params_file).is_file():
            raise BringupError(f"params_file is {params_file}; allowed: a file that exists")
        check_params_file(Path(params_file), namespace, NODES)
    checkpoint = CheckpointInfo.read(policy)
    robot = RobotSpec.from_yaml(robot_file) if robot_file else checkpoint.robot
    if arguments.sim and not robot_file:
        differences = RobotSpec.from_yaml(shared("config/robot.yaml")).differences(robot, mine="the simulated one")
        if differences:
            raise BringupError(f"the checkpoint {policy} is for another robot: " + "; ".join(differences))
    topics = {
        "image_raw": _topic("image_topic", arguments.image_topic or robot.only_camera.image_topic),
        "joint_states": _topic("joint_states_topic", arguments.joint_states_topic or robot.joint_states_topic),
        "command": _topic("command_topic", arguments.command_topic or robot.command_topic),
    }
    remappings = {name: topic for name, topic in topics.items() if topic != name}
    # A switch that is not set passes no parameter, so that params_file can set it.
    everywhere: dict[str, Any] = {"use_sim_time": True} if arguments.use_sim_time else {}

    def ours(executable: str, **parameters: Any) -> Process:
        return Process(
            executable=executable,
            name=executable,
            namespace=namespace,
            params_file=params_file or str(shared("config/maskact.yaml")),
            parameters=everywhere | parameters,
            remappings=dict(remappings),
        )

    policy_parameters: dict[str, Any] = {"policy_path": str(policy)}
    if not arguments.autostart:
        policy_parameters["autostart"] = False
    simulated: dict[str, Any] = {"robot_file": robot_file} if robot_file else {}
    policy_parameters |= simulated
    started = []
    if arguments.sim:
        # With use_sim_time it publishes the time for the other nodes.
        clock = {"use_sim_time": False, "publish_clock": arguments.use_sim_time}
        started.append(ours("sim_robot", **simulated, **clock, **arguments.sim_parameters))
    started.append(ours("camera_encoder", **policy_parameters))
    started.append(ours("expert", **simulated) if arguments.expert else ours("inference", **policy_parameters))
    publisher = ours("action_publisher", **policy_parameters, **arguments.publisher_parameters)
    if not arguments.sim:  # a real robot has a robot_state_publisher, usually in the root namespace
        publisher.remappings["robot_description"] = "/robot_description"
    started.append(replace(publisher, stops_within_s=leaving_s(robot)))
    if arguments.rviz:
        started += _viewers(namespace, everywhere, remappings, sim=arguments.sim)
    return started


def demo_policy() -> Path:
    """The shipped policy of the simulated arm."""
    return shared("models/demo")


def environment(*, shared_memory: bool = True) -> dict[str, str]:
    """Environment variables for every process: the Fast DDS profile, if wanted and not set by the user."""
    if not shared_memory or any(variable in os.environ for variable in PROFILE_VARIABLES):
        return {}
    return {PROFILE_VARIABLES[_rclpy_major() < 9]: str(shared("config/fastdds.xml"))}


def consequence(name: str) -> str:
    """What happens to the arm when this node ends."""
    if name == "action_publisher":
        return "no more commands come: the arm stays where its controller holds it"
    return "the action publisher brakes the arm, if it moves, and all nodes end"


def how_ended(code: int) -> str:
    """A process's exit code in words; a negative one is a signal."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _rclpy_major() -> int:
    for distribution in ("ros-rclpy", "rclpy"):  # from the package index, from a ROS distribution
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return int(importlib.metadata.version(distribution).partition(".")[0])
    raise BringupError("rclpy is not installed; source a ROS 2 workspace, or install the extra maskact_ros[ros]")


def _viewers(namespace: str, everywhere: dict[str, Any], remappings: dict[str, str], *, sim: bool) -> list[Process]:
    """RViz, whose configuration has relative topics; for the simulated robot also a robot_state_publisher."""
    if not sim:  # the namespace of a real robot's own robot_state_publisher
        remappings = remappings | {"robot_description": "/robot_description"}
    rviz = Process(
        package="rviz2",
        executable="rviz2",
        name="rviz2",
        namespace=namespace,
        parameters=everywhere,
        remappings=remappings,
        arguments=("-d", str(shared("config/maskact.rviz"))),
    )
    if not sim:
        return [rviz]
    urdf = shared("config/sim_arm.urdf").read_text(encoding="utf-8")
    state_publisher = Process(
        package="robot_state_publisher",
        executable="robot_state_publisher",
        name="robot_state_publisher",
        namespace=namespace,
        parameters=everywhere | {"robot_description": urdf},
        remappings=remappings,
    )
    return [state_publisher, rviz]


def _switch(name: str, text: str) -> bool:
    values = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in values:
        raise BringupError(f"{name} is {text!r}; allowed: true or false")
    return values[text.lower()]


def _topic(name: str, topic: str) -> str:
    if not _ROS_NAME.fullmatch(topic):
        raise BringupError(f"{name} is {topic!r}; allowed: words of letters, digits and _, with / between them")
    return topic


def _namespace(text: str) -> str:
    """The namespace as an absolute name; an empty one is the root."""
    relative = text.strip("/")
    return "/" + (_topic("namespace", relative) if relative else "")
