"""ros2 launch maskact_ros bringup.launch.py: the three nodes, with the simulated robot and RViz on request.

What runs with which parameters is said in maskact_ros/tools/bringup.py; this hands it to ROS 2's launch system.
"""

from __future__ import annotations

import sys
from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.events.process import ProcessExited
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.logging import get_logger
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.substitutions import ExecutableInPackage

from maskact_ros.nodes.ros.launcher import launcher_variable
from maskact_ros.tools.bringup import (
    DESCRIPTIONS,
    BringupArguments,
    BringupError,
    Process,
    consequence,
    environment,
    how_ended,
    processes,
)
from maskact_ros.tools.launch_arguments import check_names

# Ctrl-C in a terminal reaches the nodes themselves; a SIGINT to `ros2 launch` alone does not, so SIGTERM, which means
# the same to our nodes, follows soon. From then on the action publisher needs at most 2 s to bring the arm to rest; a
# node that is still loading its weights after that is not waited for.
SIGTERM_AFTER_S = "1.0"
SIGKILL_AFTER_S = 3.0  # after SIGTERM


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for."""
    defaults = BringupArguments()
    arguments = [
        DeclareLaunchArgument(name, default_value=_text(getattr(defaults, name)), description=description)
        for name, description in DESCRIPTIONS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_start)])


def _start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    for warning in check_names(sys.argv[1:], Path(__file__), context.launch_configurations, DESCRIPTIONS):
        get_logger("maskact_ros").warning(warning)
    texts = {name: LaunchConfiguration(name).perform(context) for name in DESCRIPTIONS}
    given = BringupArguments.from_texts(texts)
    described = processes(given)
    for process in described:  # a failure after the first start would leave the nodes before it running, unattended
        ExecutableInPackage(package=process.package, executable=process.executable).perform(context)
    variables = [
        SetEnvironmentVariable(name, value) for name, value in environment(shared_memory=given.shared_memory).items()
    ]
    return [*variables, *(_node(process) for process in described)]


def _node(process: Process) -> Node:
    def ended(event: ProcessExited, context: LaunchContext) -> None:
        # An error ends the launch as launch's own Shutdown does, but with an exit code of 1.
        if not context.is_shutdown:
            how = how_ended(event.returncode)
            raise BringupError(f"{process.name} ended by itself ({how}); {consequence(process.name)}")

    ours = process.package == "maskact_ros"
    files = [process.params_file] if process.params_file else []
    return Node(
        package=process.package,
        executable=process.executable,
        name=process.name,
        namespace=process.namespace,
        parameters=[*files, process.parameters],
        remappings=list(process.remappings.items()),
        arguments=list(process.arguments),
        additional_env=launcher_variable() if ours else None,
        output="screen",
        emulate_tty=True,
        sigterm_timeout=SIGTERM_AFTER_S,
        sigkill_timeout=str(max(SIGKILL_AFTER_S, process.stops_within_s + 1.0)),
        on_exit=ended if ours else None,  # RViz may be closed
    )


def _text(default: str | bool) -> str:
    return str(default).lower() if isinstance(default, bool) else default
