"""Checks a parameter file before the nodes start: ROS ignores a section that matches no node, without a message.

In: the file, and the names of the nodes that will read it. Out: an error for the first section that matches none of
them, with the key that would match.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from maskact_ros.core.documents import read_yaml, shortened
from maskact_ros.core.errors import MaskACTError

_PARAMETERS = "ros__parameters"


class ParamsFileError(MaskACTError):
    """A parameter file with a part that would be ignored."""


def check_params_file(file: Path, namespace: str, names: Sequence[str]) -> None:
    """Check that each section of a file matches a node of one of these names in the namespace.

    Raises:
        ParamsFileError: a section that matches none, or a value outside of any `ros__parameters`.
        DocumentError, PathError: the file is no YAML, or cannot be read.
    """
    content = read_yaml(file)
    if content is None:
        return  # an empty file sets no parameter
    example = f"allowed: sections such as /**/{names[-1]}, with {_PARAMETERS} in them"
    if not isinstance(content, Mapping):
        raise ParamsFileError(f"{file}: {_shown(content)} is no section; {example}")
    for section, inside in _sections(file, content, "", example):
        if not isinstance(inside, Mapping):
            is_what = "is empty" if inside is None else f"is {_shown(inside)}"
            raise ParamsFileError(
                f"{file}: {_PARAMETERS} of {section} {is_what}; allowed: names with values, or {{}} for none"
            )
        if not any(_matches(section, f"{namespace.rstrip('/')}/{name}") for name in names):
            raise ParamsFileError(
                f"{file}: the section {section} matches no node in {namespace}, so that ROS would ignore it; "
                + _instead(section, namespace, names)
            )


def _sections(file: Path, level: Mapping[Any, Any], outer: str, example: str) -> Iterator[tuple[str, Any]]:
    """Each section's key, joined as ROS joins nested keys, with the content of its `ros__parameters`."""
    for key, value in level.items():
        name = f"{outer}{'' if not outer or outer.endswith('/') else '/'}{key}"
        if key == _PARAMETERS:
            if not outer:
                raise ParamsFileError(f"{file}: {_PARAMETERS} stands in no section; {example}")
            yield outer, value
        elif isinstance(value, Mapping):
            yield from _sections(file, value, name, example)
        elif value is None and not outer:
            raise ParamsFileError(f"{file}: the section {name} is empty; allowed: {_PARAMETERS} in it, or no section")
        elif difflib.get_close_matches(outer.rpartition("/")[2], [_PARAMETERS], cutoff=0.8):
            section, _, misspelt = outer.rpartition("/")
            raise ParamsFileError(f"{file}: {section} has {misspelt}; did you mean {_PARAMETERS}?")
        else:
            where = f" of {outer}" if outer else ""
            stray = f"{key} (value {_shown(value)}) stands outside of any {_PARAMETERS}{where}"
            raise ParamsFileError(f"{file}: {stray}; {example}")


def _matches(section: str, full_name: str) -> bool:
    """Whether ROS gives a section's parameters to a node: /* stands for one word, /** for any number of them."""
    pattern = re.escape(section if section.startswith("/") else f"/{section}")
    pattern = pattern.replace(r"/\*\*", r"(/\w+)*").replace(r"/\*", r"/\w+")
    return re.fullmatch(pattern, full_name, re.ASCII) is not None


def _instead(section: str, namespace: str, names: Sequence[str]) -> str:
    """What to write for a section that matches none of the names."""
    last = section.rpartition("/")[2]
    close = ["**"] if set(last) == {"*"} else difflib.get_close_matches(last, names, n=1)
    if not close:
        return "its nodes are " + ", ".join(names)
    everywhere = "/**" if close == ["**"] else f"/**/{close[0]}"
    return f"write {everywhere} or {namespace.rstrip('/')}/{close[0]}"


def _shown(value: Any) -> str:
    return shortened(repr(value))
