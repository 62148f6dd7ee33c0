"""The text of `ros2 run maskact_ros NODE --help`, from the module's docstring and the declared parameters."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path

from maskact_ros.core.config import PARAMETERS
from maskact_ros.nodes.ros.common_parameters import AUTOSTART
from maskact_ros.nodes.ros.managed import ManagedNode

_WIDTH = 100


def help_text(node_class: type[ManagedNode]) -> str:
    """A node's purpose, topics, services and parameters; ROS need not be initialised."""
    module = inspect.getmodule(node_class)
    assert module is not None
    lines = [
        inspect.cleandoc(module.__doc__ or ""),
        "",
        f"Usage: ros2 run maskact_ros {Path(inspect.getfile(node_class)).stem} --ros-args -p NAME:=VALUE "
        "--params-file FILE -r TOPIC:=TOPIC",
        "",
        "Parameters (changeable: also while the node runs):",
    ]
    for parameter in (AUTOSTART, *module.PARAMETERS):
        facts = f"; {parameter.facts}" if parameter.facts else ""
        default = parameter.shown_default or "empty"
        if parameter.heading:
            lines += ["", f"  -- {parameter.heading}"]
        lines += _entry(f"{parameter.name} (default: {default}{facts})", parameter.description)
    if node_class.CHANGEABLE_SPEC:
        lines += ["", "Parameters of the policy that may change while the node runs (default: as in the checkpoint):"]
        for name, spec in PARAMETERS.items():
            if name in node_class.CHANGEABLE_SPEC:
                lines += _entry(f"{name} ({spec.allowed})", spec.description)
    return "\n".join(lines)


def _entry(title: str, text: str) -> Iterator[str]:
    yield f"  {title}"
    yield from textwrap.wrap(text, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
