"""config/maskact.yaml: the parameters of the policy as comments, then those of each node with their defaults."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from maskact_ros.core.config import PARAMETERS, MaskACTConfig
from maskact_ros.nodes.command import publisher_parameters
from maskact_ros.nodes.observation import encoder_parameters, planner_parameters
from maskact_ros.nodes.ros.common_parameters import SET_BY_BRINGUP
from maskact_ros.nodes.ros.params import NodeParameter

_WIDTH = 110
_NO_BREAK = "\0"
_COMMENTS_AT = 48  # the column of the comments of the policy's parameters
_NODES = {
    "camera_encoder": encoder_parameters.PARAMETERS,
    "inference": planner_parameters.PARAMETERS,
    "action_publisher": publisher_parameters.PARAMETERS,
}
_HEAD = """\
# Parameters of the nodes. Copy this file, change the copy, and give it to bringup: params_file:=/path/to/maskact.yaml
# All values here are the defaults. `make reference` writes this file from the declarations in the code.
#
# Keys: /** is a section for all nodes, /**/NODE for one node in any namespace, /NAMESPACE/NODE for exactly that node.
# Bringup refuses a section that matches none of its nodes.
#
# First come the parameters of the MaskACT specification, with type and default, as comments. A parameter that is left
# out is as in the checkpoint (for the trainer: the default). What the weights fix cannot change: a node refuses a value
# that contradicts its checkpoint. Write none where the specification says None. Write numbers with an exponent with a
# point: 1.0e-4, not 1e-4.
/**:
  ros__parameters:
    use_sim_time: false

"""
_NODES_HEAD = f"""\

# Then come the parameters of each node. The comment above one says what it means and, in brackets, what is allowed, in
# which unit, and whether it is changeable while the node runs. {", ".join(SET_BY_BRINGUP)} are not here: they are
# launch arguments of bringup.
"""
_LIMITS = """\

    # Limits tighter than the robot's own, for a first run. Each is changeable, also while the arm moves.
    # limits:
    #   elbow: {lower: 0.0, upper: 1.5, velocity: 0.5, acceleration: 5.0}  # rad, rad/s, rad/s²
"""


def maskact_yaml() -> str:
    """The file's text."""
    text = _HEAD + _lines(_policy_lines()) + _NODES_HEAD
    sections = [f"/**/{name}:\n  ros__parameters:\n{_lines(_node_lines(own))}" for name, own in _NODES.items()]
    return text + "\n".join(sections) + _LIMITS


def _policy_lines() -> Iterator[str]:
    values = MaskACTConfig().to_parameters()
    for name, parameter in PARAMETERS.items():
        if parameter.heading:
            yield f"    # -- {parameter.heading}"
        inside = {key.partition(".")[2]: value for key, value in values.items() if key.startswith(f"{name}.")}
        entry = f"    # {name}:" if inside else f"    # {name}: {_yaml(values[name])}"
        yield f"{entry:{_COMMENTS_AT}}# {parameter.type}: {parameter.description}"
        yield from (f"    #   {_yaml(key)}: {_yaml(value)}" for key, value in inside.items())


def _node_lines(parameters: Sequence[NodeParameter]) -> Iterator[str]:
    listed = [parameter for parameter in parameters if parameter.name not in SET_BY_BRINGUP]
    for parameter in listed:
        if parameter.heading:
            yield from ([] if parameter is listed[0] else [""])
            yield f"    # -- {parameter.heading}"
        facts = f" [{parameter.facts}]" if parameter.facts else ""
        comment = parameter.description + facts.replace(" ", _NO_BREAK).replace(_NO_BREAK, " ", 1)
        for line in textwrap.wrap(comment, _WIDTH, initial_indent="    # ", subsequent_indent="    # "):
            yield line.replace(_NO_BREAK, " ")
        yield f"    {parameter.name}: {_yaml(parameter.default)}"


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip().replace("'", '"')


def _lines(lines: Iterator[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
