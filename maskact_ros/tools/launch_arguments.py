"""Checks the names of launch arguments: `ros2 launch` accepts any name, so a misspelt one would have no effect.

In: the command line, and the names in the launch system. Out: an error for a name that is none of ours. If a user's
launch file includes ours it may have names of its own: then only warnings.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from maskact_ros.core.config import unknown_key
from maskact_ros.core.errors import MaskACTError

_PACKAGE = "maskact_ros"
_LAUNCHS_OWN = {"emulate_tty", "launch-prefix", "launch-prefix-filter"}  # arguments that any launch file accepts
_ALIKE = 0.8  # difflib's cutoff: one wrong, missing or doubled letter in a short name


class LaunchArgumentError(MaskACTError):
    """A launch argument that does not exist."""


def check_names(
    command_line: Sequence[str], launch_file: Path, held: Iterable[str], known: Collection[str]
) -> list[str]:
    """Check the names of the arguments of a launch.

    Args:
        command_line: the command line of `ros2 launch`.
        launch_file: our launch file.
        held: every name that has a value in the launch system: ours, and those of a launch file that includes ours.
        known: the names of our arguments.

    Returns:
        A warning for each name that is similar to one of ours, if another launch file includes ours.

    Raises:
        LaunchArgumentError: the command line starts our launch file, with a name that is none of ours.
    """
    words = [word for word in command_line if not word.startswith("-")]
    if not _starts(words, launch_file):
        strange = [name for name in held if name not in known and name not in _LAUNCHS_OWN]
        alike = {name: difflib.get_close_matches(name, known, n=1, cutoff=_ALIKE) for name in strange}
        return [
            f"{name} is no argument of {launch_file.name}; did you mean {close[0]}?"
            for name, close in alike.items()
            if close
        ]
    for word in words:
        name, assigned, _ = word.partition(":=")
        if assigned and name not in known and name not in _LAUNCHS_OWN:
            raise LaunchArgumentError(unknown_key(word, name, dict.fromkeys(known), kind="launch argument"))
    return []


def _starts(words: Sequence[str], launch_file: Path) -> bool:
    """Whether a command line names our launch file, by its package or by its path."""
    if any(pair == (_PACKAGE, launch_file.name) for pair in pairwise(words)):
        return True
    return any(Path(word).name == launch_file.name and _same(Path(word), launch_file) for word in words)


def _same(path: Path, launch_file: Path) -> bool:
    return path.exists() and path.samefile(launch_file)
