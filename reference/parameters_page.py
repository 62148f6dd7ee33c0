"""docs/reference/parameters.md: the parameters of each node, and those of the policy."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import maskact_ros.nodes
from maskact_ros.core.config import NONE, PARAMETERS
from maskact_ros.nodes import expert, sim_robot
from maskact_ros.nodes.command import publisher_parameters
from maskact_ros.nodes.observation import encoder_parameters, planner_parameters
from maskact_ros.nodes.ros.common_parameters import AUTOSTART
from maskact_ros.nodes.ros.params import NodeParameter

_NODES = {
    "camera_encoder": encoder_parameters.PARAMETERS,
    "inference": planner_parameters.PARAMETERS,
    "action_publisher": publisher_parameters.PARAMETERS,
    "sim_robot": sim_robot.PARAMETERS,
    "expert": expert.PARAMETERS,
}
_HEAD = """\
# Parameters

`make reference` writes this page from the declarations in the code. `ros2 run maskact_ros NODE --help` and
`ros2 param describe` show the same. [`config/maskact.yaml`](../../config/maskact.yaml) is a file to copy and change.

A changeable parameter can be set while the node runs. The others are read once, when the node is configured. A value of
a wrong type or out of range is refused; the message names the parameter, the value and what is allowed.
"""
_POLICY_HEAD = """
## The policy

`camera_encoder`, `inference` and `action_publisher` also have the parameters of the MaskACT specification. A parameter
that is left out is as in the checkpoint. The trainer takes the same names, with the defaults below.

| scope | |
|---|---|
| checkpoint | fixed by the trained weights: a node refuses another value |
| training | used by the trainer only |
| runtime | may differ from the checkpoint; `--help` of a node says which are changeable while it runs |
"""
_NODE_COLUMNS = ("name", "type", "default", "unit", "range", "changeable", "meaning")
_POLICY_COLUMNS = ("name", "type", "default", "scope", "allowed", "meaning")


def parameters_page() -> str:
    """The page's text."""
    parts = [_HEAD]
    for name, parameters in _NODES.items():
        parts.append(f"\n## {name}\n\n{_summary(name)}\n")
        parts += _node_tables((AUTOSTART, *parameters))
        if parameters is publisher_parameters.PARAMETERS:
            parts.append(_limits())
    parts.append(_POLICY_HEAD)
    rows: list[Sequence[str]] = []
    for parameter in PARAMETERS.values():
        if parameter.heading:
            parts += [_table(_POLICY_COLUMNS, rows)] if rows else []
            parts.append(f"\n### {parameter.heading}\n")
            rows = []
        default = f"`{_value(parameter.default)}`"
        name, about = f"`{parameter.name}`", parameter.description
        rows.append((name, parameter.type, default, parameter.scope, parameter.allowed, about))
    parts.append(_table(_POLICY_COLUMNS, rows))
    return "".join(parts)


def _node_tables(parameters: Iterable[NodeParameter]) -> Iterable[str]:
    rows: list[Sequence[str]] = []
    for parameter in parameters:
        if parameter.heading:
            yield _table(_NODE_COLUMNS, rows)
            yield f"\n{parameter.heading}:\n"
            rows = []
        default = f"`{parameter.shown_default}`" if parameter.shown_default else "empty"
        changeable = "yes" if parameter.changeable else "no"
        name, about = f"`{parameter.name}`", parameter.description
        rows.append((name, parameter.type, default, parameter.unit, parameter.range, changeable, about))
    yield _table(_NODE_COLUMNS, rows)


def _value(default: Any) -> str:
    """A default as JSON and YAML write it; what the specification calls None is a word there."""
    if default is None:
        return NONE
    return default if isinstance(default, str) else json.dumps(default)


def _limits() -> str:
    rows = [
        (f"`limits.JOINT.{name}`", "double", "the robot's", _joint_unit(about.unit), "", "yes", about.meaning)
        for name, about in publisher_parameters.LIMITS.items()
    ]
    return "\nFor each joint of the robot:\n" + _table(_NODE_COLUMNS, rows)


def _joint_unit(unit: str) -> str:
    return f"{unit.format('rad')} or {unit.format('m')}"


def _summary(node: str) -> str:
    """The docstring of a node's module, read without importing it: that would load torch."""
    file = Path(inspect.getfile(maskact_ros.nodes)).parent / f"{node}.py"
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n" + "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
